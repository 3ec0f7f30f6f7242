"""Several new rows of several tables in one round trip."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Insert, Table, bindparam, insert
from sqlalchemy.orm import Session, attributes

from app.database import connection_of
from app.tables.base import Base


def insert_rows(session: Session, rows: Sequence[Base]) -> None:
    """Insert rows, in an order in which they may refer to each other; they do not become part of the session.

    What a row does not say is NULL: the tables' defaults are the session's business.

    PostgreSQL gets one statement, in which all rows but the last are common table expressions: it checks foreign
    keys when the statement ends. A submission is nearly all round trips, so this is most of its cost. SQLite
    knows no such statement and no round trips: there the rows are inserted one by one.

    Raises:
        IntegrityError: A row's key is taken, or it refers to a row that does not exist.
    """
    session.flush()  # what the session holds already may be referred to
    if session.get_bind().dialect.name == "postgresql":
        _insert_together(session, tuple(rows))
    else:
        for row in rows:
            _insert_together(session, (row,))


def _insert_together(session: Session, rows: tuple[Base, ...]) -> None:
    shape: list[_Part] = []
    values: dict[str, Any] = {}
    for place, row in enumerate(rows):
        given = attributes.instance_dict(row)
        columns = tuple(column for column in _columns(type(row)) if given.get(column) is not None)
        shape.append((type(row), columns))
        values.update({_parameter(place, column): given[column] for column in columns})
    connection_of(session).execute(_statement(tuple(shape)), values)


_Part = tuple[type[Base], tuple[str, ...]]
"""A table and the columns that its row gives a value to; the others are NULL."""


@lru_cache(maxsize=256)
def _statement(shape: tuple[_Part, ...]) -> Insert:
    """Build the statement once for each shape of rows: building costs more than running it."""
    inserts = [
        insert(cast("Table", kind.__table__))
        .values({column: bindparam(_parameter(place, column)) for column in columns})
        .inline()
        for place, (kind, columns) in enumerate(shape)
    ]
    *earlier, last = inserts
    return last.add_cte(*(part.cte(f"row_{place}") for place, part in enumerate(earlier)))


@lru_cache(maxsize=64)
def _columns(kind: type[Base]) -> tuple[str, ...]:
    """Return the columns that may be written: all but a key that the database generates."""
    table = cast("Table", kind.__table__)
    return tuple(column.key for column in table.columns if column is not table.autoincrement_column)


@lru_cache(maxsize=1024)
def _parameter(place: int, column: str) -> str:
    return f"row_{place}_{column}"
