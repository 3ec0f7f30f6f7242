"""`/v1/webhooks`: addresses that are told what becomes of forget requests, and what was sent to them.

Messages follow Standard Webhooks: the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, verified
by the libraries of https://www.standardwebhooks.com with the endpoint's secret.
"""

import uuid

from fastapi import APIRouter, Request, Response

from app.call import CallDep
from app.errors import problem_responses
from app.paging import CursorDep, Limit, link_next
from app.trust.scopes import Scope
from app.webhooks import service
from app.webhooks.schemas import (
    MessagePage,
    MessageRead,
    WebhookCreate,
    WebhookCreated,
    WebhookPage,
    WebhookRead,
)

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

POSTED = problem_responses(400, 404, 409, 413)


@router.post(
    "",
    summary="Register a webhook endpoint",
    status_code=201,
    response_model=WebhookCreated,
    responses=problem_responses(400, 409, 413),
)
def create(call: CallDep, body: WebhookCreate) -> Response:
    """Register an address. It is told whenever a request of its models changes its state."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.create(work, body))


@router.get("", summary="List webhook endpoints")
def list_webhooks(
    call: CallDep, request: Request, response: Response, cursor: CursorDep, limit: Limit = 50
) -> WebhookPage:
    """Answer the endpoints that hear of no model but those that the key may see, newest first."""
    with call.read(Scope.REQUESTS_READ) as work:
        page = service.list_page(work, cursor, limit)
    following = link_next(request, response, cursor=page.next.encode()) if page.next is not None else None
    return WebhookPage(items=list(page.rows), next=following)


@router.get("/{webhook_id}", summary="Show a webhook endpoint", responses=problem_responses(404))
def show(call: CallDep, webhook_id: uuid.UUID) -> WebhookRead:
    """Answer an endpoint, its secret left out."""
    with call.read(Scope.REQUESTS_READ) as work:
        return service.show(work, webhook_id)


@router.delete(
    "/{webhook_id}",
    summary="Delete a webhook endpoint",
    status_code=204,
    response_class=Response,
    responses=problem_responses(404),
)
def delete(call: CallDep, webhook_id: uuid.UUID) -> Response:
    """Forget an address and its secret; messages that wait for it are given up."""
    call.change(Scope.REQUESTS_WRITE, lambda work: service.delete(work, webhook_id))
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/enable",
    summary="Enable a webhook endpoint",
    response_model=WebhookRead,
    responses=POSTED,
)
def enable(call: CallDep, webhook_id: uuid.UUID) -> Response:
    """Send to an endpoint again that was disabled, as one is that answers 410 Gone."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.enable(work, webhook_id))


@router.post(
    "/{webhook_id}/rotate-secret",
    summary="Rotate a webhook endpoint's secret",
    response_model=WebhookCreated,
    responses=POSTED,
)
def rotate(call: CallDep, webhook_id: uuid.UUID) -> Response:
    """Answer a new secret. For a day messages are signed with both."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.rotate(work, webhook_id))


@router.get(
    "/{webhook_id}/messages", summary="List a webhook endpoint's messages", responses=problem_responses(404)
)
def list_messages(
    call: CallDep,
    request: Request,
    response: Response,
    webhook_id: uuid.UUID,
    cursor: CursorDep,
    limit: Limit = 50,
) -> MessagePage:
    """Answer what was sent or waits to be sent, newest first."""
    with call.read(Scope.REQUESTS_READ) as work:
        page = service.messages(work, webhook_id, cursor, limit)
    following = link_next(request, response, cursor=page.next.encode()) if page.next is not None else None
    return MessagePage(items=list(page.rows), next=following)


@router.post(
    "/{webhook_id}/messages/{message_id}/resend",
    summary="Send a webhook message again",
    status_code=202,
    response_model=MessageRead,
    responses=POSTED,
)
def resend(call: CallDep, webhook_id: uuid.UUID, message_id: uuid.UUID) -> Response:
    """Queue a message again that was delivered or given up; it keeps its `webhook-id`."""
    return call.post(Scope.REQUESTS_WRITE, lambda work: service.resend(work, webhook_id, message_id))
