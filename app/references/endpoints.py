"""`/v1/models/{name}/references`: models trained only for audits to compare with."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.call import CallDep
from app.errors import problem_responses
from app.jobs.schemas import JobRead
from app.paging import CursorDep, Limit, link_next
from app.references import repository, service
from app.references.schemas import ReferencePage, ReferenceRead, ReferencesCreate
from app.registry.service import readable_model
from app.request_body import StorableText
from app.trust.scopes import Scope

router = APIRouter(prefix="/models", tags=["references"])

ModelName = Annotated[StorableText, Path(max_length=128, description="The model's name.")]


@router.post(
    "/{name}/references",
    summary="Train references ahead of time",
    status_code=202,
    response_model=JobRead,
    responses=problem_responses(400, 404, 409, 413),
)
def create(call: CallDep, name: ModelName, body: ReferencesCreate) -> Response:
    """Queue a job of the lowest priority; it gives way to all other work and keeps each reference it has finished."""
    return call.post(Scope.MODELS_WRITE, lambda work: service.queue(work, name, body))


@router.get("/{name}/references", summary="List a model's references", responses=problem_responses(404))
def list_references(
    call: CallDep,
    request: Request,
    response: Response,
    name: ModelName,
    cursor: CursorDep,
    limit: Limit = 50,
) -> ReferencePage:
    """Answer what was trained for a model's audits, newest first, those that are destroyed included."""
    with call.read(Scope.MODELS_READ) as work:
        page = repository.page(work.session, readable_model(work, name), cursor, limit)
    following = link_next(request, response, cursor=page.next.encode()) if page.next is not None else None
    return ReferencePage(items=[ReferenceRead.of(row) for row in page.rows], next=following)
