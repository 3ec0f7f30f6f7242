"""Idempotency records: the first answer given under each key."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class IdempotencyRecord(Base):
    """Answer to a POST under `Idempotency-Key`, written in the transaction of its effect."""

    __tablename__ = "idempotency_records"

    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of method, path and body: the body itself is never kept."""
    status_code: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(512))
    body: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime]
