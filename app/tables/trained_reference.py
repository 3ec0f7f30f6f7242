"""Trained references: models that audits compare with, kept because training them again costs the same again."""

import datetime as dt
import enum
import uuid

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, new_id, string_enum


class ReferencePurpose(enum.StrEnum):
    """What a reference shows."""

    RETRAINED = "retrained"
    """A model that never saw the forgotten records."""
    SHADOW = "shadow"
    """A model of a random part of the records, for the deep audit."""


EXISTS = "destroyed_at IS NULL"


class TrainedReference(Base):
    """One reference in the storage. Like a version, it holds what it was trained on: people's data."""

    __tablename__ = "trained_references"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_id", "snapshot"],
            ["snapshots.dataset_id", "snapshots.number"],
            name="fk_trained_references_snapshot",
        ),
        Index(
            "uq_trained_references_key",
            "data_digest",
            "recipe_digest",
            "seed",
            unique=True,
            postgresql_where=text(EXISTS),
            sqlite_where=text(EXISTS),
        ),
        Index("ix_trained_references_dataset_id", "dataset_id", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    purpose: Mapped[ReferencePurpose] = mapped_column(string_enum(ReferencePurpose, "purpose"))
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), index=True)
    version: Mapped[int]
    """The model's version whose recipe it repeats."""
    dataset_id: Mapped[uuid.UUID]
    snapshot: Mapped[int]
    """The snapshot whose records it was trained on, less those left out."""
    left_out: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    """Keyed commitment to the forgotten records that it was trained without; NULL for a shadow."""
    data_digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the training records it learned, ids and contents, in hexadecimal."""
    recipe_digest: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    location: Mapped[str] = mapped_column(String(512))
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of its manifest: what is found at the location must agree with it."""
    size: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    """Time that its training took."""
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"), index=True)
    created_at: Mapped[dt.datetime]
    superseded_at: Mapped[dt.datetime | None]
    """Since when it may hold records that were forgotten: from then on it is to be destroyed."""
    destroyed_at: Mapped[dt.datetime | None]
