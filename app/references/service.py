"""Decisions about references. Nothing here commits."""

from app.call import Answer, Work
from app.forget_requests.repository import model_state_by_id
from app.forget_requests.validation import check_target
from app.jobs.schemas import JobRead
from app.locks import lock_model
from app.policies.effective import effective_policy
from app.references import repository
from app.references.errors import ReferenceJobExistsError, ReferencesNotWantedError
from app.references.schemas import ReferencesCreate
from app.registry.repository import get_model
from app.tables import Event, Job, Model
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope

RETRY_AFTER_SECONDS = 5
WAITS = "Waits until nothing else does."


def queue(work: Work, name: str, body: ReferencesCreate) -> Answer:
    """Queue a job that trains a model's references when no other work waits.

    Raises:
        ServiceError: There is no such model, its policy wants none, or such a job has not ended yet.
    """
    work.caller.require(Scope.MODELS_WRITE, name)
    model = lock_model(work.session, get_model(work.session, name).id)
    if effective_policy(work.session, work.runtime.settings, model).policy.reference == "never":
        raise ReferencesNotWantedError(model)
    if (waiting := repository.open_job(work.session, model)) is not None:
        raise ReferenceJobExistsError(model, waiting)
    if body.target is not None:
        state = model_state_by_id(work.session, model.id)
        check_target(work.runtime, state._replace(head_location=state.learned_location), body.target)
    job = _store(work, model, body)
    answer = JobRead.of(job, model.name)
    return Answer(answer, 202, location=f"/v1/jobs/{job.id}", retry_after=RETRY_AFTER_SECONDS)


def _store(work: Work, model: Model, body: ReferencesCreate) -> Job:
    job = Job(
        id=new_id(),
        model_id=model.id,
        kind=JobKind.REFERENCE,
        state=JobState.QUEUED,
        reason=WAITS,
        attempts=0,
        asked=body.model_dump(mode="json"),
        created_at=work.now,
    )
    work.session.add(job)
    work.session.flush()  # the event's row refers to the job's
    work.session.add(
        Event(job_id=job.id, type="status", status=job.state.value, reason=WAITS, created_at=work.now)
    )
    return job
