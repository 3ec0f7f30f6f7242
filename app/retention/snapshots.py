"""Destroying superseded snapshots that still hold forgotten records.

A snapshot may go once nothing needs it: it is not its dataset's head, no version that still exists has learned it,
and no candidate that a person may accept is derived from it. Several models may stand behind one dataset, and one
that was not asked to forget keeps the snapshot it learned. Snapshots without forgotten records are history and stay.

It takes three steps, so that nobody is left with a snapshot whose files are vanishing:

1. Under the dataset's lock the snapshot is marked as superseded: from now on no version can be registered on it.
2. Jobs that began before may still read it, and may publish a version on it; they are waited for.
3. If still nothing needs it, its files are deleted, and then its row says so.
"""

import datetime as dt
import logging
import threading
import uuid
from dataclasses import dataclass
from functools import partial

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from app.database import database_now
from app.datasets.suppression import count_suppressed, forgotten_in
from app.locks import lock_dataset
from app.runtime import Runtime
from app.tables import Dataset, Job, Model, Snapshot, Suppression, Version
from app.tables.job import JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from models.errors import DatasetError

ACTIVE = (JobState.RUNNING, JobState.CANCELLING)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    dataset_id: uuid.UUID
    number: int
    location: str


def supersede_snapshots(runtime: Runtime, stop: threading.Event) -> int:
    """Mark the snapshots that hold forgotten records and that nothing needs; return how many."""
    marked = 0
    for place in _unmarked(runtime):
        if stop.is_set():
            break
        marked += _examine(runtime, place)
    return marked


def destroy_snapshots(runtime: Runtime, stop: threading.Event, before: dt.datetime) -> tuple[int, int]:
    """Destroy the snapshots that were marked before `before`; return how many, and how many would not go."""
    destroyed = failed = 0
    for place in _marked(runtime, before):
        if stop.is_set():
            break
        try:
            destroyed += _destroy(runtime, place)
        except OSError:
            failed += 1
            logger.exception(
                "Snapshot %s of dataset %s could not be destroyed.", place.number, place.dataset_id
            )
    return destroyed, failed


def began_before(dataset_id: uuid.UUID, moment: dt.datetime) -> ColumnElement[bool]:
    """Whether a job over the dataset runs that may have been told of files before `moment`."""
    return exists().where(
        Job.model_id == Model.id,
        Model.dataset_id == dataset_id,
        Job.state.in_(ACTIVE),
        Job.started_at <= moment,
    )


def _unmarked(runtime: Runtime) -> list[_Place]:
    """List what might be superseded; that is looked at again under a lock."""
    suppresses = exists().where(Suppression.dataset_id == Snapshot.dataset_id)
    learned = exists().where(
        Version.dataset_id == Snapshot.dataset_id,
        Version.snapshot == Snapshot.number,
        Version.state != VersionState.DESTROYED,
    )
    query = (
        select(Snapshot.dataset_id, Snapshot.number, Snapshot.location)
        .join(Dataset, Dataset.id == Snapshot.dataset_id)
        .where(
            Snapshot.state == SnapshotState.AVAILABLE,
            Snapshot.superseded_at.is_(None),
            Dataset.head_snapshot != Snapshot.number,
            suppresses,
            ~learned,
        )
    )
    with runtime.database.read() as session:
        return [_Place(*row) for row in session.execute(query)]


def _marked(runtime: Runtime, before: dt.datetime) -> list[_Place]:
    query = select(Snapshot.dataset_id, Snapshot.number, Snapshot.location).where(
        Snapshot.state == SnapshotState.AVAILABLE, Snapshot.superseded_at < before
    )
    with runtime.database.read() as session:
        return [_Place(*row) for row in session.execute(query)]


def _examine(runtime: Runtime, place: _Place) -> bool:
    """Look into a snapshot outside any transaction, then mark it under the lock if it has to go."""
    with runtime.database.read() as session:
        dataset = session.get_one(Dataset, place.dataset_id)
        snapshot = session.get_one(Snapshot, (place.dataset_id, place.number))
        suppressions = count_suppressed(session, dataset)
    if snapshot.clear_of == suppressions:
        return False  # nothing was forgotten since it was found clear
    forgotten = _holds_forgotten(runtime, dataset, place)
    with runtime.database.write() as session:
        dataset = lock_dataset(session, place.dataset_id)
        snapshot = session.get_one(Snapshot, (place.dataset_id, place.number), populate_existing=True)
        if not forgotten:
            snapshot.clear_of = suppressions
            return False
        if _is_needed(session, dataset, place.number) or snapshot.superseded_at is not None:
            return False
        snapshot.superseded_at = database_now(session)
    return True


def _holds_forgotten(runtime: Runtime, dataset: Dataset, place: _Place) -> bool:
    try:
        fetch = partial(runtime.storage.materialise_file, place.location)
        with runtime.database.read() as session:
            return any(True for _ in forgotten_in(session, dataset, fetch))
    except (DatasetError, FileNotFoundError):
        # Nobody can show that it is clear, and nothing needs it.
        logger.warning("The data of snapshot %s of dataset %s is damaged.", place.number, place.dataset_id)
        return True


def _destroy(runtime: Runtime, place: _Place) -> bool:
    with runtime.database.write() as session:
        dataset = lock_dataset(session, place.dataset_id)
        snapshot = session.get_one(Snapshot, (place.dataset_id, place.number), populate_existing=True)
        since = snapshot.superseded_at
        if snapshot.state is SnapshotState.DESTROYED or since is None:
            return False
        if _is_needed(session, dataset, place.number):
            snapshot.superseded_at = None  # a job that had begun before has published a version on it
            return False
        if session.execute(select(began_before(place.dataset_id, since))).scalar_one():
            return False
    runtime.storage.delete(place.location)
    runtime.indexes.discard(place.location)
    with runtime.database.write() as session:
        lock_dataset(session, place.dataset_id)
        snapshot = session.get_one(Snapshot, (place.dataset_id, place.number), populate_existing=True)
        if snapshot.state is SnapshotState.AVAILABLE:
            snapshot.state = SnapshotState.DESTROYED
            snapshot.destroyed_at = database_now(session)
    logger.info("Snapshot %s of dataset %s was destroyed.", place.number, place.dataset_id)
    return True


def _is_needed(session: Session, dataset: Dataset, number: int) -> bool:
    learned = exists().where(
        Version.dataset_id == dataset.id,
        Version.snapshot == number,
        Version.state != VersionState.DESTROYED,
    )
    if number == dataset.head_snapshot or session.execute(select(learned)).scalar_one():
        return True
    return number in _of_candidates(session, dataset)


def _of_candidates(session: Session, dataset: Dataset) -> set[int]:
    """Return the snapshots that an acceptance of a candidate would read."""
    outcomes = session.scalars(
        select(Job.outcome)
        .join(Model, Model.id == Job.model_id)
        .where(Model.dataset_id == dataset.id, Job.state == JobState.NEEDS_REVIEW)
    )
    candidates = [outcome["candidate"] for outcome in outcomes if outcome and outcome.get("candidate")]
    return {candidate[name] for candidate in candidates for name in ("base_snapshot", "head_snapshot")}
