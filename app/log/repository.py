"""The log's queries beyond those of its tree."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import LogLeaf, SigningKey


def leaves(session: Session, start: int, end: int) -> Sequence[LogLeaf]:
    """Return the leaves from `start` up to `end`, the last one excluded."""
    query = select(LogLeaf).where(LogLeaf.position >= start, LogLeaf.position < end)
    return session.scalars(query.order_by(LogLeaf.position)).all()


def signing_keys(session: Session) -> Sequence[SigningKey]:
    """Return every key that has signed something, oldest first."""
    return session.scalars(select(SigningKey).order_by(SigningKey.created_at, SigningKey.id)).all()
