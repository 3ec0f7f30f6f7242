import datetime as dt
import traceback
import uuid

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app.bulk_insert import insert_rows
from app.tables import Event, Job
from app.tables.job import JobKind, JobState

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def job(model, **fields):
    kind, state = JobKind.UPDATE, JobState.COMPLETED
    return Job(
        **{
            "id": uuid.uuid4(),
            "model_id": model.id,
            "kind": kind,
            "state": state,
            "attempts": 0,
            "created_at": NOW,
            **fields,
        }
    )


def event(job, reason="done", **fields):
    return Event(job_id=job.id, type="status", reason=reason, created_at=NOW, **fields)


def count(runtime, table):
    with runtime.database.read() as session:
        return session.scalar(select(func.count()).select_from(table))


@pytest.fixture(params=["append", "write"])
def opened(request, runtime):
    return getattr(runtime.database, request.param)


def test_rows_may_refer_to_rows_before_them(opened, runtime, shelf):
    new = job(shelf.model())
    with opened() as session:
        insert_rows(session, [new, event(new, "first"), event(new, "second", details={"n": 1})])
    with runtime.database.read() as session:
        stored = session.get_one(Job, new.id)
        assert (stored.kind, stored.attempts, stored.plan, stored.created_at) == (
            JobKind.UPDATE,
            0,
            None,
            NOW,
        )
        events = session.scalars(select(Event)).all()
        assert {(row.reason, row.job_id) for row in events} == {("first", new.id), ("second", new.id)}
        assert {row.reason: row.details for row in events} == {"first": None, "second": {"n": 1}}


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_row_that_cannot_be_stored_takes_the_others_with_it(opened, runtime, shelf, bad):
    new = job(shelf.model())
    stranger = job(shelf.model("other"))  # never stored
    rows = [new, event(new), event(new)]
    rows[bad] = job(shelf.model("third"), model_id=uuid.uuid4()) if bad == 0 else event(stranger)
    with pytest.raises(IntegrityError), opened() as session:
        insert_rows(session, rows)
    assert (count(runtime, Job), count(runtime, Event)) == (0, 0)


def test_errors_do_not_show_what_was_to_be_stored(opened, shelf):
    stranger = job(shelf.model())
    with pytest.raises(IntegrityError) as caught, opened() as session:
        insert_rows(session, [event(stranger, "patient-4711")])
    assert "INSERT INTO events" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_errors_do_not_show_the_row_that_a_constraint_refused(opened, shelf):
    model, secret = shelf.model(), uuid.uuid4().hex
    with pytest.raises(IntegrityError) as caught, opened() as session:
        insert_rows(session, [job(model, reason=secret, kind=None)])
    assert "kind" in str(caught.value)
    assert secret not in "".join(traceback.format_exception(caught.value))
