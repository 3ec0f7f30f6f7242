"""Jobs: runs of the worker."""

import datetime as dt
import enum
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id, string_enum


class JobKind(enum.StrEnum):
    """What a job does to its model."""

    UNLEARN = "unlearn"
    UPDATE = "update"


class JobState(enum.StrEnum):
    """Where a job stands; `queued` is used by update jobs alone, unlearning jobs begin at their claim."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    NEEDS_REVIEW = "needs_review"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    """Its worker died: the lease ran out, and another worker took the model over."""


ACTIVE_JOB = "state IN ('running', 'cancelling')"


class Job(Base):
    """One run for one model. The lease fields are by the database's clock, never a worker's."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_active_model",
            "model_id",
            unique=True,
            postgresql_where=text(ACTIVE_JOB),
            sqlite_where=text(ACTIVE_JOB),
        ),
        Index(
            "uq_jobs_queued_model",
            "model_id",
            unique=True,
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_lease_expires_at",
            "lease_expires_at",
            postgresql_where=text(ACTIVE_JOB),
            sqlite_where=text(ACTIVE_JOB),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), index=True)
    kind: Mapped[JobKind] = mapped_column(string_enum(JobKind, "kind"))
    state: Mapped[JobState] = mapped_column(string_enum(JobState, "state"))
    attempts: Mapped[int] = mapped_column(default=0)
    """Claims of this update job so far (an unlearning job is claimed once; its requests count instead)."""
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[uuid.UUID | None]
    lease_expires_at: Mapped[dt.datetime | None]
    parent_version: Mapped[int | None]
    produced_version: Mapped[int | None]
    seed: Mapped[int | None]
    plan: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    outcome: Mapped[dict[str, Any] | None]
    """Every rung's measurements and, while a person decides, the unpublished candidate."""
    reason: Mapped[str | None] = mapped_column(String(2000))
    traceback_digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[dt.datetime]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
