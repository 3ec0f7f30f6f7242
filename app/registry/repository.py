"""SQL of models and versions, and where their files are."""

import uuid
from collections.abc import Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.paging import Cursor, Page, page_of
from app.registry.errors import ModelNotFoundError, VersionNotFoundError
from app.tables import Job, Model, Version
from app.tables.job import JobKind, JobState
from app.tables.version import VersionOrigin

ACTIVE = (JobState.RUNNING, JobState.CANCELLING)


def find_model(session: Session, name: str) -> Model | None:
    """Return the model called `name`, None if there is none."""
    return session.scalars(select(Model).where(Model.name == name)).one_or_none()


def get_model(session: Session, name: str) -> Model:
    """Return the model called `name`.

    Raises:
        ModelNotFoundError: There is none.
    """
    model = find_model(session, name)
    if model is None:
        raise ModelNotFoundError(name)
    return model


def list_models(
    session: Session,
    *,
    names: frozenset[str] | None,
    family: str | None,
    dataset: uuid.UUID | None,
    cursor: Cursor | None,
    limit: int,
) -> Page[Model]:
    """Return a page of models, newest first; `names` are those the caller may see, None for all."""
    query = select(Model)
    if names is not None:
        query = query.where(Model.name.in_(sorted(names)))
    if family is not None:
        query = query.where(Model.family == family)
    if dataset is not None:
        query = query.where(Model.dataset_id == dataset)
    return page_of(session, query, (Model.created_at, Model.id), cursor, limit)


def get_version(session: Session, model: Model, number: int) -> Version:
    """Return a version of a model.

    Raises:
        VersionNotFoundError: There is none with this number.
    """
    version = session.get(Version, (model.id, number))
    if version is None:
        raise VersionNotFoundError(model, number)
    return version


def list_versions(
    session: Session, model: Model, *, before: int | None, limit: int
) -> tuple[Sequence[Version], int | None]:
    """Return a page of a model's versions, newest first, and the number that the next page is before."""
    query = select(Version).where(Version.model_id == model.id)
    if before is not None:
        query = query.where(Version.number < before)
    rows = session.scalars(query.order_by(Version.number.desc()).limit(limit + 1)).all()
    return rows[:limit], rows[limit - 1].number if len(rows) > limit else None


def has_active_job(session: Session, model: Model) -> bool:
    """Tell whether a worker is at work on a model that may change it."""
    changing = [kind for kind in JobKind if kind.changes_model]
    query = select(exists().where(Job.model_id == model.id, Job.state.in_(ACTIVE), Job.kind.in_(changing)))
    return session.execute(query).scalar_one()


def has_unlearned(session: Session, model: Model) -> bool:
    """Tell whether a version of a model has forgotten anything."""
    query = select(exists().where(Version.model_id == model.id, Version.origin == VersionOrigin.UNLEARNED))
    return session.execute(query).scalar_one()


def version_recorded(session: Session, location: str) -> bool:
    """Tell whether a version's row names the files at `location`."""
    return session.execute(select(exists().where(Version.location == location))).scalar_one()


def new_version_location(name: str, number: int) -> str:
    """Return a location nobody else will ever write to; the version's row tells which one is real."""
    return f"models/{name}/{number}/{uuid.uuid4().hex}"
