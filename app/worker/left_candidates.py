"""Candidates that nobody will accept any more, because their requests have left the review."""

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from app.database import database_now
from app.locks import lock_job, lock_model
from app.runtime import Runtime
from app.tables import ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobState
from app.worker.job_records import end_job
from app.worker.publication import candidate_location

REASON = "Its requests have left the review; the result was not accepted."


def discard_left_candidates(runtime: Runtime) -> None:
    """End jobs in review that no request waits for, and delete what they have kept."""
    with runtime.database.read() as session:
        left = session.execute(select(Job.id, Job.model_id).where(*_is_left())).all()
    for job_id, model_id in left:
        with runtime.database.write() as session:
            lock_model(session, model_id)
            job = lock_job(session, job_id)
            if not _still_left(session, job):
                continue
            job.outcome = {**(job.outcome or {}), "candidate": None}
            end_job(session, job, JobState.FAILED, REASON, database_now(session))
        # Only now: had the transaction failed, the files might still have been wanted.
        runtime.storage.delete(candidate_location(job_id))


def _is_left() -> tuple[ColumnElement[bool], ...]:
    waits = exists().where(ForgetRequest.job_id == Job.id, ForgetRequest.status == RequestStatus.NEEDS_REVIEW)
    return Job.state == JobState.NEEDS_REVIEW, ~waits


def _still_left(session: Session, job: Job) -> bool:
    return session.execute(select(exists().where(Job.id == job.id, *_is_left()))).scalar_one()
