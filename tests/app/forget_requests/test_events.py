import datetime as dt
import json
import threading
import uuid

import httpx
import pytest
from httpx_sse import connect_sse
from sqlalchemy import select

from app.forget_requests import events as streams
from app.forget_requests.states import change_status
from app.tables import Event, ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope

URL = "/v1/forget-requests"
STREAM = {"Accept": "text/event-stream"}


def now():
    return dt.datetime.now(dt.UTC)


class Life:
    """A stored request, and a worker's hand that moves it on."""

    def __init__(self, runtime, pets):
        self.runtime = runtime
        self.model_id = pets.id
        self.id = uuid.uuid4()
        with runtime.database.write() as session:
            session.add(
                ForgetRequest(
                    id=self.id,
                    model_id=pets.id,
                    target={"kind": "records", "ids": ["r1"]},
                    target_kind="records",
                    target_count=1,
                    guarantee="any",
                    method="auto",
                    parameters={},
                    group_key="0" * 64,
                    status=RequestStatus.PENDING,
                    due_at=now(),
                    created_at=now(),
                    updated_at=now(),
                )
            )
            session.flush()
            session.add(
                Event(
                    forget_request_id=self.id,
                    type="status",
                    status="pending",
                    reason="received",
                    created_at=now(),
                )
            )

    @property
    def url(self):
        return f"{URL}/{self.id}/events"

    def become(self, status, reason):
        with self.runtime.database.write() as session:
            change_status(session, [session.get_one(ForgetRequest, self.id)], status, reason, now())

    def claim(self):
        """Let a new job serve the request, as a worker's claim does."""
        job_id = uuid.uuid4()
        with self.runtime.database.write() as session:
            kind, state = JobKind.UNLEARN, JobState.RUNNING
            session.add(Job(id=job_id, model_id=self.model_id, kind=kind, state=state, created_at=now()))
            session.flush()
            request = session.get_one(ForgetRequest, self.id)
            request.job_id = job_id
            change_status(session, [request], RequestStatus.RUNNING, "claimed", now(), {"job": str(job_id)})
        return job_id

    def report(self, job_id, reason, kind="progress"):
        with self.runtime.database.write() as session:
            session.add(Event(job_id=job_id, type=kind, reason=reason, details={"step": 1}, created_at=now()))

    def abandon(self, job_id):
        with self.runtime.database.write() as session:
            session.get_one(Job, job_id).state = JobState.ABANDONED
        self.become(RequestStatus.PENDING, "its worker died")


@pytest.fixture
def life(runtime, shelf):
    return Life(runtime, shelf.model("pets"))


@pytest.fixture(autouse=True)
def _impatience(monkeypatch):
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.01)


def reasons(response):
    assert response.status_code == 200, response.text
    return [item["reason"] for item in response.json()["items"]]


def test_history_holds_the_requests_events_and_those_of_every_job_that_served_it(life, client, admin_headers):
    first = life.claim()
    life.report(first, "half done")
    life.abandon(first)
    second = life.claim()
    life.report(second, "done", kind="rung")
    life.become(RequestStatus.COMPLETED, "version 2")
    response = client.get(life.url, headers=admin_headers)
    assert reasons(response) == [
        "received", "claimed", "half done", "its worker died", "claimed", "done", "version 2",
    ]  # fmt: skip
    items = response.json()["items"]
    assert [item["job"] for item in items] == [None, None, str(first), None, None, str(second), None]
    assert items[5]["details"] == {"step": 1}
    assert [item["id"] for item in items] == sorted(item["id"] for item in items)


def test_history_of_another_requests_job_is_not_shown(life, runtime, client, admin_headers):
    job_id = life.claim()
    life.become(RequestStatus.COMPLETED, "over")
    with runtime.database.write() as session:
        session.get_one(Job, job_id).state = JobState.COMPLETED
        model_id = session.get_one(Job, job_id).model_id
        other = Job(
            id=uuid.uuid4(), model_id=model_id, kind=JobKind.UPDATE, state=JobState.RUNNING, created_at=now()
        )
        session.add(other)
    life.report(other.id, "somebody else's")
    assert reasons(client.get(life.url, headers=admin_headers)) == ["received", "claimed", "over"]


def test_long_histories_come_in_pages(life, client, admin_headers):
    job_id = life.claim()
    for number in range(5):
        life.report(job_id, f"step {number}")
    path, pages = f"{life.url}?limit=3", []
    while path is not None:
        response = client.get(path, headers=admin_headers)
        pages.append(reasons(response))
        path = response.json()["next"]
        assert ("link" in response.headers) == (path is not None)
    assert pages == [["received", "claimed", "step 0"], ["step 1", "step 2", "step 3"], ["step 4"]]


@pytest.mark.parametrize(
    "headers", [{"Last-Event-ID": "x"}, {"Last-Event-ID": "-1"}, {"Last-Event-ID": str(1 << 63)}]
)
def test_event_id_that_is_none_is_refused(life, client, admin_headers, headers):
    assert client.get(life.url, headers={**admin_headers, **STREAM, **headers}).status_code == 422


def test_stream_tells_what_happens_and_ends_when_the_request_is_completed(life, live, admin_headers):
    def work():
        job_id = life.claim()
        life.report(job_id, "half done")
        life.become(RequestStatus.COMPLETED, "version 2")

    worker = threading.Thread(target=work)
    with (
        httpx.Client(base_url=live, headers=admin_headers) as client,
        connect_sse(client, "GET", life.url) as source,
    ):
        assert source.response.headers["content-type"].startswith("text/event-stream")
        assert source.response.headers["cache-control"] == "no-store"
        events = source.iter_sse()
        first = next(events)
        assert (first.event, json.loads(first.data)["reason"]) == ("status", "received")
        worker.start()
        rest = list(events)
    worker.join()
    assert [json.loads(event.data)["reason"] for event in rest] == ["claimed", "half done", "version 2"]
    assert [event.event for event in rest] == ["status", "progress", "status"]
    assert [event.id for event in rest] == [str(json.loads(event.data)["id"]) for event in rest]


def test_stream_goes_on_after_the_last_event_seen(life, live, admin_headers, runtime):
    job_id = life.claim()
    life.report(job_id, "half done")
    life.become(RequestStatus.COMPLETED, "version 2")
    with runtime.database.read() as session:
        ids = session.scalars(select(Event.id).order_by(Event.id)).all()

    def seen(last_event_id):
        headers = {**admin_headers, "Last-Event-ID": str(last_event_id)}
        with (
            httpx.Client(base_url=live, headers=headers) as client,
            connect_sse(client, "GET", life.url) as source,
        ):
            return [event.id for event in source.iter_sse()]

    assert seen(0) == [str(event_id) for event_id in ids]
    assert seen(ids[1]) == [str(event_id) for event_id in ids[2:]]
    done = httpx.get(live + life.url, headers={**admin_headers, **STREAM, "Last-Event-ID": str(ids[-1])})
    assert done.status_code == 204


def test_stream_says_how_long_to_wait_before_reconnecting(life, live, admin_headers):
    life.become(RequestStatus.CANCELLED, "no longer wanted")
    response = httpx.get(live + life.url, headers={**admin_headers, **STREAM})
    assert "retry: 2000\n" in response.text


@pytest.mark.parametrize("status", [RequestStatus.FAILED, RequestStatus.NEEDS_REVIEW])
def test_stream_ends_where_only_a_person_can_go_on_but_may_be_taken_up_again(
    life, live, admin_headers, status
):
    life.claim()
    life.become(status, "stopped")
    response = httpx.get(live + life.url, headers={**admin_headers, **STREAM})
    assert response.text.count("data:") == 3
    again = httpx.get(live + life.url, headers={**admin_headers, **STREAM, "Last-Event-ID": "99999"})
    assert (again.status_code, again.text) == (200, "")


def test_silent_stream_is_kept_alive_by_comments(life, live, admin_headers, monkeypatch):
    monkeypatch.setattr(streams, "KEEPALIVE_SECONDS", 0.02)
    with httpx.stream("GET", live + life.url, headers={**admin_headers, **STREAM}) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": ping"
        life.become(RequestStatus.CANCELLED, "enough")
        assert any("enough" in line for line in lines)


def test_stream_ends_after_its_time_and_can_be_taken_up_again(life, live, admin_headers, monkeypatch):
    monkeypatch.setattr(streams, "STREAM_SECONDS", 0.05)
    response = httpx.get(live + life.url, headers={**admin_headers, **STREAM})
    assert response.text.count("data:") == 1


def test_streams_beyond_the_limit_are_refused_until_one_has_ended(
    life, settings, live, service, admin_headers
):
    runtime = service.state.runtime
    places = settings.max_event_streams
    for _ in range(places - 1):
        assert runtime.event_streams.acquire(blocking=False)
    headers = {**admin_headers, **STREAM}
    with httpx.stream("GET", live + life.url, headers=headers) as first:
        lines = first.iter_lines()
        assert "received" in next(line for line in lines if line.startswith("data:"))
        refused = httpx.get(live + life.url, headers=headers)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:expunge:problem:too-many-streams"
        assert refused.headers["retry-after"]
        assert httpx.get(live + life.url, headers=admin_headers).status_code == 200
        life.become(RequestStatus.CANCELLED, "over")
        assert any("over" in line for line in lines)
    assert runtime.event_streams.acquire(timeout=10)


def test_abandoned_stream_gives_its_place_back(life, live, service, admin_headers):
    runtime = service.state.runtime
    with httpx.stream("GET", live + life.url, headers={**admin_headers, **STREAM}) as response:
        next(response.iter_lines())
    for _ in range(200):
        assert runtime.event_streams.acquire(timeout=10)


def test_waiting_streams_hold_neither_threads_nor_connections(life, live, service, admin_headers):
    database = service.state.runtime.database
    headers = {**admin_headers, **STREAM}
    opened = []
    with httpx.Client(limits=httpx.Limits(max_connections=None), timeout=20) as client:
        for _ in range(60):
            response = client.send(client.build_request("GET", live + life.url, headers=headers), stream=True)
            opened.append(response)
            assert response.status_code == 200
        assert client.get(f"{live}{URL}/{life.id}", headers=admin_headers).status_code == 200
        assert database.engine.pool.checkedout() <= 20
        for response in opened:
            response.close()


def test_events_need_the_scope_to_read(life, client, make_key):
    assert client.get(life.url, headers={**make_key(Scope.REQUESTS_WRITE), **STREAM}).status_code == 403
