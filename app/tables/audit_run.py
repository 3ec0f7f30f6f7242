"""Audits without unlearning: the service as an independent auditor of what others say was forgotten."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id


class AuditRun(Base):
    """One audit that was asked for. Where it stands is its job's state."""

    __tablename__ = "audits"
    __table_args__ = (
        CheckConstraint("(candidate_version IS NULL) <> (digest IS NULL)", name="one_candidate"),
        ForeignKeyConstraint(
            ["model_id", "parent_version"], ["versions.model_id", "versions.number"], name="fk_audits_parent"
        ),
        Index("ix_audits_created_at_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), index=True)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"), unique=True)
    parent_version: Mapped[int]
    """The version that had learned the forget set; the snapshot it learned is what the audit reads."""
    candidate_version: Mapped[int | None]
    """The version that is judged; NULL for an uploaded checkpoint."""
    location: Mapped[str | None] = mapped_column(String(512))
    """Where the uploaded checkpoint is, as long as its audit has not ended."""
    digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of the uploaded checkpoint's manifest."""
    size: Mapped[int | None] = mapped_column(BigInteger)
    target: Mapped[dict[str, Any] | None]
    """`unlearning.targets.Target` as JSON; NULL once the audit has ended: its ids are personal data."""
    target_kind: Mapped[str] = mapped_column(String(32))
    target_count: Mapped[int]
    reference: Mapped[str | None] = mapped_column(String(200))
    verdict: Mapped[str | None] = mapped_column(String(16))
    result: Mapped[dict[str, Any] | None]
    """`unlearning.audits.report.Audit` as JSON."""
    created_at: Mapped[dt.datetime]
