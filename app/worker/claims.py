"""Claiming: which model's work is next, and who does it.

A claim is one short transaction. It takes the model with the oldest waiting work and no active job, and gathers
the waiting forget requests that ask for the same as the oldest one into a new job; a queued update job waits in
the same line by its age. PostgreSQL workers step over each other's models (`SKIP LOCKED`), SQLite has one writer
at a time, and on both a unique index admits one active job per model, whatever else should fail.
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
from app.settings import Settings
from app.tables import Dataset, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.worker.leases import ACTIVE, Lease, hold
from app.worker.task import JobTask, RequestTarget, Stored
from unlearning.planner import AUTO

SEED_BITS = 31


@dataclass(frozen=True)
class Assignment:
    """A claimed job: the right to it, and what is to be done."""

    lease: Lease
    model_id: uuid.UUID
    model_name: str
    dataset_id: uuid.UUID
    task: JobTask

    @property
    def request_ids(self) -> tuple[uuid.UUID, ...]:
        """The forget requests it serves."""
        return tuple(uuid.UUID(target.request_id) for target in self.task.targets)


def work_waits(session: Session) -> bool:
    """Tell whether there may be something to claim or to reap; a look that takes no lock."""
    now = database_now(session)
    expired = exists().where(Job.state.in_(ACTIVE), Job.lease_expires_at <= now)
    claimable = exists().where(Model.id == _waiting().c.model_id, ~_model_is_busy())
    return session.execute(select(or_(expired, claimable))).scalar_one()


def claim(database: Database, settings: Settings, owner: str) -> Assignment | None:
    """Take the job that has waited longest; None where there is nothing to do, or another worker was faster."""
    try:
        with database.write() as session:
            model = _next_model(session)
            if model is None:
                return None
            now = database_now(session)
            job = _next_job(session, model, settings.max_coalesced, now)
            if job is None:
                return None
            _lease(job, owner, now, settings.lease_seconds)
            session.flush()
            return _assignment(session, job, model)
    except IntegrityError:
        # Another worker's claim of the same model was committed after we had looked for active jobs: the
        # unique index stopped ours. The next look finds out what is left to do.
        return None


def resume(database: Database, lease: Lease) -> Assignment:
    """Describe a job that is held already anew, after some of its requests have left it.

    Raises:
        LeaseLostError: It is no longer held.
    """
    with database.write() as session:
        job = hold(session, lease)
        return _assignment(session, job, session.get_one(Model, job.model_id))


def _waiting() -> Subquery:
    """All waiting work: whose it is and since when."""
    requests = select(ForgetRequest.model_id, ForgetRequest.created_at).where(
        ForgetRequest.status == RequestStatus.PENDING
    )
    updates = select(Job.model_id, Job.created_at).where(Job.state == JobState.QUEUED)
    return union_all(requests, updates).subquery("waiting")


def _model_is_busy() -> ColumnElement[bool]:
    return exists().where(Job.model_id == Model.id, Job.state.in_(ACTIVE))


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


def _next_job(session: Session, model: Model, most: int, now: dt.datetime) -> Job | None:
    """Return the model's next job, its requests gathered; None where another worker was faster after all."""
    requests = _next_group(session, model, most)
    queued = session.scalars(
        select(Job)
        .where(Job.model_id == model.id, Job.state == JobState.QUEUED)
        .with_for_update(skip_locked=True, key_share=True)
    ).one_or_none()
    if queued is not None and (not requests or queued.created_at < requests[0].created_at):
        queued.state = JobState.RUNNING
        queued.attempts += 1
        return queued
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


def _assignment(session: Session, job: Job, model: Model) -> Assignment:
    version = session.get_one(Version, (model.id, model.latest_version))
    dataset = session.get_one(Dataset, model.dataset_id)
    requests = session.scalars(
        select(ForgetRequest)
        .where(ForgetRequest.job_id == job.id, ForgetRequest.status == RequestStatus.RUNNING)
        .order_by(ForgetRequest.created_at, ForgetRequest.id)
    ).all()
    job.parent_version = version.number
    if job.lease_token is None or job.seed is None:
        raise RuntimeError(f"job {job.id} was never leased")
    first = requests[0] if requests else None
    task = JobTask(
        job_id=str(job.id),
        kind=job.kind,
        family=model.family,
        parent=Stored(version.number, version.location, version.digest),
        snapshot=_stored(session, dataset, version.snapshot),
        head=_stored(session, dataset, dataset.head_snapshot),
        targets=tuple(RequestTarget(str(request.id), request.target) for request in requests),
        guarantee=first.guarantee if first is not None else "any",
        method=first.method if first is not None else AUTO,
        parameters=first.parameters if first is not None else {},
        seed=job.seed,
    )
    return Assignment(Lease(job.id, job.lease_token), model.id, model.name, dataset.id, task)


def _stored(session: Session, dataset: Dataset, number: int) -> Stored:
    snapshot = session.get_one(Snapshot, (dataset.id, number))
    return Stored(number, snapshot.location, snapshot.digest)
