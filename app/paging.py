"""Keyset paging: a cursor names the last row of a page, so rows that come or go never shift the next one."""

import base64
import binascii
import datetime as dt
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Self, TypeVar

from fastapi import Depends, Query, Request, Response
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import ServiceError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
LAYOUT = struct.Struct(">q16s")
"""Microseconds since 1970 and the row's id."""

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=500, description="Most items in one answer.")]

Keys = tuple[InstrumentedAttribute[dt.datetime], InstrumentedAttribute[uuid.UUID]]
"""The columns that order a list: creation time and id."""


class InvalidCursorError(ServiceError):
    """The cursor is not one that an answer held."""

    status, slug, title = 422, "invalid-cursor", "Cursor refused"

    def __init__(self) -> None:
        super().__init__("The cursor is not one of this service; follow the `next` link of an answer.")


@dataclass(frozen=True)
class Cursor:
    """The last row of a page. Its text is opaque to clients."""

    created_at: dt.datetime
    id: uuid.UUID

    def encode(self) -> str:
        """Return the text that `decode` reads."""
        packed = LAYOUT.pack((self.created_at - EPOCH) // MICROSECOND, self.id.bytes)
        return base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a cursor.

        Raises:
            InvalidCursorError: The text is not a cursor.
        """
        try:
            microseconds, row_id = LAYOUT.unpack(base64.b64decode(text, altchars=b"-_", validate=True))
            return cls(EPOCH + microseconds * MICROSECOND, uuid.UUID(bytes=row_id))
        except (binascii.Error, ValueError, OverflowError, struct.error):
            raise InvalidCursorError from None


def _cursor(
    cursor: Annotated[
        str | None,
        Query(max_length=64, description="Where to go on: copied from a `next` link, never built."),
    ] = None,
) -> Cursor | None:
    return Cursor.decode(cursor) if cursor is not None else None


CursorDep = Annotated[Cursor | None, Depends(_cursor)]
"""An endpoint's `cursor` parameter, read."""


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, newest first, and the cursor of the page after them, None at the end."""

    rows: Sequence[T]
    next: Cursor | None


def page_of(session: Session, query: Select[T], keys: Keys, cursor: Cursor | None, limit: int) -> Page[T]:
    """Return one page of the rows that a filtered query selects, newest first."""
    if cursor is not None:
        query = query.where(tuple_(*keys) < (cursor.created_at, cursor.id))
    rows = session.scalars(query.order_by(*(key.desc() for key in keys)).limit(limit + 1)).all()
    if len(rows) <= limit:
        return Page(rows, None)
    last: Any = rows[limit - 1]
    return Page(rows[:limit], Cursor(last.created_at, last.id))


def link_next(request: Request, response: Response, **parameters: str | int) -> str:
    """Put the next page into the `Link` header: this request with some parameters changed. Return its path."""
    url = request.url.include_query_params(**parameters)
    path = f"{url.path}?{url.query}"
    response.headers["Link"] = f'<{path}>; rel="next"'
    return path
