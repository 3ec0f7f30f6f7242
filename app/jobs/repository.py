"""SQL of jobs."""

import uuid
from collections.abc import Iterator

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.jobs.schemas import Filters
from app.locks import lock_job, lock_model
from app.paging import Cursor, Page, page_of
from app.tables import Dataset, Job, Model, Version
from app.tables.job import JobKind, JobState


def find(session: Session, job_id: uuid.UUID, models: frozenset[str] | None) -> tuple[Job, Model] | None:
    """Return a job and its model, None where there is none for a key limited to `models`."""
    query = select(Job, Model).join_from(Job, Model).where(Job.id == job_id)
    if models is not None:
        query = query.where(Model.name.in_(models))
    return session.execute(query).one_or_none()


def lock(session: Session, job: Job) -> Job:
    """Lock a job and its model: no worker begins or ends it before the transaction does."""
    lock_model(session, job.model_id)
    return lock_job(session, job.id)


def page(
    session: Session, models: frozenset[str] | None, filters: Filters, cursor: Cursor | None, limit: int
) -> Page[Job]:
    """Return one page of the jobs that a key limited to `models` may see, newest first."""
    query = select(Job)
    if models is not None or filters.model is not None:
        query = query.join(Model)
    if models is not None:
        query = query.where(Model.name.in_(models))
    query = query.where(*_conditions(filters))
    return page_of(session, query, (Job.created_at, Job.id), cursor, limit)


def model_names(session: Session, ids: set[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return the names of models."""
    return dict(session.execute(select(Model.id, Model.name).where(Model.id.in_(ids))).all())


def lock_model_named(session: Session, name: str) -> Model | None:
    """Lock a model, None where there is none: no other update can be queued for it meanwhile."""
    model_id = session.scalars(select(Model.id).where(Model.name == name)).one_or_none()
    return lock_model(session, model_id) if model_id is not None else None


def learned_and_head(session: Session, model: Model) -> tuple[int, int]:
    """Return the numbers of the snapshot that the latest version has learned, and of the dataset's head."""
    query = (
        select(Version.snapshot, Dataset.head_snapshot)
        .join(Dataset, Dataset.id == Version.dataset_id)
        .where(Version.model_id == model.id, Version.number == model.latest_version)
    )
    return session.execute(query).one()


def queued_update(session: Session, model: Model) -> Job | None:
    """Return the update job that waits for a worker, None if there is none."""
    query = select(Job).where(
        Job.model_id == model.id, Job.state == JobState.QUEUED, Job.kind == JobKind.UPDATE
    )
    return session.scalars(query).one_or_none()


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.state:
        yield Job.state.in_(filters.state)
    if filters.model is not None:
        yield Model.name == filters.model
    if filters.kind is not None:
        yield Job.kind == filters.kind
