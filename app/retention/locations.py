"""Which places in the storage count, and who may decide that one does.

A directory is stored before the row that names it. Between the two, nothing tells it from litter but its age, so
whoever is about to write such a row, and whoever is about to delete the files, asks for the place under the same
lock: either the row is there and the files stay, or the place is written off for good and the row cannot come.
"""

import datetime as dt
import uuid

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.locks import lock_location
from app.tables import AuditRun, Job, Model, Snapshot, SweptLocation, TrainedReference, Version
from app.tables.job import JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState

CANDIDATES = "candidates"
ROOTS = {"datasets": 3, "models": 3, CANDIDATES: 2, "references": 2, "audits": 1}
"""Root -> how many parts of a path below it name one stored directory."""

CLOCKS_DIFFER = dt.timedelta(minutes=15)
"""Most that the clocks of storage and database are taken to be apart."""

ACTIVE = (JobState.RUNNING, JobState.CANCELLING)
MAY_KEEP_CANDIDATE = (JobState.RUNNING, JobState.CANCELLING, JobState.NEEDS_REVIEW)


class SweptLocationError(OSError):
    """Stored files waited for their row for so long that they were deleted as litter."""


def claim_location(session: Session, location: str) -> None:
    """Make sure that a row may name `location`: it cannot be swept before the transaction ends, nor after it.

    Raises:
        SweptLocationError: It was swept already.
    """
    lock_location(session, location)
    if session.get(SweptLocation, location) is not None:
        raise SweptLocationError("stored files were deleted before anything named them; store them again")


def write_off(session: Session, location: str, modified: dt.datetime, now: dt.datetime) -> bool:
    """Take a place away from everybody unless a row names it; tell whether its files may be deleted.

    Args:
        session: The transaction.
        location: The place.
        modified: When its files were written, by the storage's clock.
        now: The time by the database's clock.
    """
    lock_location(session, location)
    if is_named(session, location) or is_reserved(session, location, modified):
        return False
    if session.get(SweptLocation, location) is None:
        session.add(SweptLocation(location=location, swept_at=now))
    return True


def is_named(session: Session, location: str) -> bool:
    """Tell whether the files at `location` count, or are about to be kept for a person's decision."""
    named = (
        exists().where(Version.location == location, Version.state != VersionState.DESTROYED)
        | exists().where(Snapshot.location == location, Snapshot.state != SnapshotState.DESTROYED)
        | exists().where(TrainedReference.location == location, TrainedReference.destroyed_at.is_(None))
        | exists().where(AuditRun.location == location)
    )
    job_id = _job_of(location)
    if job_id is not None:
        named |= exists().where(Job.id == job_id, Job.state.in_(MAY_KEEP_CANDIDATE))
    return session.execute(select(named)).scalar_one()


def is_reserved(session: Session, location: str, modified: dt.datetime) -> bool:
    """Tell whether a job that is at work may have written the files at `location` and be about to name them."""
    root, _, rest = location.partition("/")
    owner = rest.partition("/")[0]
    match root:
        case "models":
            mine = Model.name == owner
        case "datasets" | "references":
            mine = Model.dataset_id == uuid.UUID(owner)
        case _:
            return False
    writes = exists().where(
        mine, Job.model_id == Model.id, Job.state.in_(ACTIVE), Job.started_at <= modified + CLOCKS_DIFFER
    )
    return session.execute(select(writes)).scalar_one()


def _job_of(location: str) -> uuid.UUID | None:
    """Return the job that a candidate's place is named after."""
    root, _, rest = location.partition("/")
    return uuid.UUID(rest.partition("/")[0]) if root == CANDIDATES else None
