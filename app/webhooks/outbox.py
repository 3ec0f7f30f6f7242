"""The outbox: messages are rows, written in the transaction of what they tell, so neither goes without the other."""

import datetime as dt
import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.opendsr.callbacks import callbacks
from app.tables import ForgetRequest, Model, WebhookEndpoint, WebhookMessage
from app.tables.webhook_endpoint import MessageFormat, Subscription


def announce(session: Session, requests: Sequence[ForgetRequest], what: str, now: dt.datetime) -> None:
    """Write a message `forget_request.{what}` about each request, for every endpoint that shall hear of it.

    The message says how the request stands and never names its target.
    """
    session.add_all(callbacks(session, requests, now))
    endpoints = session.scalars(
        select(WebhookEndpoint).where(
            WebhookEndpoint.format == MessageFormat.STANDARD,
            WebhookEndpoint.deleted_at.is_(None),
            WebhookEndpoint.disabled_at.is_(None),
        )
    ).all()
    if not endpoints or not requests:
        return
    names = _model_names(session, requests)
    session.add_all(
        WebhookMessage(
            endpoint_id=endpoint.id,
            type=f"forget_request.{what}",
            payload=_payload(request, names[request.model_id], what, now),
            next_attempt_at=now,
            created_at=now,
        )
        for request in requests
        for endpoint in endpoints
        if _hears_of(endpoint, request, names[request.model_id])
    )


def _hears_of(endpoint: WebhookEndpoint, request: ForgetRequest, model: str) -> bool:
    if endpoint.models is not None and model not in endpoint.models:
        return False
    return endpoint.subscription is Subscription.ALL or request.webhook_endpoint_id == endpoint.id


def _model_names(session: Session, requests: Sequence[ForgetRequest]) -> dict[uuid.UUID, str]:
    ids = {request.model_id for request in requests}
    return dict(session.execute(select(Model.id, Model.name).where(Model.id.in_(ids))).all())


def _payload(request: ForgetRequest, model: str, what: str, now: dt.datetime) -> dict[str, object]:
    return {
        "type": f"forget_request.{what}",
        "timestamp": now.isoformat(),
        "data": {
            "id": str(request.id),
            "model": model,
            "status": request.status.value,
            "reason": request.reason,
            "reference": request.reference,
            "version": request.version,
            "due_at": request.due_at.isoformat(),
        },
    }
