import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.forget_requests.states import TRANSITIONS
from app.tables import ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope

URL = "/v1/forget-requests"
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


@pytest.fixture
def submit(pets, client, admin_headers):
    def submit(**fields):
        body = {"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, **fields}
        response = client.post(URL, json=body, headers=admin_headers)
        assert response.status_code == 202, response.text
        return response.json()["id"]

    return submit


@pytest.fixture
def post(client, admin_headers):
    def post(request_id, action, body=None):
        return client.post(f"{URL}/{request_id}/{action}", json=body, headers=admin_headers)

    return post


@pytest.fixture
def events_of(client, admin_headers):
    def events_of(request_id):
        items = client.get(f"{URL}/{request_id}/events", headers=admin_headers).json()["items"]
        return [(item["type"], item["status"]) for item in items]

    return events_of


@pytest.fixture
def put(runtime):
    """Bring a request to a state behind the service's back, as a worker would."""

    def put(request_id, status, **fields):
        with runtime.database.write() as session:
            request = session.get_one(ForgetRequest, uuid.UUID(request_id))
            request.status = status
            for name, value in fields.items():
                setattr(request, name, value)

    return put


@pytest.fixture
def job(runtime, pets):
    def job(state=JobState.RUNNING, **fields):
        job = Job(
            id=uuid.uuid4(), model_id=pets.id, kind=JobKind.UNLEARN, state=state, created_at=NOW, **fields
        )
        with runtime.database.write() as session:
            session.add(job)
        return job.id

    return job


def fetch(runtime, table, row_id):
    with runtime.database.read() as session:
        return session.get_one(table, uuid.UUID(str(row_id)))


def test_waiting_request_is_cancelled_at_once(submit, post, events_of):
    request_id = submit()
    response = post(request_id, "cancel")
    assert response.status_code == 200
    assert response.json()["status"] == "cancelled"
    assert response.json()["reason"]
    assert events_of(request_id) == [("status", "pending"), ("status", "cancelled")]


def test_running_request_is_cancelled_through_its_job(submit, post, put, job, runtime, events_of):
    request_id, job_id = submit(), job()
    put(request_id, RequestStatus.RUNNING, job_id=job_id)
    response = post(request_id, "cancel")
    assert response.status_code == 202
    assert response.headers["location"] == f"{URL}/{request_id}"
    assert response.json()["status"] == "running"
    assert response.json()["cancel_requested_at"] is not None
    assert fetch(runtime, Job, job_id).state is JobState.CANCELLING
    again = post(request_id, "cancel")
    assert again.status_code == 202
    assert again.json()["cancel_requested_at"] == response.json()["cancel_requested_at"]
    assert events_of(request_id) == [("status", "pending"), ("cancel_requested", "running")]


@pytest.mark.parametrize("status", sorted(set(RequestStatus) - {RequestStatus.RUNNING}))
def test_only_open_requests_can_be_cancelled(submit, post, put, status):
    request_id = submit()
    put(request_id, status)
    response = post(request_id, "cancel")
    if RequestStatus.CANCELLED in TRANSITIONS[status]:
        assert response.status_code == 200
    else:
        assert response.status_code == 409
        assert response.json()["type"] == "urn:expunge:problem:illegal-status-change"
        assert response.json()["current"] == status.value


@pytest.mark.parametrize("status", [RequestStatus.FAILED, RequestStatus.NEEDS_REVIEW])
def test_retried_request_waits_again_with_a_clean_slate(submit, post, put, runtime, status, events_of):
    request_id = submit()
    put(request_id, status, attempts=3, split="010", cancel_requested_at=NOW)
    response = post(request_id, "retry", {})
    assert response.status_code == 202
    assert response.headers["location"] == f"{URL}/{request_id}"
    assert response.json()["status"] == "pending"
    assert (response.json()["attempts"], response.json()["cancel_requested_at"]) == (0, None)
    assert fetch(runtime, ForgetRequest, request_id).split == ""
    assert events_of(request_id)[-1] == ("status", "pending")


def test_retry_keeps_what_it_does_not_change(submit, post, put):
    request_id = submit(method="acu", parameters={"solve": "update"}, guarantee="exact")
    put(request_id, RequestStatus.FAILED)
    body = post(request_id, "retry", {}).json()
    assert (body["method"], body["guarantee"], body["parameters"]["solve"]) == ("acu", "exact", "update")


def test_retry_may_ask_for_something_else(submit, post, put, runtime):
    request_id = submit(method="acu", parameters={"solve": "update"})
    before = fetch(runtime, ForgetRequest, request_id).group_key
    put(request_id, RequestStatus.FAILED)
    body = post(request_id, "retry", {"method": "retrain", "guarantee": "exact"}).json()
    assert (body["method"], body["guarantee"], body["parameters"]) == ("retrain", "exact", {})
    assert fetch(runtime, ForgetRequest, request_id).group_key != before


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"method": "wishful_thinking"}, "unknown-method"),
        ({"method": "acu", "parameters": {"max_rank": 0}}, "invalid-parameters"),
        ({"parameters": {"solve": "fresh"}}, "invalid-parameters"),
        ({"target": {"kind": "records", "ids": ["r2"]}}, "invalid-request"),
        (None, "invalid-request"),
    ],
)
def test_retry_that_cannot_be_served_changes_nothing(submit, post, put, runtime, body, slug):
    request_id = submit()
    put(request_id, RequestStatus.FAILED)
    response = post(request_id, "retry", body)
    assert response.status_code == 422
    assert response.json()["type"] == f"urn:expunge:problem:{slug}"
    assert fetch(runtime, ForgetRequest, request_id).status is RequestStatus.FAILED


def test_retry_of_ids_that_are_gone_is_refused(submit, post, put, runtime, shelf, pets):
    request_id = submit()
    put(request_id, RequestStatus.FAILED, target={"kind": "records", "ids": ["gone"]})
    assert post(request_id, "retry", {}).json()["type"] == "urn:expunge:problem:unknown-ids"
    put(request_id, RequestStatus.FAILED, target=None)
    assert post(request_id, "retry", {}).json()["type"] == "urn:expunge:problem:target-erased"


@pytest.mark.parametrize(
    "status", sorted(set(RequestStatus) - {RequestStatus.FAILED, RequestStatus.NEEDS_REVIEW})
)
def test_only_stopped_requests_can_be_retried(submit, post, put, status):
    request_id = submit()
    put(request_id, status)
    response = post(request_id, "retry", {})
    assert response.status_code == 409
    assert response.json()["current"] == status.value


def test_concurrent_cancellations_change_the_state_once(submit, client, admin_headers, events_of):
    request_id = submit()
    together = threading.Barrier(4)

    def cancel(_):
        together.wait()
        return client.post(f"{URL}/{request_id}/cancel", headers=admin_headers).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(cancel, range(4))) == [200, 409, 409, 409]
    assert events_of(request_id) == [("status", "pending"), ("status", "cancelled")]


def test_changes_need_the_scope_to_write(submit, client, make_key):
    request_id = submit()
    headers = make_key(Scope.REQUESTS_READ)
    for action in ("cancel", "retry"):
        assert client.post(f"{URL}/{request_id}/{action}", json={}, headers=headers).status_code == 403
