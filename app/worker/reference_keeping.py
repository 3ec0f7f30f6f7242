"""Keeping what jobs have trained to be compared with, and letting go of what is no good.

References are an economy: where one cannot be kept, it is trained again another time, and the job goes on.
"""

import logging
import uuid
from functools import partial
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from app.database import database_now
from app.datasets.suppression import count_suppressed, forgotten_in
from app.locks import lock_model
from app.runtime import Runtime
from app.tables import Dataset, Version
from app.tables.version import VersionState
from app.worker.claims import Assignment
from app.worker.leases import LeaseLostError, hold
from app.worker.outages import OUTAGE
from app.worker.reference_rows import destroy_reference, enter_reference, reference_recorded
from app.worker.task import ReferenceDamaged, ReferenceStaged
from models.id_index import IdIndex
from unlearning.targets import TARGET, resolve_target

logger = logging.getLogger(__name__)


def keep_reference(runtime: Runtime, assignment: Assignment, staged: ReferenceStaged, staging: Path) -> None:
    """Move a reference to its place and record it, in a transaction of its own that is fenced by the job's lease.

    Raises:
        LeaseLostError: The job is another worker's by now. No file is left.
    """
    try:
        clean_among = _clean_among(runtime, assignment, staged)
        runtime.storage.publish(staging / staged.part, staged.location)
        with runtime.database.write() as session:
            # Under the model's lock no forgetting is published between the look at the version and the commit.
            lock_model(session, assignment.model_id)
            job = hold(session, assignment.lease)
            enter_reference(session, job, staged, database_now(session), clean_among=clean_among)
    except (*OUTAGE, OSError, IntegrityError) as error:
        # With an IntegrityError, another job was faster with the same reference: one is enough.
        logger.warning("A reference was not kept (%s).", type(error).__name__)
        _delete_unless_recorded(runtime, staged.location)
    except LeaseLostError:
        _delete_unless_recorded(runtime, staged.location)
        raise


def _clean_among(runtime: Runtime, assignment: Assignment, staged: ReferenceStaged) -> int | None:
    """Return how many records were ever forgotten if the reference has learned none of them, None if that is not known.

    It matters only for versions that are withdrawn: an audit of one may train on what was forgotten since, or leave
    out exactly that. Asked outside the transaction that enters the reference, as every id has to be hashed.
    """
    task = assignment.task
    if task.kind.changes_model:
        return None  # its parent is published, or its result is thrown away
    with runtime.database.read() as session:
        version = session.get_one(Version, (assignment.model_id, task.parent.number))
        if version.state is VersionState.PUBLISHED:
            return None
        dataset = session.get_one(Dataset, assignment.dataset_id)
        index = runtime.indexes.get(task.snapshot.location)
        left_out = _left_out(index, assignment) if staged.left_out is not None else frozenset()
        count = count_suppressed(session, dataset)
        fetch = partial(runtime.storage.materialise_file, task.snapshot.location)
        learned = (name for name in forgotten_in(session, dataset, fetch) if name not in left_out)
        return None if any(True for _ in learned) else count


def _left_out(index: IdIndex, assignment: Assignment) -> frozenset[str]:
    task = assignment.task
    targets = (TARGET.validate_python(request.target) for request in task.targets)
    return frozenset(
        name for target in targets for name in resolve_target(task.family, index, target).record_ids
    )


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
