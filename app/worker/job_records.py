"""What is written about a job: its end, its progress and its rungs. The row must be locked by the caller."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.tables import AuditRun, Event, ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.telemetry import metrics
from app.worker.task import Failure, Finished

MAX_REASON = 2000
"""Characters of a reason that the tables keep."""


def running_requests(session: Session, job: Job) -> Sequence[ForgetRequest]:
    """Lock the requests that a job serves at present, oldest first."""
    return session.scalars(
        select(ForgetRequest)
        .where(ForgetRequest.job_id == job.id, ForgetRequest.status == RequestStatus.RUNNING)
        .order_by(ForgetRequest.created_at, ForgetRequest.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def end_job(session: Session, job: Job, state: JobState, reason: str, now: dt.datetime) -> None:
    """Move a job out of its active states; with them its lease ends."""
    kind, started = job.kind.value, job.started_at
    metrics.when_committed(session, lambda: _count_end(kind, state, started, now))
    job.state = state
    job.reason = reason[:MAX_REASON]
    job.lease_expires_at = None
    if state is not JobState.QUEUED:
        job.finished_at = now
        _erase_targets(session, job)
    session.add(
        Event(job_id=job.id, type="status", status=state.value, reason=reason[:MAX_REASON], created_at=now)
    )


def _count_end(kind: str, state: JobState, started: dt.datetime | None, now: dt.datetime) -> None:
    metrics.jobs.labels(kind, state.value).inc()
    if started is not None:
        metrics.job_seconds.labels(kind).observe(max(0.0, (now - started).total_seconds()))


def _erase_targets(session: Session, job: Job) -> None:
    """Forget the ids that an audit or a reference job was about: once it has ended, nobody needs them again."""
    if job.asked is not None:
        job.asked = {**job.asked, "target": None}
    if job.kind is JobKind.AUDIT:
        session.execute(update(AuditRun).where(AuditRun.job_id == job.id).values(target=None))


def record_rungs(
    session: Session,
    job: Job,
    tried: Finished | Failure,
    now: dt.datetime,
    **outcome: Any,
) -> None:
    """Keep what a job planned, measured and left out, each rung as an event too."""
    job.plan = tried.plan
    rungs, skipped = list(tried.rungs), list(tried.skipped)
    job.outcome = {"rungs": rungs, "skipped": skipped, **outcome}
    metrics.when_committed(session, lambda: metrics.count_rungs(rungs))
    session.add_all(
        Event(
            job_id=job.id,
            type="rung",
            status=_verdict(rung),
            reason=_sentence(rung)[:MAX_REASON],
            details=rung,
            created_at=now,
        )
        for rung in rungs
    )


def record_progress(session: Session, job: Job, progress: dict[str, Any], now: dt.datetime) -> None:
    """Note how far a job has come."""
    job.progress = progress
    reason = f"{progress['stage']}: {progress['step']} of {progress['of']}"
    session.add(
        Event(job_id=job.id, type="progress", reason=reason[:MAX_REASON], details=progress, created_at=now)
    )


def _verdict(rung: dict[str, Any]) -> str:
    return str(rung["audit"]["verdict"]) if rung["audit"] is not None else "failed"


def _sentence(rung: dict[str, Any]) -> str:
    outcome = rung["audit"]["summary"] if rung["audit"] is not None else rung["failure"]
    return f"{rung['method']}: {outcome}"
