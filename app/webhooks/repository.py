"""SQL of webhook endpoints and their messages."""

import datetime as dt
import uuid

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.paging import Cursor, Page, page_of
from app.tables import WebhookEndpoint, WebhookMessage
from app.tables.webhook_endpoint import MessageFormat


def find(session: Session, endpoint_id: uuid.UUID, models: frozenset[str] | None) -> WebhookEndpoint | None:
    """Return an endpoint, None where there is none for a key limited to `models`."""
    endpoint = session.scalars(
        select(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.deleted_at.is_(None))
        .with_for_update()
    ).one_or_none()
    return endpoint if endpoint is not None and is_visible(endpoint, models) else None


def find_by_url(
    session: Session, url: str, message_format: MessageFormat = MessageFormat.STANDARD
) -> WebhookEndpoint | None:
    """Return the endpoint of an address, None where there is none."""
    return session.scalars(
        select(WebhookEndpoint).where(
            WebhookEndpoint.url == url,
            WebhookEndpoint.format == message_format,
            WebhookEndpoint.deleted_at.is_(None),
        )
    ).one_or_none()


def is_visible(endpoint: WebhookEndpoint, models: frozenset[str] | None) -> bool:
    """Tell whether a key limited to `models` may see and change an endpoint: one that hears of no other model."""
    return models is None or (endpoint.models is not None and models.issuperset(endpoint.models))


def page(
    session: Session, models: frozenset[str] | None, cursor: Cursor | None, limit: int
) -> Page[WebhookEndpoint]:
    """Return one page of the endpoints that a key limited to `models` may see, newest first."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.deleted_at.is_(None))
    if models is not None:
        rows = session.scalars(query.where(WebhookEndpoint.models.is_not(None)))
        query = query.where(WebhookEndpoint.id.in_([row.id for row in rows if is_visible(row, models)]))
    return page_of(session, query, (WebhookEndpoint.created_at, WebhookEndpoint.id), cursor, limit)


def messages(
    session: Session, endpoint: WebhookEndpoint, cursor: Cursor | None, limit: int
) -> Page[WebhookMessage]:
    """Return one page of an endpoint's messages, newest first."""
    query = select(WebhookMessage).where(WebhookMessage.endpoint_id == endpoint.id)
    return page_of(session, query, (WebhookMessage.created_at, WebhookMessage.id), cursor, limit)


def find_message(session: Session, endpoint: WebhookEndpoint, message_id: uuid.UUID) -> WebhookMessage | None:
    """Lock and return one of an endpoint's messages, None where it has no such one."""
    return session.scalars(
        select(WebhookMessage)
        .where(WebhookMessage.id == message_id, WebhookMessage.endpoint_id == endpoint.id)
        .with_for_update()
    ).one_or_none()


def disable(session: Session, endpoint_id: uuid.UUID, reason: str, now: dt.datetime) -> None:
    """Stop sending to an endpoint; what waits for it is given up."""
    session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.disabled_at.is_(None))
        .values(disabled_at=now, disabled_reason=reason)
    )
    session.execute(
        update(WebhookMessage)
        .where(WebhookMessage.endpoint_id == endpoint_id, WebhookMessage.next_attempt_at.is_not(None))
        .values(next_attempt_at=None)
    )
