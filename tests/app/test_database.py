import datetime as dt
import threading

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import StatementError

from app.database import Database, database_now
from app.tables import ApiKey
from app.trust.keys import create_key


@pytest.fixture
def database(database_url: str):
    database = Database(database_url)
    yield database
    database.dispose()


def test_a_raising_block_is_rolled_back(database):
    def fail_midway() -> None:
        with database.write() as session:
            create_key(session, name="lost", scopes=())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ApiKey)) == 0


def test_the_databases_clock_is_aware_and_close_to_ours(database):
    with database.read() as session:
        now = database_now(session)
    assert abs(now - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=5)


def test_timestamps_come_back_as_utc(database):
    moment = dt.datetime(2026, 1, 31, 12, 0, 0, 123456, dt.timezone(dt.timedelta(hours=2)))
    with database.write() as session:
        key, _ = create_key(session, name="k", scopes=(), expires_at=moment)
        key_id = key.id
    with database.read() as session:
        stored = session.get(ApiKey, key_id).expires_at
    assert stored == moment
    assert stored.utcoffset() == dt.timedelta(0)


def test_a_naive_timestamp_is_refused(database):
    with pytest.raises(StatementError, match="without a time zone"), database.write() as session:
        create_key(session, name="k", scopes=(), expires_at=dt.datetime(2026, 1, 1))  # noqa: DTZ001


def test_concurrent_writers_all_commit(database):
    """On SQLite this fails with 'database is locked' unless a writer takes the lock when it begins."""

    def add(number: int) -> None:
        with database.write() as session:
            session.scalar(select(func.count()).select_from(ApiKey))  # a read first, then the write
            create_key(session, name=f"k{number}", scopes=())

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ApiKey)) == 20


def test_other_databases_are_refused():
    with pytest.raises(ValueError, match="supported are sqlite and postgresql"):
        Database("mysql://localhost/x")
