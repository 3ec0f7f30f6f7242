"""Decisions about webhooks. Nothing here commits."""

import datetime as dt
import ipaddress
import secrets
import uuid

from sqlalchemy.exc import IntegrityError

from app.call import Answer, ScopeMissingError, Work
from app.paging import Cursor, Page
from app.tables import WebhookEndpoint
from app.tables.base import new_id
from app.tables.webhook_endpoint import MessageFormat
from app.trust.scopes import Scope
from app.webhooks import repository
from app.webhooks.address import check_url
from app.webhooks.errors import (
    MessageNotFoundError,
    NoSecretError,
    UnknownCallbackError,
    WebhookDisabledError,
    WebhookExistsError,
    WebhookNotFoundError,
)
from app.webhooks.schemas import MessageRead, WebhookCreate, WebhookCreated, WebhookRead

SECRET_BYTES = 32
OVERLAP = dt.timedelta(hours=24)
"""How long the secret before a rotation still signs, so that receivers can change over at leisure."""


def create(work: Work, body: WebhookCreate) -> Answer:
    """Register an address; the answer alone holds its secret."""
    allowed = work.caller.models
    if allowed is not None and not (body.models is not None and allowed.issuperset(body.models)):
        raise ScopeMissingError(Scope.REQUESTS_WRITE, "*")
    networks = work.runtime.settings.webhook_allowed_networks
    check_url(body.url, [ipaddress.ip_network(network) for network in networks])
    endpoint = WebhookEndpoint(
        id=new_id(),
        api_key_id=work.caller.key_id,
        url=body.url,
        format=MessageFormat.STANDARD,
        description=body.description,
        subscription=body.subscription,
        models=body.models,
        secret=secrets.token_bytes(SECRET_BYTES),
        created_at=work.now,
    )
    if repository.find_by_url(work.session, body.url) is not None:
        raise WebhookExistsError(body.url)
    work.session.add(endpoint)
    try:
        work.session.flush()
    except IntegrityError:  # somebody else registered it between the look and the insertion
        raise WebhookExistsError(body.url) from None
    return Answer(WebhookCreated.of(endpoint), 201, location=f"/v1/webhooks/{endpoint.id}")


def show(work: Work, endpoint_id: uuid.UUID) -> WebhookRead:
    """Show one endpoint that the key may see."""
    return WebhookRead.of(_visible(work, endpoint_id))


def list_page(work: Work, cursor: Cursor | None, limit: int) -> Page[WebhookRead]:
    """List the endpoints that the key may see, newest first."""
    page = repository.page(work.session, work.caller.models, cursor, limit)
    return Page([WebhookRead.of(endpoint) for endpoint in page.rows], page.next)


def delete(work: Work, endpoint_id: uuid.UUID) -> None:
    """Forget an address and its secret; what waits for it is given up."""
    endpoint = _visible(work, endpoint_id)
    repository.disable(work.session, endpoint.id, "A client deleted it.", work.now)
    endpoint.deleted_at = work.now
    endpoint.secret, endpoint.previous_secret = b"", None


def enable(work: Work, endpoint_id: uuid.UUID) -> Answer:
    """Send to a disabled endpoint again: what happens from now on."""
    endpoint = _visible(work, endpoint_id)
    endpoint.disabled_at = endpoint.disabled_reason = None
    return Answer(WebhookRead.of(endpoint), 200)


def rotate(work: Work, endpoint_id: uuid.UUID) -> Answer:
    """Give an endpoint a new secret; for a day both sign."""
    endpoint = _visible(work, endpoint_id)
    if endpoint.format is not MessageFormat.STANDARD:
        raise NoSecretError(endpoint_id)
    endpoint.previous_secret, endpoint.previous_secret_until = endpoint.secret, work.now + OVERLAP
    endpoint.secret = secrets.token_bytes(SECRET_BYTES)
    return Answer(WebhookCreated.of(endpoint), 200)


def messages(work: Work, endpoint_id: uuid.UUID, cursor: Cursor | None, limit: int) -> Page[MessageRead]:
    """List an endpoint's messages, newest first."""
    page = repository.messages(work.session, _visible(work, endpoint_id), cursor, limit)
    return Page([MessageRead.of(message) for message in page.rows], page.next)


def resend(work: Work, endpoint_id: uuid.UUID, message_id: uuid.UUID) -> Answer:
    """Queue a message again, delivered or given up, as if it were new."""
    endpoint = _visible(work, endpoint_id)
    if endpoint.disabled_at is not None:
        raise WebhookDisabledError(endpoint_id)
    message = repository.find_message(work.session, endpoint, message_id)
    if message is None:
        raise MessageNotFoundError(message_id)
    message.attempts, message.next_attempt_at, message.delivered_at = 0, work.now, None
    return Answer(MessageRead.of(message), 202)


def callback_endpoint(work: Work, url: str, model: str) -> uuid.UUID:
    """Return the endpoint that a request's `callback_url` names.

    Raises:
        UnknownCallbackError: There is none that the key may use for this model, or it is disabled.
    """
    endpoint = repository.find_by_url(work.session, url)
    if (
        endpoint is None
        or endpoint.disabled_at is not None
        or not repository.is_visible(endpoint, work.caller.models)
        or (endpoint.models is not None and model not in endpoint.models)
    ):
        raise UnknownCallbackError(url, model)
    return endpoint.id


def _visible(work: Work, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    endpoint = repository.find(work.session, endpoint_id, work.caller.models)
    if endpoint is None:
        raise WebhookNotFoundError(endpoint_id)
    return endpoint
