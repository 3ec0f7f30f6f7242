"""Limits on open requests: a flood is refused while it comes in."""

import threading
import uuid

import pytest
from sqlalchemy import update

from app.forget_requests import limits
from app.forget_requests.limits import OpenRequests, TooManyOpenRequestsError
from app.tables import ForgetRequest
from app.tables.forget_request import RequestStatus
from app.trust.scopes import Scope

BODY = {"model": "pets", "target": {"kind": "records", "ids": ["r0"]}}


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"max_open_requests_per_key": 2, "max_open_requests_per_model": 3})


@pytest.fixture
def submit(client, shelf):
    shelf.model()

    def submit(headers, **body):
        return client.post("/v1/forget-requests", json=BODY | body, headers=headers)

    return submit


def test_a_key_has_so_many_open_requests_and_no_more(submit, make_key, runtime):
    headers = make_key(Scope.REQUESTS_WRITE)
    assert [submit(headers).status_code for _ in range(3)] == [202, 202, 429]

    refused = submit(headers)

    assert refused.json()["type"] == "urn:expunge:problem:too-many-open-requests"
    assert refused.json()["detail"].startswith(
        "This API key has 2 forget requests that are pending or running"
    )
    assert refused.headers["Retry-After"] == "60"
    with runtime.database.read() as session:
        assert session.query(ForgetRequest).count() == 2


def test_a_model_has_so_many_whoever_submits_them(submit, make_key):
    statuses = [submit(make_key(Scope.REQUESTS_WRITE)).status_code for _ in range(4)]
    assert statuses == [202, 202, 202, 429]
    assert "The model 'pets' has 3" in submit(make_key(Scope.REQUESTS_WRITE)).json()["detail"]


def test_there_is_room_again_once_some_are_done(submit, make_key, runtime, monkeypatch):
    headers = make_key(Scope.REQUESTS_WRITE)
    assert [submit(headers).status_code for _ in range(3)] == [202, 202, 429]
    with runtime.database.write() as session:
        session.execute(update(ForgetRequest).values(status=RequestStatus.COMPLETED))
    monkeypatch.setattr(limits.time, "monotonic", lambda clock=limits.time.monotonic: clock() + 1000)
    assert submit(headers).status_code == 202


def test_an_answer_is_repeated_although_the_limit_is_reached(client, submit, make_key):
    headers = make_key(Scope.REQUESTS_WRITE) | {"Idempotency-Key": "first"}
    first = submit(headers)
    submit({name: value for name, value in headers.items() if name != "Idempotency-Key"})
    again = submit(headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


def test_rows_are_counted_once_for_many_submissions(runtime, monkeypatch):
    counted = []
    requests = OpenRequests(1000, 1000)
    monkeypatch.setattr(
        requests, "_count", lambda session: counted.append(1) or OpenRequests._count(requests, session)
    )
    with runtime.database.read() as session:
        for _ in range(100):
            requests.admit(session, uuid.uuid4(), uuid.uuid4(), "pets")
    assert len(counted) == 1


def test_threads_that_come_at_once_share_the_places(runtime):
    requests = OpenRequests(50, 1000)
    key, model, refused = uuid.uuid4(), uuid.uuid4(), []
    with runtime.database.read() as session:
        requests.admit(session, key, model, "pets")

        def admit():
            for _ in range(20):
                try:
                    requests.admit(session, key, model, "pets")
                except TooManyOpenRequestsError:
                    refused.append(1)

        threads = [threading.Thread(target=admit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(refused) == 31
