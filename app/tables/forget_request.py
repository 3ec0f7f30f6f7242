"""Forget requests: one client's demand that a target be forgotten by one model."""

import datetime as dt
import enum
import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id, string_enum


class RequestStatus(enum.StrEnum):
    """Where a forget request stands; `app.forget_requests.states` holds the legal changes."""

    PENDING = "pending"
    RUNNING = "running"
    NEEDS_REVIEW = "needs_review"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


class RefusalGround(enum.StrEnum):
    """Why a demand need not be met: the cases of the GDPR, Art. 12(2), 12(5), 12(6) and 17(3), and a rest."""

    UNFOUNDED = "unfounded"
    EXCESSIVE = "excessive"
    IDENTITY_NOT_PROVEN = "identity_not_proven"
    FREEDOM_OF_EXPRESSION = "freedom_of_expression"
    LEGAL_OBLIGATION = "legal_obligation"
    PUBLIC_HEALTH = "public_health"
    ARCHIVING_OR_RESEARCH = "archiving_or_research"
    LEGAL_CLAIMS = "legal_claims"
    OTHER = "other"


PENDING = "status = 'pending'"
OPEN = "status IN ('pending', 'running', 'needs_review', 'failed')"
ERASABLE = "target IS NOT NULL AND status IN ('completed', 'cancelled', 'refused', 'failed')"


class ForgetRequest(Base):
    """A stored demand. Requests with equal `group_key` and `split` are served by one job together."""

    __tablename__ = "forget_requests"
    __table_args__ = (
        Index("ix_forget_requests_created_at_id", "created_at", "id"),
        Index(
            "ix_forget_requests_pending",
            "model_id",
            "created_at",
            postgresql_where=text(PENDING),
            sqlite_where=text(PENDING),
        ),
        Index(
            "ix_forget_requests_open",
            "status",
            "due_at",
            postgresql_where=text(OPEN),
            sqlite_where=text(OPEN),
        ),
        Index(
            "ix_forget_requests_erasable",
            "updated_at",
            postgresql_where=text(ERASABLE),
            sqlite_where=text(ERASABLE),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"))
    api_key_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    target: Mapped[dict[str, Any] | None]
    """`unlearning.targets.Target` as JSON; None once its ids are erased at the end of retention."""
    commitment_key: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    """Keys the certificate's commitment to record ids; None once it is erased with the target."""
    target_kind: Mapped[str] = mapped_column(String(32))
    target_count: Mapped[int]
    guarantee: Mapped[str] = mapped_column(String(16))
    method: Mapped[str] = mapped_column(String(64))
    parameters: Mapped[dict[str, Any]]
    group_key: Mapped[str] = mapped_column(String(64))
    """SHA-256 of method, guarantee and parameters, in hexadecimal."""
    split: Mapped[str] = mapped_column(String(64), default="")
    """Path of halvings after a failed group: each half coalesces only with itself."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Runs that ended with the death of their worker or child process."""
    status: Mapped[RequestStatus] = mapped_column(string_enum(RequestStatus, "status"))
    reason: Mapped[str | None] = mapped_column(String(2000))
    """Why it stands where it stands, in a sentence."""
    reference: Mapped[str | None] = mapped_column(String(200))
    due_at: Mapped[dt.datetime]
    extended_at: Mapped[dt.datetime | None]
    """When the due date was put off; that can happen once."""
    refusal_ground: Mapped[RefusalGround | None] = mapped_column(string_enum(RefusalGround, "refusal_ground"))
    webhook_endpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("webhook_endpoints.id"))
    """The endpoint that its `callback_url` names."""
    opendsr_request_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("opendsr_requests.subject_request_id"), index=True
    )
    """The OpenDSR request that it came with."""
    cancel_requested_at: Mapped[dt.datetime | None]
    limit_waived_at: Mapped[dt.datetime | None]
    """When a person let it pass the daily limit of its model."""
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The span that it was submitted in (W3C Trace Context), where calls are traced."""
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    """The job that serves or last served it."""
    version: Mapped[int | None]
    """The version that first had it forgotten."""
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]
    completed_at: Mapped[dt.datetime | None]
