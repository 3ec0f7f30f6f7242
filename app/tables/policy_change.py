"""Changes of audit policies: who set what for a family or a model, and when. Append-only."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, BigId


class PolicyChange(Base):
    """One change. The newest of a family or of a model is what holds; the others are its history."""

    __tablename__ = "policy_changes"
    __table_args__ = (
        CheckConstraint("(family IS NULL) <> (model_id IS NULL)", name="one_subject"),
        Index("ix_policy_changes_family_id", "family", "id"),
        Index("ix_policy_changes_model_id_id", "model_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    family: Mapped[str | None] = mapped_column(String(32))
    model_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("models.id"))
    fields: Mapped[dict[str, Any] | None]
    """The fields of `unlearning.audits.policy.AuditPolicy` that were set; NULL where the policy was removed."""
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    created_at: Mapped[dt.datetime]
