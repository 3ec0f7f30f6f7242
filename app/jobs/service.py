"""Decisions about jobs. Nothing here commits."""

import uuid

from app.call import Answer, Work
from app.jobs import repository
from app.jobs.errors import (
    CannotUpdateError,
    JobNotCancellableError,
    JobNotFoundError,
    NothingToLearnError,
)
from app.jobs.schemas import Filters, JobRead
from app.paging import Cursor, Page
from app.registry.errors import ModelNotFoundError
from app.tables import Event, Job, Model
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope
from app.worker.job_records import end_job
from unlearning.catalog import methods

RETRY_AFTER_SECONDS = 1


def show(work: Work, job_id: uuid.UUID) -> JobRead:
    """Show one job that the key may see."""
    job, model = _visible(work, job_id)
    return JobRead.of(job, model.name)


def list_page(work: Work, filters: Filters, cursor: Cursor | None, limit: int) -> Page[JobRead]:
    """List the jobs that the key may see, newest first."""
    page = repository.page(work.session, work.caller.models, filters, cursor, limit)
    names = repository.model_names(work.session, {job.model_id for job in page.rows})
    return Page([JobRead.of(job, names[job.model_id]) for job in page.rows], page.next)


def queue_update(work: Work, name: str) -> Answer:
    """Queue an update of a model to its dataset's head; one that waits already is the answer too."""
    work.caller.require(Scope.MODELS_WRITE, name)
    model = repository.lock_model_named(work.session, name)
    if model is None:
        raise ModelNotFoundError(name)
    job = repository.queued_update(work.session, model) or _queue(work, model)
    return _accepted(job, model)


def cancel(work: Work, job_id: uuid.UUID) -> Answer:
    """Cancel a job that waits in the queue, or ask the worker to stop one that runs."""
    job, model = _visible(work, job_id)
    work.caller.require(Scope.MODELS_WRITE, model.name)
    repository.lock(work.session, job)
    if not job.kind.waits_in_queue:
        raise JobNotCancellableError(job)
    match job.state:
        case JobState.QUEUED:
            end_job(work.session, job, JobState.CANCELLED, "Cancelled by the client.", work.now)
            return Answer(JobRead.of(job, model.name), 200)
        case JobState.RUNNING:
            _change_state(work, job, JobState.CANCELLING, "The client asked for it to be cancelled.")
        case JobState.CANCELLING:
            pass
        case _:
            raise JobNotCancellableError(job)
    return _accepted(job, model)


def _visible(work: Work, job_id: uuid.UUID) -> tuple[Job, Model]:
    found = repository.find(work.session, job_id, work.caller.models)
    if found is None:
        raise JobNotFoundError(job_id)
    return found


def _queue(work: Work, model: Model) -> Job:
    learned, head = repository.learned_and_head(work.session, model)
    if learned == head:
        raise NothingToLearnError(model.name, model.latest_version, head)
    if not _can_be_updated(model):
        raise CannotUpdateError(model.name, model.architecture)
    job = Job(
        id=new_id(),
        model_id=model.id,
        kind=JobKind.UPDATE,
        state=JobState.QUEUED,
        attempts=0,
        created_at=work.now,
    )
    work.session.add(job)
    work.session.flush()  # the event's row refers to the job's
    _change_state(work, job, JobState.QUEUED, "Waits for a worker.")
    return job


def _can_be_updated(model: Model) -> bool:
    return any(
        method.update is not None
        and (method.architectures is None or model.architecture in method.architectures)
        for method in methods(model.family)
    )


def _change_state(work: Work, job: Job, state: JobState, reason: str) -> None:
    job.state = state
    job.reason = reason
    work.session.add(
        Event(job_id=job.id, type="status", status=state.value, reason=reason, created_at=work.now)
    )


def _accepted(job: Job, model: Model) -> Answer:
    return Answer(
        JobRead.of(job, model.name), 202, location=f"/v1/jobs/{job.id}", retry_after=RETRY_AFTER_SECONDS
    )
