"""SQL of policies: a policy is the newest of its changes."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.orm import Session

from app.tables import ApiKey, PolicyChange

Changes = Sequence[Row[PolicyChange, str]]
"""Changes, each with the name of the key that made it."""


def fields_of_family(session: Session, family: str) -> Mapping[str, Any]:
    """Return what is set for a family."""
    return _current(session, PolicyChange.family == family)


def fields_of_model(session: Session, model_id: uuid.UUID) -> Mapping[str, Any]:
    """Return what is set for a model."""
    return _current(session, PolicyChange.model_id == model_id)


def changes_of(
    session: Session, *, family: str | None, model_id: uuid.UUID | None, before: int | None, limit: int
) -> tuple[Changes, int | None]:
    """Return a page of the changes of a family or a model, newest first, and the id that the next page is before."""
    query = select(PolicyChange, ApiKey.name).join(ApiKey).where(_is_about(family, model_id))
    if before is not None:
        query = query.where(PolicyChange.id < before)
    rows = session.execute(query.order_by(PolicyChange.id.desc()).limit(limit + 1)).all()
    return rows[:limit], rows[limit - 1][0].id if len(rows) > limit else None


def _current(session: Session, subject: ColumnElement[bool]) -> Mapping[str, Any]:
    query = select(PolicyChange.fields).where(subject).order_by(PolicyChange.id.desc()).limit(1)
    return session.execute(query).scalar_one_or_none() or {}


def _is_about(family: str | None, model_id: uuid.UUID | None) -> ColumnElement[bool]:
    return PolicyChange.family == family if family is not None else PolicyChange.model_id == model_id
