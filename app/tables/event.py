"""Events: the history of forget requests and jobs, append-only."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, BigId


class Event(Base):
    """Something that happened to one forget request, or to the job that serves several."""

    __tablename__ = "events"
    __table_args__ = (CheckConstraint("(forget_request_id IS NULL) <> (job_id IS NULL)", name="one_subject"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    forget_request_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("forget_requests.id"), index=True)
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    type: Mapped[str] = mapped_column(String(32))
    """`status` for a change of state, `progress` and `rung` for what a job reports."""
    status: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(String(2000))
    details: Mapped[dict[str, Any] | None]
    created_at: Mapped[dt.datetime]
