"""Versions: immutable, numbered checkpoints of a model."""

import datetime as dt
import enum
import uuid
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, string_enum


class VersionState(enum.StrEnum):
    """Whether a version may be used."""

    PUBLISHED = "published"
    QUARANTINED = "quarantined"
    DESTROYED = "destroyed"


class VersionOrigin(enum.StrEnum):
    """What made a version."""

    REGISTERED = "registered"
    IMPORTED = "imported"
    UPDATED = "updated"
    UNLEARNED = "unlearned"


class Version(Base):
    """One checkpoint. `snapshot` is the state of the dataset whose training records it has learned."""

    __tablename__ = "versions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_id", "snapshot"],
            ["snapshots.dataset_id", "snapshots.number"],
            name="fk_versions_snapshot",
        ),
    )

    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    parent: Mapped[int | None]
    origin: Mapped[VersionOrigin] = mapped_column(string_enum(VersionOrigin, "origin"))
    state: Mapped[VersionState] = mapped_column(string_enum(VersionState, "state"))
    dataset_id: Mapped[uuid.UUID]
    snapshot: Mapped[int]
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    method: Mapped[str | None] = mapped_column(String(64))
    configuration: Mapped[dict[str, Any] | None]
    """The method's configuration, defaults filled in."""
    audit: Mapped[dict[str, Any] | None]
    """`unlearning.audits.report.Audit` as JSON."""
    location: Mapped[str] = mapped_column(String(512))
    manifest: Mapped[dict[str, Any]]
    """Every file's path, SHA-256 and size."""
    digest: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[dt.datetime]
    quarantined_at: Mapped[dt.datetime | None]
    destroy_after: Mapped[dt.datetime | None]
    """When a quarantined version's files are to be destroyed; set once, at its quarantine."""
    destroyed_at: Mapped[dt.datetime | None]
