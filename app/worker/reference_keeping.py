"""Keeping what jobs have trained to be compared with, and letting go of what is no good.

References are an economy: where one cannot be kept, it is trained again another time, and the job goes on.
"""

import logging
import uuid
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from app.database import database_now
from app.runtime import Runtime
from app.worker.claims import Assignment
from app.worker.leases import LeaseLostError, hold
from app.worker.outages import OUTAGE
from app.worker.reference_rows import destroy_reference, enter_reference, reference_recorded
from app.worker.task import ReferenceDamaged, ReferenceStaged

logger = logging.getLogger(__name__)


def keep_reference(runtime: Runtime, assignment: Assignment, staged: ReferenceStaged, staging: Path) -> None:
    """Move a reference to its place and record it, in a transaction of its own that is fenced by the job's lease.

    Raises:
        LeaseLostError: The job is another worker's by now. No file is left.
    """
    try:
        runtime.storage.publish(staging / staged.part, staged.location)
        with runtime.database.write() as session:
            job = hold(session, assignment.lease)
            enter_reference(session, job, staged, database_now(session))
    except (*OUTAGE, OSError, IntegrityError) as error:
        # With an IntegrityError, another job was faster with the same reference: one is enough.
        logger.warning("A reference was not kept (%s).", type(error).__name__)
        _delete_unless_recorded(runtime, staged.location)
    except LeaseLostError:
        _delete_unless_recorded(runtime, staged.location)
        raise


def discard_damaged(runtime: Runtime, assignment: Assignment, damaged: ReferenceDamaged) -> None:
    """Take a damaged reference out of use and delete its files.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """
    logger.warning("The reference %s is damaged; it is not used again.", damaged.id)
    try:
        with runtime.database.write() as session:
            hold(session, assignment.lease)
            location = destroy_reference(session, uuid.UUID(damaged.id), database_now(session))
        if location is not None:
            runtime.storage.delete(location)
    except (*OUTAGE, OSError) as error:
        logger.warning("A damaged reference was not discarded (%s).", type(error).__name__)


def _delete_unless_recorded(runtime: Runtime, location: str) -> None:
    """Delete files that no row names; where nobody can tell, they stay until they are swept up."""
    try:
        with runtime.database.read() as session:
            recorded = reference_recorded(session, location)
        if not recorded:
            runtime.storage.delete(location)
    except (*OUTAGE, OSError):
        logger.warning("Files at %s may be left over.", location)
