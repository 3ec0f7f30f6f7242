"""Engine, sessions and the database's clock, for SQLite and PostgreSQL alike."""

import datetime as dt
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, Pool, create_engine, event, make_url, text
from sqlalchemy.orm import Session, sessionmaker

BUSY_TIMEOUT_SECONDS = 30
CLOCK = {
    "sqlite": text("SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')"),
    "postgresql": text("SELECT clock_timestamp()"),
}


class Database:
    """One process's access to the database.

    `read()` and `write()` open a transaction each. On SQLite a writing transaction takes the write lock at
    its first statement (`BEGIN IMMEDIATE`): one that began as a reader could not be upgraded once another
    writer has committed, whatever the busy timeout.

    There are `pool_size` connections and no more: a caller beyond that waits. To open one for a single
    transaction and close it again would cost more than the wait. On PostgreSQL half of them are for `append()`.

    Errors do not show the values of their statement: these may be the very ids that are to be forgotten, and
    errors end up in logs.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        # At its most talkative SQLAlchemy logs every row it reads, whatever it hides of parameters.
        logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)
        parsed = make_url(url)
        self.dialect = parsed.get_backend_name()
        if self.dialect not in CLOCK:
            raise ValueError(f"database URL has scheme {self.dialect!r}; supported are sqlite and postgresql")
        self._appender: Engine | None = None
        if self.dialect == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = _sqlite_engine(url, pool_size)
        else:
            # To switch a pooled connection to autocommit and back would cost a fifth of what it saves.
            share = max(1, pool_size // 2)
            self.engine = _postgresql_engine(url, share)
            self._appender = _postgresql_engine(url, share, isolation_level="AUTOCOMMIT")
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(
            self.engine.execution_options(sqlite_begin="IMMEDIATE"), expire_on_commit=False
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session for reading; nothing it does is committed."""
        with self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session for writing: committed when the block ends, rolled back when it raises."""
        with self._writers.begin() as session:
            yield session

    @contextmanager
    def append(self) -> Iterator[Session]:
        """Open a session for reading and then inserting rows by `insert_rows`, and nothing else.

        That is one statement on PostgreSQL, and a statement is a transaction by itself: without one around it,
        two round trips in four are saved, and the session keeps no books. On SQLite this is `write()`.
        """
        if self._appender is None:
            with self.write() as session:
                yield session
        else:
            with self._appender.connect() as connection, Session(connection) as session:
                yield session

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of this process's connections."""
        engines = (self.engine, self._appender)
        return tuple(engine.pool for engine in engines if engine is not None)

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
        if self._appender is not None:
            self._appender.dispose()


def connection_of(session: Session) -> Connection:
    """Return the connection to execute on where the objects that a session holds are of no concern."""
    return session.bind if isinstance(session.bind, Connection) else session.connection()


def database_now(session: Session) -> dt.datetime:
    """Return the time by the database's clock, the only clock that leases are judged by."""
    dialect = session.get_bind().dialect.name
    value = session.execute(CLOCK[dialect]).scalar_one()
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value


def _drop_detail(context: ExceptionContext) -> None:
    """Take PostgreSQL's `DETAIL` out of an error: it quotes the refused row, ids to be forgotten included."""
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    message = getattr(getattr(original, "diag", None), "message_primary", None)
    if message is not None and wrapped is not None:
        wrapped.args = tuple(str(part).replace(str(original), message) for part in wrapped.args)
        original.args = (message,)


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    _configure_sqlite(engine)
    return engine


def _postgresql_engine(url: str, pool_size: int, **options: Any) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, hide_parameters=True, **options)
    event.listen(engine, "handle_error", _drop_detail)
    return engine


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy emits BEGIN itself, below.
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # an acknowledged request survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")
