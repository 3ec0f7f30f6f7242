"""Status callbacks (OpenDSR, section 8.6): messages of the outbox like any other."""

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.opendsr.status import status_of
from app.tables import ForgetRequest, OpenDsrRequest, WebhookEndpoint, WebhookMessage

TYPE = "opendsr.status"


def callbacks(
    session: Session, changed: Iterable[ForgetRequest], now: dt.datetime
) -> Iterator[WebhookMessage]:
    """Yield a message for each callback address of each OpenDSR request that a changed forget request serves."""
    ids = {request.opendsr_request_id for request in changed} - {None}
    if not ids:
        return
    for request in session.scalars(
        select(OpenDsrRequest).where(OpenDsrRequest.subject_request_id.in_(ids))
    ).all():
        served = served_by(session, request)
        for endpoint in _endpoints(session, request):
            yield WebhookMessage(
                endpoint_id=endpoint.id,
                type=TYPE,
                payload=_payload(request, served, endpoint.url),
                next_attempt_at=now,
                created_at=now,
            )


def served_by(session: Session, request: OpenDsrRequest) -> Sequence[ForgetRequest]:
    """Return the forget requests that an OpenDSR request became, one per model."""
    return session.scalars(
        select(ForgetRequest)
        .where(ForgetRequest.opendsr_request_id == request.subject_request_id)
        .order_by(ForgetRequest.created_at, ForgetRequest.id)
    ).all()


def expected_completion(served: Sequence[ForgetRequest]) -> dt.datetime:
    """Return when the last of them is due."""
    return max(one.due_at for one in served)


def _endpoints(session: Session, request: OpenDsrRequest) -> Sequence[WebhookEndpoint]:
    ids = [uuid.UUID(endpoint) for endpoint in request.callback_endpoints]
    return session.scalars(
        select(WebhookEndpoint).where(
            WebhookEndpoint.id.in_(ids),
            WebhookEndpoint.deleted_at.is_(None),
            WebhookEndpoint.disabled_at.is_(None),
        )
    ).all()


def _payload(request: OpenDsrRequest, served: Sequence[ForgetRequest], url: str) -> dict[str, Any]:
    return {
        "controller_id": str(request.api_key_id),
        "subject_request_id": str(request.subject_request_id),
        "status_callback_url": url,
        "request_status": status_of([one.status for one in served]),
        "expected_completion_time": expected_completion(served).isoformat(),
    }
