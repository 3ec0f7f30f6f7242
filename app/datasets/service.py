"""Decisions about datasets, inside the call's transaction."""

import secrets
import uuid
from dataclasses import dataclass
from typing import Any

from app.call import Answer, Work
from app.datasets import repository
from app.datasets.errors import DatasetBusyError, DatasetExistsError
from app.datasets.schemas import DatasetCreate, DatasetDetail, DatasetRead, SnapshotRead
from app.datasets.suppression import count_suppressed
from app.locks import lock_dataset
from app.retention.locations import claim_location
from app.tables import Dataset, Snapshot
from app.tables.snapshot import SnapshotOrigin, SnapshotState
from app.trust.scopes import Scope

SUPPRESSION_KEY_BYTES = 32
RECENT_SNAPSHOTS = 20


@dataclass(frozen=True)
class StoredSnapshot:
    """A snapshot whose files are in place and whose row is not."""

    location: str
    digest: str
    size: int
    records: int
    subjects: int
    data_schema: dict[str, Any]


@dataclass(frozen=True)
class Base:
    """The state of a dataset that a new snapshot was made from."""

    dataset: Dataset
    head: Snapshot
    number: int
    """The number the new snapshot will have, unless the dataset changes first."""
    forgotten: int
    """How many records the dataset has forgotten: they may be ones that the head never had."""


def refuse_taken_name(work: Work, name: str) -> None:
    """Refuse a name that a dataset has.

    Raises:
        DatasetExistsError: One has it.
    """
    existing = repository.find_dataset(work.session, name)
    if existing is not None:
        raise DatasetExistsError(existing)


def register(work: Work, dataset_id: uuid.UUID, wanted: DatasetCreate, stored: StoredSnapshot) -> Answer:
    """Record a new dataset with its first snapshot."""
    dataset = Dataset(
        id=dataset_id,
        name=wanted.name,
        family=wanted.family,
        data_schema=stored.data_schema,
        head_snapshot=1,
        next_snapshot=2,
        suppression_key=secrets.token_bytes(SUPPRESSION_KEY_BYTES),
        created_at=work.now,
    )
    work.session.add(dataset)
    work.session.flush()
    snapshot = _record(work, dataset, 1, None, SnapshotOrigin.REGISTERED, stored)
    return Answer(DatasetRead.of(dataset, snapshot), 201, f"/v1/datasets/{dataset.id}")


def base_for_writing(work: Work, dataset_id: uuid.UUID) -> Base:
    """Return what a new snapshot of a dataset starts from.

    A key limited to some models may change a dataset only if it is limited to none of the others behind it.

    Raises:
        DatasetNotFoundError: There is no such dataset.
        ScopeMissingError: Models that the key is not for learn from it too.
    """
    dataset = repository.get_dataset(work.session, dataset_id)
    for model in repository.models_of(work.session, dataset):
        work.caller.require(Scope.MODELS_WRITE, model.name)
    return Base(
        dataset,
        repository.get_snapshot(work.session, dataset),
        dataset.next_snapshot,
        count_suppressed(work.session, dataset),
    )


def advance(work: Work, base: Base, origin: SnapshotOrigin, stored: StoredSnapshot) -> Answer:
    """Make a stored snapshot the head, if the dataset is still as it was when the snapshot was made.

    Raises:
        DatasetBusyError: It is not. The snapshot must be made again: what was forgotten meanwhile would
            come back with it.
    """
    dataset = lock_dataset(work.session, base.dataset.id)
    now = (dataset.head_snapshot, dataset.next_snapshot, count_suppressed(work.session, dataset))
    if now != (base.head.number, base.number, base.forgotten):
        raise DatasetBusyError(dataset)
    snapshot = _record(work, dataset, base.number, base.head.number, origin, stored)
    dataset.data_schema = stored.data_schema
    dataset.head_snapshot = snapshot.number
    dataset.next_snapshot = snapshot.number + 1
    return Answer(SnapshotRead.of(snapshot), 201, f"/v1/datasets/{dataset.id}/snapshots/{snapshot.number}")


def refuse_moved(work: Work, base: Base) -> None:
    """Refuse to go on if the dataset has another head than a new snapshot is made from.

    Raises:
        DatasetBusyError: It has.
    """
    dataset = repository.get_dataset(work.session, base.dataset.id)
    if dataset.head_snapshot != base.head.number:
        raise DatasetBusyError(dataset)


def describe(work: Work, dataset_id: uuid.UUID) -> DatasetDetail:
    """Describe a dataset with its recent snapshots.

    Raises:
        DatasetNotFoundError: There is no such dataset.
    """
    dataset = repository.get_dataset(work.session, dataset_id)
    head = repository.get_snapshot(work.session, dataset)
    recent, _ = repository.list_snapshots(work.session, dataset, before=None, limit=RECENT_SNAPSHOTS)
    return DatasetDetail(
        **dict(DatasetRead.of(dataset, head)),
        snapshots=[SnapshotRead.of(snapshot) for snapshot in recent],
    )


def _record(
    work: Work,
    dataset: Dataset,
    number: int,
    parent: int | None,
    origin: SnapshotOrigin,
    stored: StoredSnapshot,
) -> Snapshot:
    snapshot = Snapshot(
        dataset_id=dataset.id,
        number=number,
        parent=parent,
        origin=origin,
        state=SnapshotState.AVAILABLE,
        location=stored.location,
        digest=stored.digest,
        records=stored.records,
        subjects=stored.subjects,
        size=stored.size,
        created_at=work.now,
    )
    work.session.add(snapshot)
    work.session.flush()
    claim_location(work.session, stored.location)
    return snapshot
