"""SQL of forget requests and their events."""

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from app.call import Lookup
from app.database import connection_of
from app.forget_requests.schemas import OPEN, Filters
from app.locks import lock_job, lock_model
from app.paging import Cursor, Page, page_of
from app.tables import ApiKey, Dataset, Event, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus


class ModelState(NamedTuple):
    """A model's latest version and what it and its dataset's head hold: all that validation needs."""

    model_id: uuid.UUID
    name: str
    family: str
    architecture: str
    version_location: str
    records: int
    learned_location: str
    head_location: str


def _model_states() -> Select[Any]:
    """Build the query of model states from bare tables: the ORM's share of a submission would be felt."""
    model, version, dataset = Model.__table__.c, Version.__table__.c, Dataset.__table__.c
    learned, head = Snapshot.__table__.alias("learned"), Snapshot.__table__.alias("head")
    return (
        select(
            model.id,
            model.name,
            model.family,
            model.architecture,
            version.location.label("version_location"),
            learned.c.records,
            learned.c.location.label("learned_location"),
            head.c.location.label("head_location"),
        )
        .join(Version.__table__, and_(version.model_id == model.id, version.number == model.latest_version))
        .join(learned, and_(learned.c.dataset_id == version.dataset_id, learned.c.number == version.snapshot))
        .join(Dataset.__table__, dataset.id == model.dataset_id)
        .join(head, and_(head.c.dataset_id == dataset.id, head.c.number == dataset.head_snapshot))
    )


MODEL_STATES = _model_states()
MODEL_STATE_BY_NAME = MODEL_STATES.where(Model.__table__.c.name == bindparam("model_name"))
MODEL_STATE_LOOKUP = Lookup(MODEL_STATE_BY_NAME)
"""Finds the state of the model called `model_name` together with a call's key."""


def model_state(session: Session, name: str) -> ModelState | None:
    """Return one model's state."""
    row = connection_of(session).execute(MODEL_STATE_BY_NAME, {"model_name": name}).one_or_none()
    return ModelState(*row) if row is not None else None


def model_states_of_dataset(session: Session, dataset_id: uuid.UUID) -> list[ModelState]:
    """Return the state of every model over a dataset, by name."""
    rows = session.execute(MODEL_STATES.where(Model.dataset_id == dataset_id).order_by(Model.name))
    return [ModelState(*row) for row in rows]


def model_state_by_id(session: Session, model_id: uuid.UUID) -> ModelState:
    """Return the state of a model that a request refers to."""
    return ModelState(*session.execute(MODEL_STATES.where(Model.id == model_id)).one())


def find(
    session: Session, request_id: uuid.UUID, models: frozenset[str] | None
) -> tuple[ForgetRequest, str] | None:
    """Return a request with its model's name, None where there is none for a key limited to `models`."""
    query = (
        select(ForgetRequest, Model.name)
        .join_from(ForgetRequest, Model)
        .where(ForgetRequest.id == request_id)
    )
    if models is not None:
        query = query.where(Model.name.in_(models))
    return session.execute(query).one_or_none()


def page(
    session: Session,
    models: frozenset[str] | None,
    filters: Filters,
    now: dt.datetime,
    cursor: Cursor | None,
    limit: int,
) -> Page[ForgetRequest]:
    """Return one page of the requests that a key limited to `models` may see, newest first."""
    query = select(ForgetRequest)
    if models is not None or filters.model is not None:
        query = query.join(Model, Model.id == ForgetRequest.model_id)
    if models is not None:
        query = query.where(Model.name.in_(models))
    query = query.where(*_conditions(filters, now))
    return page_of(session, query, (ForgetRequest.created_at, ForgetRequest.id), cursor, limit)


def _conditions(filters: Filters, now: dt.datetime) -> Iterator[ColumnElement[bool]]:
    if filters.status:
        yield ForgetRequest.status.in_(filters.status)
    if filters.model is not None:
        yield Model.name == filters.model
    if filters.method is not None:
        yield ForgetRequest.method == filters.method
    if filters.created_after is not None:
        yield ForgetRequest.created_at >= filters.created_after
    if filters.created_before is not None:
        yield ForgetRequest.created_at < filters.created_before
    if filters.due_after is not None:
        yield ForgetRequest.due_at >= filters.due_after
    if filters.due_before is not None:
        yield ForgetRequest.due_at < filters.due_before
    if filters.overdue is not None:
        overdue = and_(ForgetRequest.due_at < now, ForgetRequest.status.in_(OPEN))
        yield overdue if filters.overdue else ~overdue


def model_names(session: Session, requests: Iterable[ForgetRequest]) -> dict[uuid.UUID, str]:
    """Return the names of the models that requests are for."""
    ids = {request.model_id for request in requests}
    return dict(session.execute(select(Model.id, Model.name).where(Model.id.in_(ids))).all())


def lock(session: Session, request_id: uuid.UUID) -> tuple[ForgetRequest, Job | None]:
    """Lock a request, the job that serves or last served it, and its model.

    Workers give requests to jobs under the model's lock, so while it is held the job stays the one found here.
    """
    model_id = session.scalars(select(ForgetRequest.model_id).where(ForgetRequest.id == request_id)).one()
    lock_model(session, model_id)
    job_id = session.scalars(select(ForgetRequest.job_id).where(ForgetRequest.id == request_id)).one()
    job = lock_job(session, job_id) if job_id is not None else None
    request = session.scalars(
        select(ForgetRequest)
        .where(ForgetRequest.id == request_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    return request, job


@dataclass(frozen=True)
class History:
    """A part of what happened to a request, in order."""

    events: Sequence[Event]
    more: bool
    """Whether events follow that have been written already."""
    status: RequestStatus
    """Where the request stood when all of these had been written."""


def history(session: Session, request_id: uuid.UUID, after: int, *, limit: int) -> History:
    """Return the events after one of them: the request's own and those of every job that served it."""
    # The status is read first: what led to it was committed with it, so it is among the events read next.
    status, job_id = session.execute(
        select(ForgetRequest.status, ForgetRequest.job_id).where(ForgetRequest.id == request_id)
    ).one()
    own = Event.forget_request_id == request_id
    claims = session.scalars(select(Event.details).where(own, Event.status == RequestStatus.RUNNING))
    jobs = {uuid.UUID(claim["job"]) for claim in claims if claim is not None and "job" in claim}
    if job_id is not None:
        jobs.add(job_id)
    query = select(Event).where(or_(own, Event.job_id.in_(jobs)), Event.id > after).order_by(Event.id)
    events = session.scalars(query.limit(limit + 1)).all()
    return History(events[:limit], len(events) > limit, status)


def key_name(session: Session, key_id: uuid.UUID) -> str:
    """Return the name of an API key, for the record of who decided."""
    return session.scalars(select(ApiKey.name).where(ApiKey.id == key_id)).one()
