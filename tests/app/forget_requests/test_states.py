import datetime as dt
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.forget_requests.states import FINAL, TRANSITIONS, IllegalChangeError, change_status
from app.tables import Base, ForgetRequest
from app.tables.forget_request import RequestStatus

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
DOCUMENTED = {
    "pending": {"running", "needs_review", "cancelled", "refused"},
    "running": {"completed", "needs_review", "failed", "cancelled", "pending"},
    "needs_review": {"pending", "completed", "refused", "cancelled"},
    "failed": {"pending"},
}
statuses = st.sampled_from(RequestStatus)


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@given(statuses, statuses)
def test_exactly_the_documented_changes_are_legal(before, after):
    assert (after in TRANSITIONS[before]) == (after.value in DOCUMENTED.get(before.value, ()))


@given(statuses, st.lists(statuses, max_size=8))
def test_walks_change_what_they_may_and_write_one_event_per_change(engine, start, steps):
    request = ForgetRequest(id=uuid.uuid4(), status=start)
    with Session(engine, autoflush=False) as session:
        walk(session, request, steps)


def walk(session, request, steps):
    start = request.status
    reached = [start]
    for step in steps:
        if step in TRANSITIONS[request.status]:
            change_status(session, [request], step, f"to {step}", NOW)
            reached.append(step)
        else:
            with pytest.raises(IllegalChangeError) as refusal:
                change_status(session, [request], step, "no", NOW)
            assert refusal.value.status == 409
            assert refusal.value.members == {"current": request.status.value}
        assert request.status is reached[-1]
    events = list(session.new)
    assert [event.status for event in events] == [status.value for status in reached[1:]]
    assert all(event.reason == f"to {event.status}" for event in events)
    assert (request.completed_at == NOW) == (RequestStatus.COMPLETED in reached[1:])


def test_nothing_leads_out_of_final_states():
    assert {RequestStatus.COMPLETED, RequestStatus.CANCELLED, RequestStatus.REFUSED} == FINAL
