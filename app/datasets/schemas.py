"""What clients send and receive about datasets."""

import datetime as dt
import uuid
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from app.intake import Delivery
from app.tables import Dataset, Snapshot
from app.tables.snapshot import SnapshotOrigin, SnapshotState

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


class DatasetCreate(Delivery):
    """A new dataset; its files become snapshot 1."""

    name: str = Field(pattern=NAME_PATTERN, description="Unique name.", examples=["digits"])
    family: str = Field(max_length=32, description="Family of the models it trains.", examples=["classifier"])


class SnapshotCreate(Delivery):
    """A new state of a dataset."""

    mode: Literal["append", "replace"] = Field(
        "append",
        description="`append` adds the records to the head's; `replace` starts anew from them alone.",
    )


class SnapshotRead(BaseModel):
    """One immutable state of a dataset."""

    number: int = Field(description="Number within its dataset.")
    parent: int | None = Field(description="Snapshot it was derived from.")
    origin: SnapshotOrigin = Field(description="What made it.")
    state: SnapshotState = Field(description="Whether its files still exist.")
    digest: str = Field(description="SHA-256 of its manifest, in hexadecimal.")
    records: int = Field(description="Number of records.")
    subjects: int = Field(description="Number of distinct subjects.")
    size: int = Field(description="Bytes of its files together.")
    created_at: dt.datetime

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Describe a row."""
        return cls(
            number=snapshot.number,
            parent=snapshot.parent,
            origin=snapshot.origin,
            state=snapshot.state,
            digest=snapshot.digest,
            records=snapshot.records,
            subjects=snapshot.subjects,
            size=snapshot.size,
            created_at=snapshot.created_at,
        )


class SnapshotList(BaseModel):
    """One page of a dataset's snapshots."""

    items: list[SnapshotRead] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page; null on the last.")


class DatasetRead(BaseModel):
    """A dataset with its newest snapshot."""

    id: uuid.UUID
    name: str
    family: str
    data_schema: dict[str, Any] = Field(
        description="What every snapshot agrees with; for a classifier, classes and feature width."
    )
    head: SnapshotRead = Field(description="Its newest snapshot.")
    created_at: dt.datetime

    @classmethod
    def of(cls, dataset: Dataset, head: Snapshot) -> Self:
        """Describe a row and its head."""
        return cls(
            id=dataset.id,
            name=dataset.name,
            family=dataset.family,
            data_schema=dataset.data_schema,
            head=SnapshotRead.of(head),
            created_at=dataset.created_at,
        )


class DatasetDetail(DatasetRead):
    """A dataset with its recent history."""

    snapshots: list[SnapshotRead] = Field(
        description="The newest 20 snapshots, newest first; `…/snapshots` lists all."
    )


class DatasetList(BaseModel):
    """One page of datasets."""

    items: list[DatasetRead] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page; null on the last.")
