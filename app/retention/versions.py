"""Destroying versions that hold what was forgotten: their files go, their row stays as a tombstone.

Files first, then the row. A quarantined version never comes back into use, so nothing can want the files between
the two; a crash there leaves a version in quarantine whose files are gone already, which nobody could download
either, and the next sweep finishes it. A row that says `destroyed` is therefore always true.
"""

import datetime as dt
import logging
import threading
import uuid
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session

from app.database import database_now
from app.errors import ServiceError
from app.locks import lock_model
from app.registry.errors import VersionDestroyedError
from app.retention.periods import predecessor_retention
from app.runtime import Runtime
from app.tables import AuditRun, Event, Job, Model, Version
from app.tables.job import JobState
from app.tables.version import VersionOrigin, VersionState
from app.trust.log.tree import append_leaves
from app.trust.log.versions import version_entry

OPEN_JOB = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)
MAX_REASON = 2000
RETENTION_OVER = "The retention after its quarantine is over."

logger = logging.getLogger(__name__)


class VersionPublishedError(ServiceError):
    """The version may be used, so it cannot be destroyed."""

    status, slug, title = 409, "version-published", "Version is published"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} is {version.state.value} and can be in use; only a "
            "quarantined version that is not the model's latest can be destroyed."
        )


class VersionInUseError(ServiceError):
    """A job reads the version."""

    status, slug, title = 409, "version-in-use", "Version is in use"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"A job reads version {version.number} of the model {model.name!r}; destroy it once that has ended."
        )
        self.headers["Retry-After"] = "5"


@dataclass(frozen=True)
class Doomed:
    """A version that may be destroyed."""

    model_id: uuid.UUID
    number: int
    location: str


def destroy_due_versions(runtime: Runtime, stop: threading.Event) -> tuple[int, int]:
    """Destroy the versions whose retention is over; return how many, and how many would not go.

    One that a job reads is left for the next sweep.
    """
    destroyed = failed = 0
    with runtime.database.read() as session:
        due = session.execute(select(Version.model_id, Version.number).where(_is_due(runtime, session))).all()
    for model_id, number in due:
        if stop.is_set():
            break
        try:
            destroyed += _destroy(runtime, model_id, number, RETENTION_OVER)
        except (VersionInUseError, VersionPublishedError, VersionDestroyedError) as error:
            logger.info("A version is not destroyed yet: %s", error.slug)
        except OSError:
            failed += 1
            logger.exception("Version %s of model %s could not be destroyed.", number, model_id)
    return destroyed, failed


def doom(session: Session, model_id: uuid.UUID, number: int) -> Doomed:
    """Check under the model's lock that a version may be destroyed.

    Raises:
        VersionPublishedError: It may be used.
        VersionInUseError: A job reads it.
        VersionDestroyedError: It was destroyed already.
    """
    model = lock_model(session, model_id)
    version = session.get_one(Version, (model_id, number), populate_existing=True)
    if version.state is VersionState.DESTROYED:
        raise VersionDestroyedError(model, version)
    if version.state is not VersionState.QUARANTINED or number == model.latest_version:
        raise VersionPublishedError(model, version)
    if session.execute(select(_is_read(model_id, number))).scalar_one():
        raise VersionInUseError(model, version)
    return Doomed(model_id, number, version.location)


def bury(session: Session, doomed: Doomed, reason: str, now: dt.datetime) -> Version:
    """Record that a version's files are gone, unless that is recorded already: row, event, and leaf of the log.

    Nothing but the commit may follow.
    """
    lock_model(session, doomed.model_id)
    version = session.get_one(Version, (doomed.model_id, doomed.number), populate_existing=True)
    if version.state is VersionState.DESTROYED:
        return version
    version.state = VersionState.DESTROYED
    version.destroyed_at = now
    job_id = _job_that_replaced(session, version)
    if job_id is not None:
        session.add(_event(job_id, version, reason, now))
    append_leaves(
        session, [version_entry(version.model_id, version.number, version.state, version.digest)], now
    )
    return version


def _destroy(runtime: Runtime, model_id: uuid.UUID, number: int, reason: str) -> bool:
    with runtime.database.write() as session:
        doomed = doom(session, model_id, number)
    runtime.storage.delete(doomed.location)
    with runtime.database.write() as session:
        bury(session, doomed, reason, database_now(session))
    logger.info("Version %s of model %s was destroyed.", number, model_id)
    return True


def _is_due(runtime: Runtime, session: Session) -> ColumnElement[bool]:
    now = database_now(session)
    # A version that was quarantined before there were dates of destruction has none.
    undated = and_(
        Version.destroy_after.is_(None),
        Version.quarantined_at <= now - predecessor_retention(runtime.settings),
    )
    return and_(Version.state == VersionState.QUARANTINED, or_(Version.destroy_after <= now, undated))


def _is_read(model_id: uuid.UUID, number: int) -> ColumnElement[bool]:
    """Whether a job starts from the version, or an audit that waits or runs compares it."""
    starts = exists().where(Job.model_id == model_id, Job.parent_version == number, Job.state.in_(OPEN_JOB))
    compares = exists().where(
        AuditRun.model_id == model_id,
        or_(AuditRun.parent_version == number, AuditRun.candidate_version == number),
        Job.id == AuditRun.job_id,
        Job.state.in_(OPEN_JOB),
    )
    return starts | compares


def _job_that_replaced(session: Session, version: Version) -> uuid.UUID | None:
    """Return the job whose requests made the version a predecessor: their history is where its end belongs."""
    return session.scalars(
        select(Version.job_id)
        .where(
            Version.model_id == version.model_id,
            Version.number > version.number,
            Version.origin == VersionOrigin.UNLEARNED,
        )
        .order_by(Version.number)
        .limit(1)
    ).one_or_none()


def _event(job_id: uuid.UUID, version: Version, reason: str, now: dt.datetime) -> Event:
    return Event(
        job_id=job_id,
        type="destroyed",
        status=None,
        reason=f"Version {version.number} of the model was destroyed: {reason}"[:MAX_REASON],
        details={"version": version.number, "digest": version.digest},
        created_at=now,
    )
