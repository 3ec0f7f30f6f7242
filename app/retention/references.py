"""Destroying cached references that may hold forgotten records: models, trained on people's data like any other."""

import logging
import threading

from sqlalchemy import select

from app.database import database_now
from app.retention.snapshots import began_before
from app.runtime import Runtime
from app.tables import TrainedReference

logger = logging.getLogger(__name__)


def destroy_references(runtime: Runtime, stop: threading.Event) -> tuple[int, int]:
    """Destroy the superseded references that no job under way may read; return how many, and how many would not go.

    Files first, then the row: a superseded reference is never used again by a job that begins later.
    """
    destroyed = failed = 0
    query = select(TrainedReference).where(
        TrainedReference.superseded_at.is_not(None), TrainedReference.destroyed_at.is_(None)
    )
    with runtime.database.read() as session:
        references = session.scalars(query).all()
    for reference in references:
        if stop.is_set():
            break
        try:
            destroyed += _destroy(runtime, reference)
        except OSError:
            failed += 1
            logger.exception("Reference %s could not be destroyed.", reference.id)
    return destroyed, failed


def _destroy(runtime: Runtime, reference: TrainedReference) -> bool:
    if reference.superseded_at is None:
        return False
    with runtime.database.read() as session:
        if session.execute(select(began_before(reference.dataset_id, reference.superseded_at))).scalar_one():
            return False
    runtime.storage.delete(reference.location)
    with runtime.database.write() as session:
        row = session.get_one(TrainedReference, reference.id, with_for_update=True)
        if row.destroyed_at is None:
            row.destroyed_at = database_now(session)
    return True
