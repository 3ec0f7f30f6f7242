"""What in the database and the storage is personal data, and so is sealed under a key of its own.

The columns are those of docs/privacy.md: all others hold none.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, Table, select
from sqlalchemy.orm import Session

from app.tables import (
    AuditRun,
    Base,
    ForgetRequest,
    Job,
    Snapshot,
    SweptLocation,
    TrainedReference,
    Version,
)
from app.tables.job import JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from app.worker.candidate import Candidate
from app.worker.publication import candidate_location

SEALED_COLUMNS: dict[str, tuple[str, ...]] = {
    ForgetRequest.__tablename__: ("target", "commitment_key"),
    AuditRun.__tablename__: ("target",),
    Job.__tablename__: ("asked",),
}
"""Table -> columns that may name what is to be forgotten. Once none of them does, the row's key is shredded."""

STORED = "stored"
"""Kind of the keys of stored directories: snapshots, versions, references and candidates."""

BACKUPS = "backups"
"""Kind of the keys that whole backups are sealed under."""

LEFT_OUT = frozenset({"sweeps"})
"""Tables that say nothing of another database."""

BATCH = 500


def tables() -> list[Table]:
    """Return the tables that a backup holds, in an order in which their rows may refer to each other."""
    return [table for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def key_of_row(row_id: uuid.UUID) -> str:
    """Return the name of the key that a row's personal columns are sealed under."""
    return str(row_id)


def candidate_parts(outcome: dict[str, object] | None, job_id: uuid.UUID) -> list[str]:
    """Return where the parts of a job's candidate are kept; none where there is no candidate."""
    if not outcome or outcome.get("candidate") is None:
        return []
    parts = Candidate.model_validate(outcome["candidate"]).parts
    return [f"{candidate_location(job_id)}/{part}" for part in parts]


def naming_columns(table: str, row: Mapping[str, Any]) -> list[str]:
    """Return the columns of a row that name what is to be forgotten."""
    held = [column for column in SEALED_COLUMNS.get(table, ()) if row[column] is not None]
    # What a job was asked outlives its end; the target is taken out of it then.
    return [column for column in held if column != "asked" or row[column].get("target") is not None]


def erased_rows(session: Session, table: str, names: Iterable[str]) -> list[str]:
    """Return those of some rows' keys whose rows name nothing any more."""
    columns = Base.metadata.tables[table].c
    wanted = [columns.id, *(columns[column] for column in SEALED_COLUMNS[table])]
    found = []
    for batch in _batches(list(names)):
        query = select(*wanted).where(columns.id.in_([uuid.UUID(name) for name in batch]))
        rows = session.execute(query).mappings()
        found += [str(row["id"]) for row in rows if not naming_columns(table, dict(row))]
    return found


def gone_locations(session: Session, locations: Iterable[str]) -> list[str]:
    """Return those of some places of which a row says that their files were destroyed.

    A place that no row knows is not among them: the database may be the wrong one.
    """
    found: set[str] = set()
    for batch in _batches(list(locations)):
        for query in _queries_of_gone(batch):
            found |= set(session.scalars(query))
        found |= _gone_candidates(session, batch)
    return sorted(found)


def _queries_of_gone(batch: Sequence[str]) -> list[Select[str]]:
    return [
        select(Version.location).where(Version.location.in_(batch), Version.state == VersionState.DESTROYED),
        select(Snapshot.location).where(
            Snapshot.location.in_(batch), Snapshot.state == SnapshotState.DESTROYED
        ),
        select(TrainedReference.location).where(
            TrainedReference.location.in_(batch), TrainedReference.destroyed_at.is_not(None)
        ),
        select(SweptLocation.location).where(SweptLocation.location.in_(batch)),
    ]


def _gone_candidates(session: Session, batch: Sequence[str]) -> set[str]:
    """Return places of candidates that nobody can accept any more, and that have not become a version's."""
    jobs = {
        location: uuid.UUID(location.split("/")[1])
        for location in batch
        if location.startswith("candidates/")
    }
    if not jobs:
        return set()
    ended = set(
        session.scalars(
            select(Job.id).where(
                Job.id.in_(jobs.values()),
                Job.state.in_((JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED)),
            )
        )
    )
    kept = {
        *session.scalars(select(Version.location).where(Version.location.in_(batch))),
        *session.scalars(select(Snapshot.location).where(Snapshot.location.in_(batch))),
    }
    return {location for location, job in jobs.items() if job in ended and location not in kept}


def _batches(names: list[str]) -> Iterable[list[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))
