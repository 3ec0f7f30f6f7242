"""Webhook messages: the outbox, written in the transaction of what it tells."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id

WAITING = "next_attempt_at IS NOT NULL"


class WebhookMessage(Base):
    """One message to one endpoint. It waits as long as `next_attempt_at` is set."""

    __tablename__ = "webhook_messages"
    __table_args__ = (
        Index(
            "ix_webhook_messages_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text(WAITING),
            sqlite_where=text(WAITING),
        ),
        Index("ix_webhook_messages_endpoint_id_created_at_id", "endpoint_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    endpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook_endpoints.id"))
    type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]]
    """What is sent; no personal data."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[dt.datetime | None]
    delivered_at: Mapped[dt.datetime | None]
    last_status: Mapped[int | None]
    """HTTP status of the last answer."""
    last_error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[dt.datetime]
