"""Leases: a worker holds a job only as long as the database's clock says so.

Every change a worker makes to a job's fate goes through `hold`. A worker that slept through the end of its
lease finds nothing to hold, whatever it believes, and must throw its result away.
"""

import datetime as dt
import uuid
from dataclasses import dataclass

from sqlalchemy import ColumnElement, CursorResult, exists, select, update
from sqlalchemy.orm import Session

from app.database import database_now
from app.tables import ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobState

ACTIVE = (JobState.RUNNING, JobState.CANCELLING)


@dataclass(frozen=True)
class Lease:
    """The right to work on a job. The token fences it: every claim has a fresh one."""

    job_id: uuid.UUID
    token: uuid.UUID


class LeaseLostError(Exception):
    """The job is no longer this worker's: nothing may be written, and what was made must be discarded."""


class CancelledMeanwhileError(Exception):
    """The job, or one of its requests, was cancelled before its result was committed: it must not count."""


def hold(session: Session, lease: Lease) -> Job:
    """Lock the job of a lease that still stands; it cannot be taken over before the transaction ends.

    Raises:
        LeaseLostError: It ran out, or the job has ended.
    """
    job = session.scalars(
        select(Job)
        .where(*_stands(lease, database_now(session)))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise LeaseLostError(str(lease.job_id))
    return job


def renew(session: Session, lease: Lease, seconds: float) -> None:
    """Let the lease run for `seconds` from now.

    Raises:
        LeaseLostError: It ran out, or the job has ended.
    """
    now = database_now(session)
    result = session.execute(
        update(Job)
        .where(*_stands(lease, now))
        .values(lease_expires_at=now + dt.timedelta(seconds=seconds))
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount == 0:
        raise LeaseLostError(str(lease.job_id))


def cancel_requested(session: Session, lease: Lease) -> bool:
    """Tell whether anybody wants this job, or one of the requests it serves, stopped."""
    job_stops = exists().where(Job.id == lease.job_id, Job.state == JobState.CANCELLING)
    request_stops = exists().where(
        ForgetRequest.job_id == lease.job_id,
        ForgetRequest.status == RequestStatus.RUNNING,
        ForgetRequest.cancel_requested_at.is_not(None),
    )
    return session.execute(select(job_stops | request_stops)).scalar_one()


def _stands(lease: Lease, now: dt.datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.id == lease.job_id,
        Job.lease_token == lease.token,
        Job.state.in_(ACTIVE),
        Job.lease_expires_at > now,
    )
