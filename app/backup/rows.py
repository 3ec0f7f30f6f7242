"""Rows as JSON lines and back, for any table on any database; personal columns are sealed on the way."""

import base64
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Table, Uuid, insert, select
from sqlalchemy import Enum as EnumType

from app.backup.keyring import Keyring
from app.backup.personal import SEALED_COLUMNS, key_of_row, naming_columns
from app.backup.sealing import seal_bytes, unseal_bytes
from app.tables.base import UtcDateTime

AT_ONCE = 500
SEALED = "sealed"

Row = dict[str, Any]


def read_rows(connection: Connection, table: Table) -> Iterator[Row]:
    """Yield a table's rows by primary key, a few at a time in memory."""
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=AT_ONCE)
    for row in connection.execute(query).mappings():
        yield dict(row)


def to_line(table: Table, row: Row, keyring: Keyring) -> bytes:
    """Return a row as one line of JSON; its personal columns are sealed under the row's own key."""
    values = {column.name: _to_json(column, row[column.name]) for column in table.columns}
    for name in naming_columns(table.name, row):
        key = keyring.obtain(table.name, key_of_row(row["id"]))
        plain = json.dumps(values[name]).encode()
        sealed = seal_bytes(key, _sealed_name(table, name, row["id"]), plain)
        values[name] = {SEALED: base64.b64encode(sealed).decode()}
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def from_lines(
    table: Table, chunks: Iterable[bytes], keyring: Keyring, erased: Callable[[], None]
) -> Iterator[Row]:
    """Yield the rows of JSON lines; personal columns whose key was shredded since come back empty.

    Args:
        table: What the rows are of.
        chunks: The lines, in pieces of any length.
        keyring: Where the keys of personal columns are, if they still are.
        erased: Called for each row that has lost its key.

    Raises:
        BackupError: A sealed value was changed.
    """
    for line in _lines(chunks):
        values: Row = json.loads(line)
        sealed = [name for name in SEALED_COLUMNS.get(table.name, ()) if _is_sealed(values[name])]
        key = keyring.find(table.name, values["id"]) if sealed else None
        if sealed and key is None:
            erased()
        for name in sealed:
            values[name] = _opened(table, name, values, key) if key is not None else None
        yield {column.name: _from_json(column, values[column.name]) for column in table.columns}


def insert_all(connection: Connection, table: Table, rows: Iterable[Row]) -> int:
    """Insert rows in their order; return how many."""
    count, batch = 0, []
    for row in rows:
        batch.append(row)
        if len(batch) == AT_ONCE:
            connection.execute(insert(table), batch)
            count, batch = count + len(batch), []
    if batch:
        connection.execute(insert(table), batch)
    return count + len(batch)


def _opened(table: Table, name: str, values: Mapping[str, Any], key: bytes) -> Any:
    sealed = base64.b64decode(values[name][SEALED])
    return json.loads(unseal_bytes(key, _sealed_name(table, name, values["id"]), sealed))


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {SEALED}


def _sealed_name(table: Table, column: str, row_id: uuid.UUID | str) -> str:
    return f"{table.name}/{column}/{row_id}"


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        yield from whole


def _to_json(column: Column[Any], value: Any) -> Any:
    match value:
        case None:
            return None
        case bytes():
            return base64.b64encode(value).decode()
        case dt.datetime():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case _:
            return value.value if isinstance(column.type, EnumType) else value


def _from_json(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    match column.type:
        case LargeBinary():
            return base64.b64decode(value)
        case UtcDateTime():
            return dt.datetime.fromisoformat(value)
        case Uuid():
            return uuid.UUID(value)
        case EnumType() as kind if kind.enum_class is not None:
            return kind.enum_class(value)
        case _:
            return value
