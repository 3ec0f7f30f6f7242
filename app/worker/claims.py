"""Claiming: which model's work is next, and who does it.

A claim is one short transaction. It takes the model with the oldest waiting work and no active job, and gathers
the waiting forget requests that ask for the same as the oldest one into a new job; a queued update job waits in
the same line by its age. PostgreSQL workers step over each other's models (`SKIP LOCKED`), SQLite has one writer
at a time, and on both a unique index admits one active job per model, whatever else should fail.

Jobs that only read a model need not have it to themselves. Audits wait in the same line, by their age; references
are trained when nothing else waits. Both kinds lock their own row and no model's.
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Subquery, exists, func, or_, select, union_all
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import Database, database_now
from app.forget_requests.states import change_status
from app.policies.effective import effective_policy
from app.settings import Settings
from app.tables import AuditRun, Dataset, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.worker.daily_limit import Weighed, admit
from app.worker.leases import ACTIVE, Lease, hold
from app.worker.reference_rows import known_references, reference_root
from app.worker.task import JobTask, RequestTarget, Stored
from unlearning.planner import AUTO

SEED_BITS = 31
CHANGING = tuple(kind for kind in JobKind if kind.changes_model)
UPLOADED = 0
"""In place of a version's number, for a checkpoint that never becomes one."""


@dataclass(frozen=True)
class Assignment:
    """A claimed job: the right to it, and what is to be done."""

    lease: Lease
    model_id: uuid.UUID
    model_name: str
    dataset_id: uuid.UUID
    task: JobTask
    traceparents: tuple[str, ...] = ()
    """Of the spans that its requests were submitted in."""

    @property
    def request_ids(self) -> tuple[uuid.UUID, ...]:
        """The forget requests it serves."""
        return tuple(uuid.UUID(target.request_id) for target in self.task.targets)


def work_waits(session: Session) -> bool:
    """Tell whether there may be something to claim or to reap; a look that takes no lock."""
    now = database_now(session)
    expired = exists().where(Job.state.in_(ACTIVE), Job.lease_expires_at <= now)
    reading = exists().where(*_queued(JobKind.AUDIT, JobKind.REFERENCE))
    return session.execute(select(or_(expired, _claimable(), reading))).scalar_one()


def urgent_work_waits(session: Session) -> bool:
    """Tell whether anything waits that training references ahead of time must give way to."""
    return session.execute(select(or_(_claimable(), exists().where(*_queued(JobKind.AUDIT))))).scalar_one()


def claim(
    database: Database, settings: Settings, owner: str, weighed: Weighed | None = None
) -> Assignment | None:
    """Take the job that has waited longest; None where there is nothing to do, or another worker was faster.

    Args:
        database: Where jobs are.
        settings: Limits, and how long the lease lasts.
        owner: Names the worker.
        weighed: Requests whose records were counted before, because of an earlier `WeighingNeededError`.

    Raises:
        WeighingNeededError: The model's daily limit may be hit: its requests must be weighed, outside any transaction.
    """
    try:
        with database.write() as session:
            found = (
                _next_audit(session)
                or _next_change(session, settings, weighed)
                or _next_reading(session, JobKind.AUDIT)
                or _next_reading(session, JobKind.REFERENCE)
            )
            if found is None:
                return None
            job, model = found
            _lease(job, owner, database_now(session), settings.lease_seconds)
            session.flush()
            return _assignment(session, job, model, settings)
    except IntegrityError:
        # Another worker's claim of the same model was committed after we had looked for active jobs: the
        # unique index stopped ours. The next look finds out what is left to do.
        return None


def resume(database: Database, settings: Settings, lease: Lease) -> Assignment:
    """Describe a job that is held already anew, after some of its requests have left it.

    Raises:
        LeaseLostError: It is no longer held.
    """
    with database.write() as session:
        job = hold(session, lease)
        return _assignment(session, job, session.get_one(Model, job.model_id), settings)


def _claimable() -> ColumnElement[bool]:
    """Tell whether work waits that changes a model, and none such is done on it."""
    return exists().where(Model.id == _waiting().c.model_id, ~_model_is_busy())


def _queued(*kinds: JobKind) -> tuple[ColumnElement[bool], ...]:
    return Job.state == JobState.QUEUED, Job.kind.in_(kinds)


def _next_audit(session: Session) -> tuple[Job, Model] | None:
    """Take the oldest audit if it has waited longer than everything that changes a model."""
    waiting = _waiting()
    since = select(func.min(waiting.c.created_at)).join(Model, Model.id == waiting.c.model_id)
    oldest_change = since.where(~_model_is_busy()).scalar_subquery()
    oldest_audit = select(func.min(Job.created_at)).where(*_queued(JobKind.AUDIT)).scalar_subquery()
    # Where nothing that changes a model waits, the comparison is with NULL: the audit then comes after the look at it.
    if not session.execute(select(oldest_audit < oldest_change)).scalar_one():
        return None
    return _next_reading(session, JobKind.AUDIT)


def _next_reading(session: Session, kind: JobKind) -> tuple[Job, Model] | None:
    """Lock and begin the oldest queued job of a kind that only reads; one that another worker looks at is left out."""
    job = session.scalars(
        select(Job)
        .where(*_queued(kind))
        .order_by(Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    ).one_or_none()
    if job is None:
        return None
    job.state = JobState.RUNNING
    job.attempts += 1
    return job, session.get_one(Model, job.model_id)


def _next_change(session: Session, settings: Settings, weighed: Weighed | None) -> tuple[Job, Model] | None:
    model = _next_model(session)
    if model is None:
        return None
    # Only now: a clock read before the look could be behind the end of the model's job that the look found ended.
    now = database_now(session)
    job = _next_job(session, model, settings, now, weighed)
    return (job, model) if job is not None else None


def _waiting() -> Subquery:
    """All waiting work that changes a model: whose it is and since when."""
    requests = select(ForgetRequest.model_id, ForgetRequest.created_at).where(
        ForgetRequest.status == RequestStatus.PENDING
    )
    updates = select(Job.model_id, Job.created_at).where(*_queued(JobKind.UPDATE))
    return union_all(requests, updates).subquery("waiting")


def _model_is_busy() -> ColumnElement[bool]:
    return exists().where(Job.model_id == Model.id, Job.state.in_(ACTIVE), Job.kind.in_(CHANGING))


def _next_model(session: Session) -> Model | None:
    """Lock the idle model whose work has waited longest; one that another transaction has locked is left out."""
    waiting = _waiting()
    oldest = (
        select(waiting.c.model_id, func.min(waiting.c.created_at).label("since"))
        .group_by(waiting.c.model_id)
        .subquery("oldest")
    )
    return session.scalars(
        select(Model)
        .join(oldest, oldest.c.model_id == Model.id)
        .where(~_model_is_busy())
        .order_by(oldest.c.since, Model.id)
        .limit(1)
        .with_for_update(of=Model, skip_locked=True, key_share=True)
    ).one_or_none()


def _next_job(
    session: Session, model: Model, settings: Settings, now: dt.datetime, weighed: Weighed | None
) -> Job | None:
    """Return the model's next job, its requests gathered; None where another worker was faster after all."""
    requests = _next_group(session, model, settings.max_coalesced)
    queued = session.scalars(
        select(Job)
        .where(Job.model_id == model.id, *_queued(JobKind.UPDATE))
        .with_for_update(skip_locked=True, key_share=True)
    ).one_or_none()
    if queued is not None and (not requests or queued.created_at < requests[0].created_at):
        queued.state = JobState.RUNNING
        queued.attempts += 1
        return queued
    requests = admit(session, settings, model, requests, now, weighed)
    if not requests:
        return None
    job = Job(id=new_id(), model_id=model.id, kind=JobKind.UNLEARN, state=JobState.RUNNING, created_at=now)
    session.add(job)
    session.flush()
    for request in requests:
        request.job_id = job.id
    reason, details = _claimed_reason(len(requests)), {"job": str(job.id)}
    change_status(session, requests, RequestStatus.RUNNING, reason, now, details)
    return job


def _next_group(session: Session, model: Model, most: int) -> Sequence[ForgetRequest]:
    """Lock the oldest waiting request and those that ask for the same, oldest first."""
    waiting = (ForgetRequest.model_id == model.id, ForgetRequest.status == RequestStatus.PENDING)
    age = ForgetRequest.created_at, ForgetRequest.id
    oldest = session.execute(
        select(ForgetRequest.group_key, ForgetRequest.split).where(*waiting).order_by(*age).limit(1)
    ).one_or_none()
    if oldest is None:
        return ()
    return session.scalars(
        select(ForgetRequest)
        .where(*waiting, ForgetRequest.group_key == oldest.group_key, ForgetRequest.split == oldest.split)
        .order_by(*age)
        .limit(most)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()


def _claimed_reason(requests: int) -> str:
    if requests == 1:
        return "A worker has begun with it."
    return f"A worker has begun with it and {requests - 1} more that ask for the same."


def _lease(job: Job, owner: str, now: dt.datetime, seconds: float) -> None:
    job.lease_owner = owner
    job.lease_token = uuid.uuid4()
    job.lease_expires_at = now + dt.timedelta(seconds=seconds)
    job.started_at = now
    job.finished_at = None
    job.seed = secrets.randbits(SEED_BITS)


def _assignment(session: Session, job: Job, model: Model, settings: Settings) -> Assignment:
    audit = _audit_of(session, job)
    number = audit.parent_version if audit is not None else model.latest_version
    version = session.get_one(Version, (model.id, number))
    dataset = session.get_one(Dataset, model.dataset_id)
    requests = session.scalars(
        select(ForgetRequest)
        .where(ForgetRequest.job_id == job.id, ForgetRequest.status == RequestStatus.RUNNING)
        .order_by(ForgetRequest.created_at, ForgetRequest.id)
    ).all()
    job.parent_version = version.number
    job.policy = effective_policy(session, settings, model).policy.model_dump(mode="json")
    if job.lease_token is None or job.seed is None:
        raise RuntimeError(f"job {job.id} was never leased")
    first = requests[0] if requests else None
    learned = _stored(session, dataset, version.snapshot)
    task = JobTask(
        job_id=str(job.id),
        kind=job.kind,
        family=model.family,
        parent=Stored(version.number, version.location, version.digest),
        snapshot=learned,
        head=_stored(session, dataset, dataset.head_snapshot) if job.kind.changes_model else learned,
        targets=_targets(job, audit, requests),
        guarantee=first.guarantee if first is not None else "any",
        method=first.method if first is not None else AUTO,
        parameters=first.parameters if first is not None else {},
        seed=job.seed,
        policy=job.policy,
        references=known_references(session, dataset.id),
        reference_root=reference_root(dataset.id),
        candidate=_candidate(session, model, audit) if audit is not None else None,
    )
    traceparents = tuple(request.traceparent for request in requests if request.traceparent is not None)
    return Assignment(Lease(job.id, job.lease_token), model.id, model.name, dataset.id, task, traceparents)


def _audit_of(session: Session, job: Job) -> AuditRun | None:
    if job.kind is not JobKind.AUDIT:
        return None
    return session.scalars(select(AuditRun).where(AuditRun.job_id == job.id)).one()


def _targets(
    job: Job, audit: AuditRun | None, requests: Sequence[ForgetRequest]
) -> tuple[RequestTarget, ...]:
    if audit is not None:
        return (RequestTarget(str(audit.id), audit.target),)
    if job.kind is JobKind.REFERENCE:
        target = (job.asked or {}).get("target")
        return (RequestTarget(str(job.id), target),) if target is not None else ()
    return tuple(RequestTarget(str(request.id), request.target) for request in requests)


def _candidate(session: Session, model: Model, audit: AuditRun) -> Stored:
    if audit.candidate_version is None:
        return Stored(UPLOADED, str(audit.location), str(audit.digest))
    version = session.get_one(Version, (model.id, audit.candidate_version))
    return Stored(version.number, version.location, version.digest)


def _stored(session: Session, dataset: Dataset, number: int) -> Stored:
    snapshot = session.get_one(Snapshot, (dataset.id, number))
    return Stored(number, snapshot.location, snapshot.digest)
