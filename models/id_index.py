"""Which ids a snapshot has, answered from disk; torch-free.

One immutable SQLite file per snapshot maps record ids to positions, subjects to records and classes to records.
A look-up descends a B-tree, so its cost hardly depends on the number of records, and opening the file reads one
page. The file is written once, never changed and never locked: any number of threads, processes and machines
may read it, from a read-only file system too.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from threading import Lock
from time import perf_counter
from types import MappingProxyType, TracebackType
from typing import Any, Self

from models.errors import DatasetError

INDEX_NAME = "index.sqlite"
NAMED_AT_MOST = 20
"""How many offending ids a message names."""

_APPLICATION_ID = 0x58504944  # "XPID", so that another SQLite file is not mistaken for an index
_FORMAT = 1
_PAGE_OF_IDS = 10_000
_PROBE = 64
_PARALLEL_READS = 16
_DISK_READ_SECONDS = 30e-6
"""A look-up from memory takes 3 microseconds, one from a fast disk 100."""
_OF_SUBJECTS = "subject IN (SELECT value FROM json_each(?))"
_OF_CLASSES = "class IN (SELECT value FROM json_each(?))"
_SCHEMA = """
CREATE TABLE summary (records INTEGER NOT NULL, subjects INTEGER NOT NULL);
CREATE TABLE records (
    number INTEGER PRIMARY KEY, -- position + 1
    id TEXT NOT NULL,
    subject TEXT,
    split INTEGER NOT NULL DEFAULT 0,
    class TEXT
);
"""
_BUILD_PRAGMAS = (
    # A crash leaves a half-written file, which its builder throws away: no journal and no syncing needed.
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    # Bounds the memory of building: pages of the tables, then the runs that are sorted for the indexes.
    "PRAGMA cache_size = -65536",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_FORMAT}",
)


class IdIndex:
    """The open index of one snapshot. Safe to share between threads; close it when done.

    Every look-up borrows a connection of its own from a small pool, so threads do not wait for each other.

    Attributes:
        records: Number of records.
        subject_count: Number of distinct subjects.
    """

    def __init__(self, path: Path) -> None:
        self._uri = _read_only_uri(path)
        self._idle: list[sqlite3.Connection] = []
        self._lock = Lock()
        self._closed = False
        connection = self._connect()
        try:
            self.records, self.subject_count = _read_summary(connection, path)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an index for reading.

        Raises:
            DatasetError: There is no index at `path`, or it is damaged.
        """
        if not path.is_file():
            raise DatasetError(f"There is no id index {path.name}.")
        return cls(path)

    @staticmethod
    def build(
        path: Path,
        ids: Iterable[str],
        subjects: Iterable[str | None] | None = None,
        splits: Iterable[int] | None = None,
        classes: Iterable[str | None] | None = None,
    ) -> None:
        """Write the index of records in the order given.

        Args:
            path: A file that does not exist yet.
            ids: One id per record.
            subjects: Whom each record is about, if anyone; without this argument, nobody.
            splits: 0 for each training record, 1 for each record held out; without this argument, 0.
            classes: Each record's class; without this argument, none has one.

        Raises:
            DatasetError: An id occurs twice; the message names the first 20 of them.
        """
        with IndexBuilder(path) as builder:
            builder.add(ids, subjects, splits, classes)

    def missing_records(self, ids: Iterable[str]) -> list[str]:
        """Return those of `ids` that name no record, in their order."""
        return self._missing("records WHERE id = value", ids)

    def missing_subjects(self, ids: Iterable[str]) -> list[str]:
        """Return those of `ids` that no record is about, in their order."""
        return self._missing("records WHERE subject = value", ids)

    def missing_classes(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that no record belongs to, in their order."""
        return self._missing("records WHERE class = value", names)

    def records_of_subjects(self, subjects: Iterable[str]) -> list[str]:
        """Return the ids of all records about any of these subjects, by position; unknown subjects add none."""
        return self._gather(_OF_SUBJECTS, subjects)

    def records_of_classes(self, names: Iterable[str]) -> list[str]:
        """Return the ids of all records of any of these classes, by position; unknown classes add none."""
        return self._gather(_OF_CLASSES, names)

    def count_of_subjects(self, subjects: Iterable[str]) -> int:
        """Return how many records are about any of these subjects."""
        return self._count(_OF_SUBJECTS, subjects)

    def count_of_classes(self, names: Iterable[str]) -> int:
        """Return how many records belong to any of these classes."""
        return self._count(_OF_CLASSES, names)

    def positions(self, record_ids: Iterable[str]) -> list[int]:
        """Return each record's position in the snapshot's arrays, in the order of `record_ids`.

        Raises:
            DatasetError: An id names no record; the message says how many do not.
        """
        ids = list(record_ids)
        with self._borrow() as connection:
            (answer,) = connection.execute(
                "SELECT json_group_array((SELECT number - 1 FROM records WHERE id = value))"
                " FROM (SELECT value FROM json_each(?) ORDER BY key)",
                (_to_json(ids),),
            ).fetchone()
        positions: list[int] = json.loads(answer)
        if None in positions:
            missing = [name for name, position in zip(ids, positions, strict=True) if position is None]
            # They are not named: this happens inside jobs, whose failures are kept for longer than ids may be.
            raise DatasetError(f"The snapshot has no record for {len(missing)} of {len(ids)} ids.")
        return positions

    def record_ids(self, start: int = 0) -> Iterator[str]:
        """Yield the record ids by position, beginning with position `start`, without loading them all."""
        while start < self.records:
            with self._borrow() as connection:
                page = connection.execute(
                    "SELECT id FROM records WHERE number > ? ORDER BY number LIMIT ?", (start, _PAGE_OF_IDS)
                ).fetchall()
            for (name,) in page:
                yield name
            start += _PAGE_OF_IDS

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What the snapshot's family noted when it built the index; empty where it noted nothing."""
        with self._borrow() as connection:
            noted = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'facts'").fetchone()
            text = connection.execute("SELECT text FROM facts").fetchone()[0] if noted else "{}"
        facts: dict[str, Any] = json.loads(text)
        return MappingProxyType(facts)

    def close(self) -> None:
        """Close the file. A look-up under way in another thread ends first; later ones are refused."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        # A connection moves between threads, but never serves two at once.
        connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False)
        # Kilobytes. The system caches the file already; what each connection keeps of it would add up.
        try:
            connection.execute("PRAGMA cache_size = -256")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise DatasetError(f"The id index is damaged: {error}.") from error
        return connection

    @contextmanager
    def _borrow(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise ValueError("look-up in a closed id index")
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise DatasetError(f"The id index is damaged: {error}.") from error
        finally:
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    connection = None
            if connection is not None:
                connection.close()

    def _missing(self, place: str, names: Iterable[str]) -> list[str]:
        names = list(names)
        begin = perf_counter()
        missing = self._missing_at_once(place, names[:_PROBE])
        rest = names[_PROBE:]
        if not rest:
            return missing
        if perf_counter() - begin < _PROBE * _DISK_READ_SECONDS:
            return missing + self._missing_at_once(place, rest)
        # The file is not in the system's cache yet, so each name waits for the disk: wait for several at once.
        step = -(-len(rest) // _PARALLEL_READS)
        parts = [rest[start : start + step] for start in range(0, len(rest), step)]
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            return missing + list(chain.from_iterable(pool.map(self._missing_at_once, repeat(place), parts)))

    def _missing_at_once(self, place: str, names: list[str]) -> list[str]:
        # All names travel as one JSON array: no limit on their number, and one step of SQLite, during which
        # other threads run. A query per name would give up Python's lock, and wait for it, once per name.
        query = f"SELECT key FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM {place}) ORDER BY key"  # noqa: S608 - places are this class's own
        with self._borrow() as connection:
            return [names[key] for (key,) in connection.execute(query, (_to_json(names),))]

    def _gather(self, condition: str, names: Iterable[str]) -> list[str]:
        query = f"SELECT id FROM records WHERE {condition} ORDER BY number"  # noqa: S608 - conditions are this class's own
        with self._borrow() as connection:
            return [name for (name,) in connection.execute(query, (_to_json(names),))]

    def _count(self, condition: str, names: Iterable[str]) -> int:
        query = f"SELECT count(*) FROM records WHERE {condition}"  # noqa: S608 - conditions are this class's own
        with self._borrow() as connection:
            count: int = connection.execute(query, (_to_json(names),)).fetchone()[0]
        return count


_DISK_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EIO,
}


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Say of a disk that is full or fails what the operating system says, so that callers know one kind of it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        number = _DISK_ERRORS.get(error.sqlite_errorcode & 0xFF)  # the rest says more closely where
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


class IndexBuilder:
    """Writes an index batch by batch: memory is bounded, whatever the number of records.

    Use it as a context manager. Leaving it without an error completes the file.

    Raises:
        DatasetError: (on leaving) An id occurs twice; the message names the first 20 of them.
        OSError: (anywhere) The disk is full, or fails.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise FileExistsError(path)
        self._path = path
        self._stack = ExitStack()

    @_disk_errors()
    def __enter__(self) -> Self:
        self._connection = self._stack.enter_context(
            closing(sqlite3.connect(self._path.absolute().as_uri(), uri=True, isolation_level=None))
        )
        for pragma in _BUILD_PRAGMAS:
            self._connection.execute(pragma)
        self._connection.executescript(_SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack, _disk_errors():
            if kind is None:
                self._finish()

    @_disk_errors()
    def note(self, facts: Mapping[str, Any]) -> None:
        """Note JSON values that the family needs to know what its targets mean, once.

        Most families need none; then the table is not there either.
        """
        self._connection.execute("CREATE TABLE facts (text TEXT NOT NULL)")
        self._connection.execute("INSERT INTO facts VALUES (?)", (json.dumps(facts, sort_keys=True),))

    @_disk_errors()
    def copy(self, base: Path, without: Collection[int] = ()) -> None:
        """Add the records of another index in their order; call this before `add`.

        Args:
            base: The other index.
            without: Positions of records to leave out.
        """
        execute = self._connection.execute
        execute("ATTACH ? AS base", (_read_only_uri(base),))
        execute("CREATE TEMP TABLE omitted (number INTEGER PRIMARY KEY)")
        execute("BEGIN")
        self._connection.executemany(
            "INSERT OR IGNORE INTO omitted VALUES (?)", ((position + 1,) for position in without)
        )
        execute(
            "INSERT INTO main.records (id, subject, split, class) SELECT id, subject, split, class FROM base.records"
            " WHERE number NOT IN (SELECT number FROM omitted) ORDER BY number"
        )
        execute("COMMIT")
        execute("DETACH base")

    @_disk_errors()
    def add(
        self,
        ids: Iterable[str],
        subjects: Iterable[str | None] | None = None,
        splits: Iterable[int] | None = None,
        classes: Iterable[str | None] | None = None,
    ) -> None:
        """Add records after those already there; the arguments are those of `IdIndex.build`.

        Raises:
            ValueError: The arguments are not equally long (a fault of the caller).
        """
        columns: dict[str, Iterable[Any] | None] = {
            "id": ids,
            "subject": subjects,
            "split": splits,
            "class": classes,
        }
        given = {name: values for name, values in columns.items() if values is not None}
        self._connection.execute("BEGIN")
        self._connection.executemany(
            f"INSERT INTO records ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",  # noqa: S608 - our own names
            zip(*given.values(), strict=True),
        )
        self._connection.execute("COMMIT")

    def _finish(self) -> None:
        execute = self._connection.execute
        execute("BEGIN")
        try:
            # Sorting once afterwards is several times faster than keeping B-trees sorted row by row.
            execute("CREATE UNIQUE INDEX records_by_id ON records (id)")
        except sqlite3.IntegrityError:
            raise DatasetError(f"Record ids occur more than once: {self._duplicates()}.") from None
        execute("CREATE INDEX records_by_subject ON records (subject) WHERE subject IS NOT NULL")
        execute("CREATE INDEX records_by_class ON records (class) WHERE class IS NOT NULL")
        execute(
            "INSERT INTO summary SELECT (SELECT count(*) FROM records),"
            " (SELECT count(DISTINCT subject) FROM records WHERE subject IS NOT NULL)"
        )
        execute("COMMIT")

    def _duplicates(self) -> str:
        rows = self._connection.execute(
            "SELECT id FROM records GROUP BY id HAVING count(*) > 1 ORDER BY min(number) LIMIT ?",
            (NAMED_AT_MOST + 1,),
        )
        return _name_some([name for (name,) in rows])


def _read_only_uri(path: Path) -> str:
    # immutable: SQLite neither locks the file nor looks for a journal beside it.
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


def _read_summary(connection: sqlite3.Connection, path: Path) -> tuple[int, int]:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) != (_APPLICATION_ID, _FORMAT):
            raise DatasetError(f"{path.name} is not an id index that this version of Expunge reads.")
        rows = connection.execute("SELECT records, subjects FROM summary").fetchall()
    except sqlite3.DatabaseError as error:
        raise DatasetError(f"The id index {path.name} is damaged: {error}.") from error
    if len(rows) != 1:
        raise DatasetError(f"The id index {path.name} is incomplete.")
    return rows[0][0], rows[0][1]


def _to_json(names: Iterable[str]) -> str:
    """Return a JSON array for SQLite's `json_each`.

    SQLite would cut a string at a NUL character, and cannot represent lone surrogates. Nothing has such a name,
    so null, which equals nothing, stands for it.
    """
    return json.dumps([name if _is_representable(name) else None for name in names])


def _is_representable(name: str) -> bool:
    return name.isprintable() or not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in name)


def _name_some(names: list[str]) -> str:
    more = ", …" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(map(repr, names[:NAMED_AT_MOST])) + more
