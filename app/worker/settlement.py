"""What becomes of a job that publishes nothing, and of the requests it served.

| what happened                            | one request            | several                        |
| ---------------------------------------- | ---------------------- | ------------------------------ |
| a method raised, nothing could be planned | failed                | pending again, in two halves   |
| it ran out of memory                     | failed                 | pending again, in two halves   |
| the process or the worker died, or the storage was away | pending again; after `max_attempts` deaths as above | the same |
| it ran too long, or the parent is damaged | failed                | all failed                     |
| somebody cancelled                       | cancelled              | those cancelled, the rest go on |
| the worker is stopped, or the model has a newer version | pending again | all pending again       |
| no method passed its audit               | needs_review           | all needs_review               |

A job that waits in a queue of its own (an update, an audit, one that trains references) is queued again where
requests would be pending again. Locks are taken in the order of `app.locks`.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.database import Database, database_now
from app.forget_requests.states import change_status
from app.locks import lock_job, lock_model
from app.settings import Settings
from app.tables import AuditRun, ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.worker.claims import Assignment
from app.worker.job_records import MAX_REASON, end_job, record_rungs, running_requests
from app.worker.leases import ACTIVE, CancelledMeanwhileError, cancel_requested, hold
from app.worker.task import Failure, FailureKind, Finished

FIRST_HALF, SECOND_HALF = "0", "1"
WORKER_DIED = "Its worker died or lost touch with the database."
CANCELLED = "It was cancelled on request."


def reap(database: Database, settings: Settings) -> list[str]:
    """Take expired jobs away from the workers that held them; return those leases' tokens, in hexadecimal."""
    with database.read() as session:
        now = database_now(session)
        expired = session.execute(
            select(Job.id, Job.model_id).where(Job.state.in_(ACTIVE), Job.lease_expires_at <= now)
        ).all()
    tokens = []
    for job_id, model_id in expired:
        with database.write() as session:
            lock_model(session, model_id)
            job = lock_job(session, job_id)
            now = database_now(session)
            if job.state in ACTIVE and job.lease_expires_at is not None and job.lease_expires_at <= now:
                tokens.append(job.lease_token.hex if job.lease_token is not None else "")
                _settle_death(session, job, WORKER_DIED, JobState.ABANDONED, settings, now)
    return tokens


def settle_failure(database: Database, assignment: Assignment, failure: Failure, settings: Settings) -> None:
    """End a job whose process has no result.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        record_rungs(session, job, failure, now)
        job.traceback_digest = failure.traceback_digest
        fail_bad_targets(session, job, failure.bad_targets or {}, now)
        if failure.kind.is_death:
            _settle_death(session, job, failure.reason, JobState.FAILED, settings, now)
            return
        requests = _without_cancelled(session, job, now)
        if failure.kind in {FailureKind.INPUT, FailureKind.TIMEOUT}:
            change_status(session, requests, RequestStatus.FAILED, failure.reason[:MAX_REASON], now)
        else:
            _halve_or_fail(session, requests, failure.reason, now)
        end_job(session, job, JobState.FAILED, failure.reason, now)

    _fenced(database, assignment, settle)


def settle_cancellation(database: Database, assignment: Assignment) -> bool:
    """Cancel what shall be cancelled, now that the process is gone; tell whether requests are left to serve.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """
    left = False

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        nonlocal left
        left = bool(_without_cancelled(session, job, now))
        if left:
            job.state = JobState.RUNNING  # the others go on, without those that left
        else:
            end_job(session, job, JobState.CANCELLED, CANCELLED, now)

    _fenced(database, assignment, settle)
    return left


def release(database: Database, assignment: Assignment, reason: str) -> None:
    """Give a job back unfinished through no fault of its own: its work waits again at once.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        requests = _without_cancelled(session, job, now)
        change_status(session, requests, RequestStatus.PENDING, reason, now)
        if job.kind.waits_in_queue and job.state is not JobState.CANCELLING:
            job.attempts -= 1
            _queue_again(session, job, reason, now)
        else:
            end_job(session, job, JobState.ABANDONED, reason, now)

    _fenced(database, assignment, settle)


def settle_bad_targets(database: Database, assignment: Assignment, finished: Finished) -> None:
    """End a job that had nothing to forget, because no request's target exists any more.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        fail_bad_targets(session, job, finished.bad_targets, now)
        end_job(session, job, JobState.FAILED, "No target of its requests exists any more.", now)

    _fenced(database, assignment, settle)


def settle_review(database: Database, assignment: Assignment, finished: Finished) -> None:
    """Leave the decision to a person: nothing passed its audit.

    Raises:
        LeaseLostError: The job is another worker's by now.
        CancelledMeanwhileError: A request was cancelled, so the candidate forgets more than is asked for.
    """
    reason = "No method's result passed its audit; a person must decide."

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        if cancel_requested(session, assignment.lease):
            raise CancelledMeanwhileError
        fail_bad_targets(session, job, finished.bad_targets, now)
        requests = running_requests(session, job)
        candidate = finished.candidate.model_dump(mode="json") if finished.candidate is not None else None
        served = [str(request.id) for request in requests]
        record_rungs(session, job, finished, now, candidate=candidate, served=served)
        change_status(session, requests, RequestStatus.NEEDS_REVIEW, reason, now)
        end_job(session, job, JobState.NEEDS_REVIEW, reason, now)

    _fenced(database, assignment, settle)


def settle_audit(database: Database, assignment: Assignment, audit: dict[str, Any]) -> None:
    """Keep what an audit without unlearning has measured.

    Raises:
        LeaseLostError: The job is another worker's by now.
        CancelledMeanwhileError: Nobody wants the result any more.
    """

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        if job.state is JobState.CANCELLING:
            raise CancelledMeanwhileError
        run = session.scalars(select(AuditRun).where(AuditRun.job_id == job.id)).one()
        run.result, run.verdict = audit, str(audit["verdict"])
        end_job(session, job, JobState.COMPLETED, f"The audit's verdict is {run.verdict}.", now)

    _fenced(database, assignment, settle)


def settle_references(database: Database, assignment: Assignment) -> None:
    """End a job that has trained what it was asked for; its references were kept one by one.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        end_job(session, job, JobState.COMPLETED, "The references are there.", now)

    _fenced(database, assignment, settle)


def settle_nothing_to_do(database: Database, assignment: Assignment) -> None:
    """End an update job whose model has learned the head already.

    Raises:
        LeaseLostError: The job is another worker's by now.
    """

    def settle(session: Session, job: Job, now: dt.datetime) -> None:
        reason = "The latest version has learned the head of the dataset already."
        end_job(session, job, JobState.COMPLETED, reason, now)

    _fenced(database, assignment, settle)


def fail_bad_targets(session: Session, job: Job, reasons: Mapping[str, str], now: dt.datetime) -> None:
    """Fail the requests whose targets cannot be forgotten, each with its own reason."""
    if not reasons:
        return
    for request in running_requests(session, job):
        if (reason := reasons.get(str(request.id))) is not None:
            change_status(session, [request], RequestStatus.FAILED, reason[:MAX_REASON], now)


def _fenced(
    database: Database, assignment: Assignment, settle: Callable[[Session, Job, dt.datetime], None]
) -> None:
    with database.write() as session:
        lock_model(session, assignment.model_id)
        job = hold(session, assignment.lease)
        settle(session, job, database_now(session))


def _settle_death(
    session: Session, job: Job, reason: str, state: JobState, settings: Settings, now: dt.datetime
) -> None:
    requests = _without_cancelled(session, job, now)
    if job.kind.waits_in_queue and job.state is JobState.RUNNING and job.attempts < settings.max_attempts:
        _queue_again(session, job, reason, now)
        return
    for request in requests:
        request.attempts += 1
    if any(request.attempts >= settings.max_attempts for request in requests):
        _halve_or_fail(session, requests, f"{reason} It was tried {settings.max_attempts} times.", now)
    else:
        change_status(session, requests, RequestStatus.PENDING, f"{reason} It is tried again.", now)
    end_job(session, job, JobState.CANCELLED if job.state is JobState.CANCELLING else state, reason, now)


def _halve_or_fail(
    session: Session, requests: Sequence[ForgetRequest], reason: str, now: dt.datetime
) -> None:
    if len(requests) == 1:
        change_status(session, requests, RequestStatus.FAILED, reason[:MAX_REASON], now)
        return
    middle = (len(requests) + 1) // 2
    for place, request in enumerate(requests):
        request.split += FIRST_HALF if place < middle else SECOND_HALF
        request.attempts = 0
    why = f"A job of {len(requests)} requests failed; each half is tried on its own. {reason}"
    change_status(session, requests, RequestStatus.PENDING, why[:MAX_REASON], now)


def _without_cancelled(session: Session, job: Job, now: dt.datetime) -> list[ForgetRequest]:
    """Cancel the requests that asked for it and return the others."""
    requests = running_requests(session, job)
    leaving = [request for request in requests if request.cancel_requested_at is not None]
    change_status(session, leaving, RequestStatus.CANCELLED, CANCELLED, now)
    return [request for request in requests if request.cancel_requested_at is None]


def _queue_again(session: Session, job: Job, reason: str, now: dt.datetime) -> None:
    """Queue a job again, unless it is an update and a later one waits already and will do the same work."""
    later = select(
        exists().where(Job.model_id == job.model_id, Job.state == JobState.QUEUED, Job.kind == JobKind.UPDATE)
    )
    if job.kind is JobKind.UPDATE and session.execute(later).scalar_one():
        end_job(session, job, JobState.ABANDONED, f"{reason} A later update job does its work.", now)
    else:
        end_job(session, job, JobState.QUEUED, f"{reason} It is tried again.", now)
