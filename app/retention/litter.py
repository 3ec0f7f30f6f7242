"""Files that nothing names: what processes that died have left, and copies of what is gone.

Age comes first, as what is just being written is named by nothing either. It is not all: what a job that is at work
may have written is kept, a candidate's place for as long as its job may want it, a staging directory for as long as
a process holds it or a job that runs is called like it, and a place is written off in the database before its files are deleted, so that a row that came
too late is refused (`app.retention.locations`).
"""

import datetime as dt
import logging
import threading

from sqlalchemy import select

from app.database import database_now
from app.retention.locations import ROOTS, is_named, write_off
from app.runtime import Runtime
from app.storage import Found
from app.tables import Job
from app.tables.job import JobState

ACTIVE = (JobState.RUNNING, JobState.CANCELLING)

logger = logging.getLogger(__name__)


def delete_litter(runtime: Runtime, stop: threading.Event) -> tuple[int, int]:
    """Delete stored directories that no row names; return how many, and how many would not go."""
    deleted = failed = 0
    before = _before(runtime)
    for root, depth in ROOTS.items():
        for found in runtime.storage.directories(root, depth):
            if stop.is_set():
                return deleted, failed
            if found.modified >= before:
                continue
            try:
                deleted += _delete(runtime, found)
            except OSError:
                failed += 1
                logger.exception("Litter at %s could not be deleted.", found.location)
    return deleted, failed


def delete_local_litter(runtime: Runtime, stop: threading.Event) -> int:
    """Delete this machine's copies of what is gone, and abandoned staging; return how many directories."""
    return _delete_copies(runtime, stop) + _delete_staging(runtime, stop)


def _delete(runtime: Runtime, found: Found) -> bool:
    location = found.location
    with runtime.database.read() as session:
        if is_named(session, location):  # nearly everything is: asked without a lock first
            return False
    with runtime.database.write() as session:
        if not write_off(session, location, found.modified, database_now(session)):
            return False
    runtime.storage.delete(location)
    logger.info("Litter at %s was deleted.", location)
    return True


def _delete_copies(runtime: Runtime, stop: threading.Event) -> int:
    copies = {location for root, depth in ROOTS.items() for location in runtime.storage.cached(root, depth)}
    stale = _not_named(runtime, copies, stop)
    for location in stale:
        runtime.storage.delete_cached(location)
    for location in _not_named(runtime, set(runtime.indexes.locations()), stop):
        runtime.indexes.discard(location)
    return len(stale)


def _not_named(runtime: Runtime, locations: set[str], stop: threading.Event) -> list[str]:
    stale = []
    with runtime.database.read() as session:
        for location in sorted(locations):
            if stop.is_set():
                break
            if not is_named(session, location):
                stale.append(location)
    return stale


def _delete_staging(runtime: Runtime, stop: threading.Event) -> int:
    deleted = 0
    names = list(runtime.storage.abandoned_staging(_before(runtime)))
    with runtime.database.read() as session:
        tokens = session.scalars(select(Job.lease_token).where(Job.state.in_(ACTIVE))).all()
    held = {token.hex for token in tokens if token is not None}
    for name in names:
        if name not in held and not stop.is_set():
            runtime.storage.discard_staging(name)
            deleted += 1
    return deleted


def _before(runtime: Runtime) -> dt.datetime:
    """Return when litter was last written to, at the latest, by this machine's clock: the safety age is a day."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=runtime.settings.litter_seconds)
