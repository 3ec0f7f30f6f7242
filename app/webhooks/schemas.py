"""Webhook endpoints and their messages, as clients write and read them."""

import base64
import datetime as dt
import uuid
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from app.request_body import RequestBody
from app.tables import WebhookEndpoint, WebhookMessage
from app.tables.webhook_endpoint import MessageFormat, Subscription

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with


class WebhookCreate(RequestBody):
    """An address that shall be told what becomes of forget requests."""

    url: str = Field(
        min_length=1,
        max_length=1000,
        description="`https://…`; it must lead to a public address and must not redirect.",
    )
    description: str | None = Field(None, min_length=1, max_length=200)
    subscription: Subscription = Field(
        Subscription.ALL,
        description="`all`: every request of its models; `callbacks`: those that name it as `callback_url`.",
    )
    models: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Names of the models it may hear of; null for every one.",
    )


class WebhookRead(BaseModel):
    """An endpoint as it stands; its secret is not shown again."""

    id: uuid.UUID
    url: str
    format: MessageFormat = Field(description="`standard`: Standard Webhooks; `opendsr`: OpenDSR callbacks.")
    description: str | None
    subscription: Subscription
    models: list[str] | None
    disabled_at: dt.datetime | None = Field(description="Since when nothing is sent to it.")
    disabled_reason: str | None
    created_at: dt.datetime

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        """Show a row of the table."""
        return cls(**_shown(endpoint))


class WebhookCreated(WebhookRead):
    """An endpoint with the secret that its receiver verifies messages with."""

    secret: str = Field(
        description="Shown here alone; `whsec_` and base64, as Standard Webhooks' libraries take it."
    )

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        """Show a row of the table, secret included."""
        secret = SECRET_PREFIX + base64.b64encode(endpoint.secret).decode()
        return cls(**_shown(endpoint), secret=secret)


class WebhookPage(BaseModel):
    """One page of endpoints, newest first."""

    items: list[WebhookRead]
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")


class MessageRead(BaseModel):
    """A message and how its delivery stands."""

    id: uuid.UUID
    type: str
    payload: dict[str, Any] = Field(description="What is sent; it names no target.")
    attempts: int
    next_attempt_at: dt.datetime | None = Field(description="Null once it was delivered or given up.")
    delivered_at: dt.datetime | None
    last_status: int | None = Field(description="HTTP status of the last answer.")
    last_error: str | None = Field(description="Why the last attempt does not count as delivered.")
    created_at: dt.datetime

    @classmethod
    def of(cls, message: WebhookMessage) -> Self:
        """Show a row of the table."""
        return cls(
            id=message.id,
            type=message.type,
            payload=message.payload,
            attempts=message.attempts,
            next_attempt_at=message.next_attempt_at,
            delivered_at=message.delivered_at,
            last_status=message.last_status,
            last_error=message.last_error,
            created_at=message.created_at,
        )


class MessagePage(BaseModel):
    """One page of messages, newest first."""

    items: list[MessageRead]
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")


def _shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "format": endpoint.format,
        "description": endpoint.description,
        "subscription": endpoint.subscription,
        "models": endpoint.models,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "created_at": endpoint.created_at,
    }
