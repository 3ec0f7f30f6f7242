"""`/v1/audits`: the service as an independent auditor."""

import json
import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.audits import service
from app.audits.intake import judge_upload
from app.audits.schemas import AuditCreate, AuditPage, AuditRead, AuditUpload, Filters
from app.call import CallDep
from app.errors import problem_responses
from app.intake import parse_metadata, process, receive, request_body
from app.paging import CursorDep, Limit, link_next
from app.reports.answer import PAGE, VARY, page_response, wants_page
from app.reports.service import sheet_of_audit
from app.trust.scopes import Scope

router = APIRouter(prefix="/audits", tags=["audits"])


@router.post(
    "",
    summary="Judge a version or a checkpoint",
    status_code=202,
    response_model=AuditRead,
    responses=problem_responses(400, 409, 413, 415),
    openapi_extra=request_body(AuditUpload, AuditCreate),
)
async def create(call: CallDep, request: Request) -> Response:
    """Queue an audit of what a model is said to have forgotten.

    Name a version as `candidate`, or send a checkpoint that somebody else's tool has made: uploaded as
    `multipart/form-data`, or imported from a `uri`. Nothing is published, and forgetting goes on meanwhile.
    """
    if await _names_candidate(request):
        body = parse_metadata(AuditCreate, await request.body())
        return await run_in_threadpool(
            call.post, Scope.MODELS_WRITE, lambda work: service.queue(work, body, None)
        )
    async with receive(call, request, AuditUpload, Scope.MODELS_WRITE) as parcel:
        return await process(call, parcel, judge_upload)


@router.get("", summary="List audits")
def list_audits(
    call: CallDep,
    request: Request,
    response: Response,
    filters: Annotated[Filters, Depends()],
    cursor: CursorDep,
    limit: Limit = 50,
) -> AuditPage:
    """Answer the audits of the models that the key may see, newest first, without their measurements."""
    with call.read(Scope.MODELS_READ) as work:
        page = service.list_page(work, filters, cursor, limit)
    following = link_next(request, response, cursor=page.next.encode()) if page.next is not None else None
    return AuditPage(items=list(page.rows), next=following)


@router.get(
    "/{audit_id}",
    summary="Show an audit",
    response_model=AuditRead,
    responses=PAGE | problem_responses(404, 501),
)
def show(call: CallDep, request: Request, response: Response, audit_id: uuid.UUID) -> AuditRead | Response:
    """Answer where an audit stands and, once it was judged, everything that was measured.

    As JSON, or as a page for people under `Accept: text/html`.
    """
    with call.read(Scope.MODELS_READ) as work:
        found = service.find(work, audit_id)
        audit, sheet = AuditRead.of(*found), sheet_of_audit(*found)
    if wants_page(request):
        return page_response(call.runtime, sheet)
    response.headers.update(VARY)
    return audit


async def _names_candidate(request: Request) -> bool:
    """Tell whether a JSON body means a version: one that brings a checkpoint says where it is to be had."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return False
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        return False  # the other way refuses it in due form
    return isinstance(body, dict) and body.get("uri") is None
