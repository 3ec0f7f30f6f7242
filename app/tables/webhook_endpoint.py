"""Webhook endpoints: addresses that are told what becomes of forget requests."""

import datetime as dt
import enum
import uuid

from sqlalchemy import ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id, string_enum

NOT_DELETED = "deleted_at IS NULL"


class Subscription(enum.StrEnum):
    """Which requests an endpoint hears of."""

    ALL = "all"
    """Every request of its models."""
    CALLBACKS = "callbacks"
    """Those that name its address as their `callback_url`."""


class MessageFormat(enum.StrEnum):
    """How an endpoint's messages look and what signs them."""

    STANDARD = "standard"
    """Standard Webhooks: the endpoint's secret."""
    OPENDSR = "opendsr"
    """OpenDSR status callbacks: the service's certificate."""


class WebhookEndpoint(Base):
    """One address. `models` is None for every model, else the names of those it may hear of."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        Index(
            "uq_webhook_endpoints_url_format",
            "url",
            "format",
            unique=True,
            postgresql_where=text(NOT_DELETED),
            sqlite_where=text(NOT_DELETED),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    url: Mapped[str] = mapped_column(String(1000))
    format: Mapped[MessageFormat] = mapped_column(string_enum(MessageFormat, "format"))
    description: Mapped[str | None] = mapped_column(String(200))
    subscription: Mapped[Subscription] = mapped_column(string_enum(Subscription, "subscription"))
    models: Mapped[list[str] | None]
    secret: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Signs messages, so it is kept as it is: a hash could sign nothing. Empty for OpenDSR, and once the endpoint is
    deleted."""
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    """Signs beside it for a while after a rotation."""
    previous_secret_until: Mapped[dt.datetime | None]
    disabled_at: Mapped[dt.datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(String(500))
    deleted_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime]
