"""`/v1/jobs`, and `/v1/models/{name}/updates`, which makes some of them."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from app.call import CallDep
from app.errors import problem_responses
from app.jobs import service
from app.jobs.schemas import Filters, JobPage, JobRead
from app.paging import CursorDep, Limit, link_next
from app.request_body import StorableText
from app.trust.scopes import Scope

router = APIRouter(tags=["jobs"])

POSTED = problem_responses(404, 409, 413)


@router.get("/jobs", summary="List jobs")
def list_jobs(
    call: CallDep,
    request: Request,
    response: Response,
    filters: Annotated[Filters, Depends()],
    cursor: CursorDep,
    limit: Limit = 50,
) -> JobPage:
    """Answer the jobs of the models that the key may see, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        page = service.list_page(work, filters, cursor, limit)
    following = link_next(request, response, cursor=page.next.encode()) if page.next is not None else None
    return JobPage(items=list(page.rows), next=following)


@router.get("/jobs/{job_id}", summary="Show a job", responses=problem_responses(404))
def show(call: CallDep, job_id: uuid.UUID) -> JobRead:
    """Answer a job's plan, progress and measurements."""
    with call.read(Scope.MODELS_READ) as work:
        return service.show(work, job_id)


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    response_model=JobRead,
    responses={202: {"model": JobRead, "description": "Its worker is being stopped."}, **POSTED},
)
def cancel(call: CallDep, job_id: uuid.UUID) -> Response:
    """Cancel a job that waits, or ask for the end of one that runs: then the answer is 202.

    Jobs that serve forget requests are not cancelled themselves, but their requests.
    """
    return call.post(Scope.MODELS_WRITE, lambda work: service.cancel(work, job_id))


@router.post(
    "/models/{name}/updates",
    summary="Bring a model to its dataset's head",
    status_code=202,
    response_model=JobRead,
    responses=POSTED,
)
def update(call: CallDep, name: Annotated[StorableText, Path(max_length=128)]) -> Response:
    """Queue a job that learns what the dataset's head holds and unlearns what it no longer holds."""
    return call.post(Scope.MODELS_WRITE, lambda work: service.queue_update(work, name))
