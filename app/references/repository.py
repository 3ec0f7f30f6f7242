"""SQL of references, as clients see them."""

import uuid

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.paging import Cursor, Page, page_of
from app.tables import Dataset, Job, Model, TrainedReference
from app.tables.job import JobKind, JobState
from app.tables.trained_reference import ReferencePurpose
from app.worker.reference_rows import commitment_to, digest_of_ids


def page(session: Session, model: Model, cursor: Cursor | None, limit: int) -> Page[TrainedReference]:
    """Return one page of a model's references, newest first."""
    query = select(TrainedReference).where(TrainedReference.model_id == model.id)
    return page_of(session, query, (TrainedReference.created_at, TrainedReference.id), cursor, limit)


def open_job(session: Session, model: Model) -> Job | None:
    """Return the job that trains references of a model and has not ended, None if there is none."""
    states = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)
    query = select(Job).where(Job.model_id == model.id, Job.kind == JobKind.REFERENCE, Job.state.in_(states))
    return session.scalars(query).one_or_none()


def count_retrained(session: Session, model: Model, dataset: Dataset, record_ids: tuple[str, ...]) -> int:
    """Count the references that an audit of the latest version's forgetting of these records would find."""
    return _count(
        session,
        model,
        TrainedReference.purpose == ReferencePurpose.RETRAINED,
        TrainedReference.left_out == commitment_to(dataset, digest_of_ids(record_ids)),
    )


def count_shadows(session: Session, model: Model) -> int:
    """Count the shadow models that an audit of the latest version would find, whatever is forgotten."""
    return _count(session, model, TrainedReference.purpose == ReferencePurpose.SHADOW)


def mean_seconds(session: Session, model_id: uuid.UUID) -> float | None:
    """Return what training a reference of the model has taken so far, on average; None if none was trained."""
    query = select(func.avg(TrainedReference.seconds)).where(TrainedReference.model_id == model_id)
    found = session.execute(query).scalar_one()
    return float(found) if found is not None else None


def _count(session: Session, model: Model, *conditions: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(TrainedReference)
    query = query.where(
        TrainedReference.model_id == model.id,
        TrainedReference.version == model.latest_version,
        TrainedReference.destroyed_at.is_(None),
        TrainedReference.superseded_at.is_(None),
        *conditions,
    )
    return session.execute(query).scalar_one()
