import datetime as dt
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import text, update

from app.retention.compaction import compact
from app.retention.sweeper import sweeping
from app.retention.turns import Kind, end_turn, last_turn, make_due, take_turn, turn
from app.tables import ForgetRequest, Sweep
from app.tables.forget_request import RequestStatus

PAUSE = dt.timedelta(hours=1)

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_one_of_many_gets_the_turn(runtime):
    barrier, taken = threading.Barrier(6), []

    def run() -> None:
        barrier.wait()
        taken.append(take_turn(runtime.database, Kind.ROWS, PAUSE))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 5 + [True]


def test_the_next_turn_comes_after_the_pause_or_at_once_on_demand(runtime):
    assert take_turn(runtime.database, Kind.ROWS, PAUSE)
    end_turn(runtime.database, Kind.ROWS)
    assert not take_turn(runtime.database, Kind.ROWS, PAUSE)
    assert take_turn(runtime.database, Kind.ROWS, dt.timedelta())
    assert take_turn(runtime.database, Kind.ROWS, PAUSE, at_once=True)


def test_a_turn_under_way_is_waited_for_and_one_that_never_ended_is_not(runtime):
    assert take_turn(runtime.database, Kind.ROWS, dt.timedelta())
    assert not take_turn(runtime.database, Kind.ROWS, dt.timedelta())
    with runtime.database.write() as session:
        session.execute(update(Sweep).values(begun_at=dt.datetime.now(dt.UTC) - PAUSE))
    assert take_turn(runtime.database, Kind.ROWS, dt.timedelta())


def test_bytes_are_overwritten_when_something_was_erased(runtime):
    assert not compact(runtime.database)
    with runtime.database.write() as session:
        make_due(session, Kind.COMPACTION)
    assert compact(runtime.database) is (runtime.database.dialect == "sqlite")
    assert compact(runtime.database, at_once=True)
    with runtime.database.read() as session:
        assert not last_turn(session, Kind.COMPACTION).due
    assert not compact(runtime.database)


@ON_SQLITE
def test_a_reader_puts_the_end_of_a_compaction_off(runtime):
    with runtime.database.write() as session:
        make_due(session, Kind.COMPACTION)
    with runtime.database.read() as session:
        session.execute(text("SELECT count(*) FROM sweeps"))
        compacted = compact(runtime.database)
    assert not compacted
    with runtime.database.read() as session:
        assert last_turn(session, Kind.COMPACTION).due


@ON_SQLITE
def test_a_fault_does_not_end_the_sweeper(runtime, monkeypatch, caplog):
    calls, twice = [], threading.Event()

    def fail(*_args, **_kwargs):
        calls.append(1)
        if len(calls) >= 2:
            twice.set()
        raise ValueError("unforeseen")

    monkeypatch.setattr("app.retention.sweeper.sweep", fail)
    quick = runtime.settings.model_copy(update={"sweep_seconds": 0.01})
    with sweeping(replace(runtime, settings=quick), whole=True):
        assert twice.wait(10)
    assert "A sweep met a fault of the service." in caplog.text


@pytest.mark.parametrize("whole", [True, False])
@ON_SQLITE
def test_a_sweeper_stops_with_its_block(runtime, whole):
    with sweeping(runtime, whole=whole):
        pass
    assert "sweeper" not in {thread.name for thread in threading.enumerate()}


@ON_SQLITE
def test_a_large_database_is_left_to_a_quiet_hour(runtime, monkeypatch, caplog):
    monkeypatch.setattr("app.retention.compaction.MOST_BYTES", 1)
    with runtime.database.write() as session:
        make_due(session, Kind.COMPACTION)
    assert not compact(runtime.database)
    assert "expunge sweep --compact" in caplog.text
    assert compact(runtime.database, at_once=True)


@ON_SQLITE
def test_a_turn_ends_with_its_block_even_when_that_fails(runtime):
    with pytest.raises(ValueError, match="unforeseen"), turn(runtime.database, Kind.ROWS, PAUSE) as mine:
        assert mine
        raise ValueError("unforeseen")
    with runtime.database.read() as session:
        assert last_turn(session, Kind.ROWS).finished_at is not None


def test_a_worker_erases_by_itself(yard, runtime):
    over = dt.datetime.now(dt.UTC) - dt.timedelta(days=31)
    request_id = yard.request(yard.model(), "r1", status=RequestStatus.COMPLETED, updated_at=over)
    quick = runtime.settings.model_copy(update={"sweep_seconds": 0.05})
    with sweeping(replace(runtime, settings=quick), whole=True):
        while yard.get(ForgetRequest, request_id).target is not None:
            time.sleep(0.02)
    assert [reason.split(",")[0] for _, reason in yard.reasons(request_id)] == ["Its target's ids"]
