"""`/v1/forget-requests`: submitting requests, following them, and what a person can do about them."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from app.call import CallDep
from app.errors import problem_responses
from app.forget_requests import certificates, service
from app.forget_requests.events import MEDIA_TYPE, EventStream
from app.forget_requests.repository import MODEL_STATE_LOOKUP
from app.forget_requests.schemas import (
    EventPage,
    EventRead,
    ExtendCreate,
    Filters,
    ForgetRequestCreate,
    ForgetRequestList,
    ForgetRequestPage,
    ForgetRequestRead,
    RefuseCreate,
    RetryCreate,
    ReviewCreate,
)
from app.forget_requests.states import FINAL
from app.paging import CursorDep, Limit, link_next
from app.trust.certificates.bundle import MEDIA_TYPE as CERTIFICATE
from app.trust.scopes import Scope

router = APIRouter(prefix="/forget-requests", tags=["forget requests"])

MAX_EVENT_ID = (1 << 63) - 1

POSTED = problem_responses(400, 404, 409, 413)


@router.post(
    "",
    summary="Submit a forget request",
    status_code=202,
    response_model=ForgetRequestRead | ForgetRequestList,
    responses=problem_responses(400, 413),
)
def submit(call: CallDep, body: ForgetRequestCreate) -> Response:
    """Check and store a request; a worker will serve it. For every model of a dataset: one request each."""
    return call.post(
        Scope.REQUESTS_WRITE,
        lambda work: service.submit(work, body),
        MODEL_STATE_LOOKUP,
        model_name=body.model,
        appends=True,
    )


@router.get("", summary="List forget requests")
def list_requests(
    call: CallDep,
    request: Request,
    response: Response,
    filters: Annotated[Filters, Depends()],
    cursor: CursorDep,
    limit: Limit = 50,
) -> ForgetRequestPage:
    """Answer the requests of the models that the key may see, newest first."""
    with call.read(Scope.REQUESTS_READ) as work:
        page = service.list_page(work, filters, cursor, limit)
    following = link_next(request, response, cursor=page.next.encode()) if page.next is not None else None
    return ForgetRequestPage(items=list(page.rows), next=following)


@router.get("/{request_id}", summary="Show a forget request", responses=problem_responses(404))
def show(call: CallDep, request_id: uuid.UUID) -> ForgetRequestRead:
    """Answer where a request stands, and why."""
    with call.read(Scope.REQUESTS_READ) as work:
        return service.show(work, request_id)


@router.post(
    "/{request_id}/cancel",
    summary="Cancel a forget request",
    response_model=ForgetRequestRead,
    responses={202: {"model": ForgetRequestRead, "description": "Its worker is being stopped."}, **POSTED},
)
def cancel(call: CallDep, request_id: uuid.UUID) -> Response:
    """Cancel a request that waits, or ask for the end of one that runs: then the answer is 202."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.cancel(work, request_id))


@router.post(
    "/{request_id}/retry",
    summary="Try a forget request again",
    status_code=202,
    response_model=ForgetRequestRead,
    responses=POSTED,
)
def retry(call: CallDep, request_id: uuid.UUID, body: RetryCreate) -> Response:
    """Put a request that failed, or that needs review, back into the queue, as it was or changed."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.retry(work, request_id, body))


@router.post(
    "/{request_id}/review",
    summary="Accept a candidate whose audit did not pass",
    response_model=ForgetRequestRead,
    responses={**POSTED, **problem_responses(503)},
)
def review(call: CallDep, request_id: uuid.UUID, body: ReviewCreate) -> Response:
    """Publish the candidate that was kept, and complete every request that its job served.

    It takes the scope `models:write` as well, since a version is published.
    """
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.review(work, request_id, body))


@router.post(
    "/{request_id}/extend",
    summary="Put a forget request's due date off",
    response_model=ForgetRequestRead,
    responses=POSTED,
)
def extend(call: CallDep, request_id: uuid.UUID, body: ExtendCreate) -> Response:
    """Put an open request's due date off by two months, once (GDPR Art. 12(3)), for a reason that is kept."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.extend(work, request_id, body))


@router.post(
    "/{request_id}/refuse",
    summary="Refuse a forget request",
    response_model=ForgetRequestRead,
    responses=POSTED,
)
def refuse(call: CallDep, request_id: uuid.UUID, body: RefuseCreate) -> Response:
    """Refuse a request that waits for a worker or a person. One that runs has to be cancelled instead."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.refuse(work, request_id, body))


@router.get(
    "/{request_id}/certificate",
    summary="Download the certificate",
    response_class=Response,
    responses={
        200: {"content": {CERTIFICATE: {"schema": {"type": "object"}}}},
        **problem_responses(404, 503),
    },
)
def certificate(call: CallDep, request_id: uuid.UUID) -> Response:
    """Answer the signed statement, its place in the transparency log and the proof of that, for `expunge verify`.

    Keep it byte for byte: it is canonical JSON, and any change makes verification fail.
    """
    with call.read(Scope.REQUESTS_READ) as work:
        content = certificates.certificate(work, request_id)
    return Response(content, media_type=CERTIFICATE)


@router.get(
    "/{request_id}/events",
    summary="Read or follow a forget request's history",
    response_model=EventPage,
    responses={
        200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
        204: {"description": "Nothing will follow the event that `Last-Event-ID` names."},
        **problem_responses(404, 503),
    },
)
def events(
    call: CallDep,
    request: Request,
    response: Response,
    request_id: uuid.UUID,
    accept: Annotated[str, Header(description=f"`{MEDIA_TYPE}` for a stream.")] = "application/json",
    after: Annotated[int, Query(ge=0, le=MAX_EVENT_ID, description="Only events after this one.")] = 0,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=MAX_EVENT_ID, description="What a stream goes on from; beats `after`.")
    ] = None,
    limit: Limit = 500,
) -> EventPage | Response:
    """Answer the events of a request and of the job that serves it, the oldest first.

    As a stream, events are sent as they happen. It ends once nothing more will happen by itself: the request is
    completed, refused, cancelled, failed, or waits for a person; or else after a quarter of an hour. Reconnect
    with `Last-Event-ID` to go on; the answer 204 says that there is nothing to go on with.
    """
    start = last_event_id if last_event_id is not None else after
    with call.read(Scope.REQUESTS_READ) as work:
        history = service.history(work, request_id, start, limit)
    if MEDIA_TYPE not in accept:
        following = link_next(request, response, after=history.events[-1].id) if history.more else None
        return EventPage(items=[EventRead.of(event) for event in history.events], next=following)
    if last_event_id is not None and history.status in FINAL and not history.events:
        return Response(status_code=204)  # tells a browser's EventSource not to come back
    return EventStream(call.runtime, request_id, start)
