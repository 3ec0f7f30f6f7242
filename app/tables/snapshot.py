"""Snapshots: immutable states of a dataset."""

import datetime as dt
import enum
import uuid

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, string_enum


class SnapshotState(enum.StrEnum):
    """Whether a snapshot's files still exist."""

    AVAILABLE = "available"
    DESTROYED = "destroyed"


class SnapshotOrigin(enum.StrEnum):
    """What made a snapshot."""

    REGISTERED = "registered"
    APPENDED = "appended"
    REPLACED = "replaced"
    FORGOTTEN = "forgotten"


class Snapshot(Base):
    """One immutable state of a dataset; `parent` is the snapshot it was derived from."""

    __tablename__ = "snapshots"

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    parent: Mapped[int | None]
    origin: Mapped[SnapshotOrigin] = mapped_column(string_enum(SnapshotOrigin, "origin"))
    state: Mapped[SnapshotState] = mapped_column(string_enum(SnapshotState, "state"))
    location: Mapped[str] = mapped_column(String(512))
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the snapshot's manifest, in hexadecimal."""
    records: Mapped[int] = mapped_column(BigInteger)
    subjects: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[dt.datetime]
    clear_of: Mapped[int | None] = mapped_column(BigInteger)
    """So many of the dataset's suppressions were there when it was last found to hold no forgotten record."""
    superseded_at: Mapped[dt.datetime | None]
    """Since when it awaits destruction, as it holds forgotten records and nothing needs it."""
    destroyed_at: Mapped[dt.datetime | None]
