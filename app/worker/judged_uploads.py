"""Checkpoints that were uploaded to be judged: none outlives its audit."""

import logging

from sqlalchemy import select

from app.runtime import Runtime
from app.tables import AuditRun, Job
from app.tables.job import JobState
from app.worker.leases import ACTIVE

logger = logging.getLogger(__name__)


def discard_judged_uploads(runtime: Runtime) -> None:
    """Delete the checkpoints of audits that have ended, however they did."""
    ended = Job.state.not_in((JobState.QUEUED, *ACTIVE))
    query = select(AuditRun.id, AuditRun.location).join(Job).where(AuditRun.location.is_not(None), ended)
    with runtime.database.read() as session:
        left = session.execute(query).all()
    for audit_id, location in left:
        try:
            runtime.storage.delete(str(location))
        except OSError as error:
            logger.warning(
                "A judged checkpoint was not deleted (%s); tried again later.", type(error).__name__
            )
            continue
        with runtime.database.write() as session:
            session.get_one(AuditRun, audit_id).location = None
