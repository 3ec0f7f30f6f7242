"""Overwriting the bytes of what was erased: a database only forgets where a deleted value was.

SQLite rewrites its file and empties its write-ahead log. `secure_delete`, which zeroes what is freed, is not
enough: where a page was split, copies of rows stay behind in its gaps (measured: 10 ids in 20,000 rows).

PostgreSQL reuses the space of dead rows, and overwrites their bytes only then. Its `VACUUM FULL` writes the tables
anew and locks them meanwhile, so it is left to a person (`expunge sweep --compact`).
"""

import logging
import sqlite3

from sqlalchemy import text

from app.database import BUSY_TIMEOUT_SECONDS, Database
from app.retention.turns import Kind, last_turn, make_due, turn

SHARE = 100
"""A compaction rests for so many times as long as it took: it never takes more than a hundredth of the time."""

MOST_BYTES = 1 << 30
"""Size of an SQLite database up to which writers can wait while it is rewritten: some ten seconds on a slow disk."""

READER_MILLISECONDS = 200

TABLES = ("forget_requests", "audits", "jobs", "events", "idempotency_records")
"""What PostgreSQL has to write anew: the tables that ids are erased from, or were before an upgrade."""

logger = logging.getLogger(__name__)


def compact(database: Database, *, at_once: bool = False) -> bool:
    """Overwrite erased bytes if there are any and it is time; tell whether that was done.

    Args:
        database: The database.
        at_once: Do it in any case, on PostgreSQL too.
    """
    if database.dialect != "sqlite" and not at_once:
        return False
    with database.read() as session:
        last = last_turn(session, Kind.COMPACTION)
        # A turn that never ended was cut short: what was due then still is.
        due, took = last.due or last.finished_at is None, (last.finished_at or last.begun_at) - last.begun_at
    if not (due or at_once) or (not at_once and _is_too_large(database)):
        return False
    with turn(database, Kind.COMPACTION, SHARE * took, at_once=at_once) as mine:
        if not mine:
            return False
        with database.write() as session:
            make_due(session, Kind.COMPACTION, due=False)  # an erasure from now on makes it due again
        done = _compact_sqlite(database) if database.dialect == "sqlite" else _compact_postgresql(database)
        if not done:
            with database.write() as session:
                make_due(session, Kind.COMPACTION)
    return done


def _is_too_large(database: Database) -> bool:
    """Tell whether a compaction would make writers wait for longer than they do."""
    with database.engine.connect() as connection:
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
    if pages * size <= MOST_BYTES:
        return False
    logger.warning(
        "Bytes of erased ids wait to be overwritten: run `expunge sweep --compact` in a quiet hour."
    )
    return True


def _compact_sqlite(database: Database) -> bool:
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        try:
            cursor.execute("VACUUM")
        except sqlite3.OperationalError as error:  # another process writes, and goes on writing
            logger.info("The database could not be compacted (%s); tried again later.", error)
            return False
        # The log still holds pages from before. A reader that is at work keeps it from being emptied; writers wait
        # while it is waited for, so that is not for long.
        cursor.execute(f"PRAGMA busy_timeout = {READER_MILLISECONDS}")
        busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
        cursor.close()
    finally:
        connection.close()
    if busy:
        logger.info("The write-ahead log is in use; it is emptied later.")
    return not busy


def _compact_postgresql(database: Database) -> bool:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in TABLES:
            connection.execute(text(f"VACUUM FULL {table}"))
    return True
