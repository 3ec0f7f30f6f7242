"""Jobs: runs of the worker."""

import datetime as dt
import enum
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id, string_enum


class JobKind(enum.StrEnum):
    """What a job does to its model, or only reads of it."""

    UNLEARN = "unlearn"
    UPDATE = "update"
    AUDIT = "audit"
    """Judges a version or a checkpoint. It changes nothing, so it need not have the model to itself."""
    REFERENCE = "reference"
    """Trains references ahead of time, when nothing else waits."""

    @property
    def changes_model(self) -> bool:
        """Whether it may publish a version: such jobs run one at a time on each model."""
        return self in {JobKind.UNLEARN, JobKind.UPDATE}

    @property
    def waits_in_queue(self) -> bool:
        """Whether its row exists before its claim; jobs that unlearn begin with it."""
        return self is not JobKind.UNLEARN


class JobState(enum.StrEnum):
    """Where a job stands. Jobs that unlearn are never `queued`: they begin at their claim."""

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
CHANGING_JOB = f"{ACTIVE_JOB} AND kind IN ('unlearn', 'update')"
QUEUED_UPDATE = "state = 'queued' AND kind = 'update'"
OPEN_REFERENCE_JOB = "state IN ('queued', 'running', 'cancelling') AND kind = 'reference'"


class Job(Base):
    """One run for one model. The lease fields are by the database's clock, never a worker's."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_active_model",
            "model_id",
            unique=True,
            postgresql_where=text(CHANGING_JOB),
            sqlite_where=text(CHANGING_JOB),
        ),
        Index(
            "uq_jobs_queued_model",
            "model_id",
            unique=True,
            postgresql_where=text(QUEUED_UPDATE),
            sqlite_where=text(QUEUED_UPDATE),
        ),
        Index(
            "uq_jobs_reference_model",
            "model_id",
            unique=True,
            postgresql_where=text(OPEN_REFERENCE_JOB),
            sqlite_where=text(OPEN_REFERENCE_JOB),
        ),
        # Idle workers look for queued jobs several times a second; all that have ended must not be read for it. Not a
        # partial index: SQLite uses none for a condition that comes as a parameter.
        Index("ix_jobs_state_created_at", "state", "created_at"),
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
    """Claims of this job so far (one that unlearns is claimed once; its requests count instead)."""
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[uuid.UUID | None]
    lease_expires_at: Mapped[dt.datetime | None]
    parent_version: Mapped[int | None]
    produced_version: Mapped[int | None]
    seed: Mapped[int | None]
    policy: Mapped[dict[str, Any] | None]
    """The audit policy that applied at its last claim (`unlearning.audits.policy.AuditPolicy`)."""
    asked: Mapped[dict[str, Any] | None]
    """What a `reference` job shall train; a target in it is taken out when the job ends."""
    plan: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    outcome: Mapped[dict[str, Any] | None]
    """Every rung's measurements and, while a person decides, the unpublished candidate."""
    reason: Mapped[str | None] = mapped_column(String(2000))
    traceback_digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[dt.datetime]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
