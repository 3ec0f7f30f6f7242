"""SQL of audits."""

import uuid
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from app.audits.schemas import Filters
from app.paging import Cursor, Page, page_of
from app.tables import AuditRun, Job, Model


def find(
    session: Session, audit_id: uuid.UUID, models: frozenset[str] | None
) -> tuple[AuditRun, Job, str] | None:
    """Return an audit with its job and its model's name, None where there is none for a key limited to `models`."""
    query = (
        select(AuditRun, Job, Model.name).join(Job, Job.id == AuditRun.job_id).where(AuditRun.id == audit_id)
    )
    query = query.join(Model, Model.id == AuditRun.model_id)
    if models is not None:
        query = query.where(Model.name.in_(models))
    return session.execute(query).one_or_none()


def page(
    session: Session, models: frozenset[str] | None, filters: Filters, cursor: Cursor | None, limit: int
) -> Page[AuditRun]:
    """Return one page of the audits that a key limited to `models` may see, newest first."""
    query = select(AuditRun)
    if models is not None or filters.model is not None:
        query = query.join(Model, Model.id == AuditRun.model_id)
    if models is not None:
        query = query.where(Model.name.in_(models))
    query = query.where(*_conditions(filters))
    return page_of(session, query, (AuditRun.created_at, AuditRun.id), cursor, limit)


def jobs_of(session: Session, audits: Sequence[AuditRun]) -> dict[uuid.UUID, tuple[Job, str]]:
    """Return the audits' jobs with their models' names, by the job's id."""
    query = select(Job, Model.name).join(Model, Model.id == Job.model_id)
    rows = session.execute(query.where(Job.id.in_([audit.job_id for audit in audits])))
    return {job.id: (job, name) for job, name in rows}


def checkpoint_recorded(session: Session, location: str) -> bool:
    """Tell whether an audit's row names the files at `location`."""
    return session.execute(select(exists().where(AuditRun.location == location))).scalar_one()


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.model is not None:
        yield Model.name == filters.model
    if filters.verdict is not None:
        yield AuditRun.verdict == filters.verdict.value
