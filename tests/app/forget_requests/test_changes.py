import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.forget_requests.states import TRANSITIONS
from app.tables import ForgetRequest, Job
from app.tables.forget_request import RefusalGround, RequestStatus
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope
from app.worker.claims import work_waits

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


OPEN = {RequestStatus.PENDING, RequestStatus.RUNNING, RequestStatus.NEEDS_REVIEW, RequestStatus.FAILED}


def test_due_date_is_put_off_once_by_two_months(submit, post, events_of, runtime):
    request_id = submit(due_at="2027-12-31T10:00:00Z")
    response = post(request_id, "extend", {"reason": "many requests at once"})
    assert response.status_code == 200
    assert response.json()["due_at"] == "2028-02-29T10:00:00Z"
    assert response.json()["extended_at"] is not None
    assert events_of(request_id)[-1] == ("extended", "pending")
    again = post(request_id, "extend", {"reason": "still many"})
    assert again.status_code == 409
    assert again.json()["type"] == "urn:expunge:problem:already-extended"
    assert fetch(runtime, ForgetRequest, request_id).due_at == dt.datetime(2028, 2, 29, 10, tzinfo=dt.UTC)


def test_extension_is_an_event_with_its_reason_and_both_dates(submit, post, client, admin_headers):
    request_id = submit(due_at="2027-01-15T00:00:00Z")
    post(request_id, "extend", {"reason": "a complex case"})
    event = client.get(f"{URL}/{request_id}/events", headers=admin_headers).json()["items"][-1]
    assert event["reason"] == "test put its due date off by 2 months: a complex case"
    assert event["details"] == {
        "due_before": "2027-01-15T00:00:00+00:00",
        "due_at": "2027-03-15T00:00:00+00:00",
    }


def test_extension_ends_being_overdue(submit, post, put, client, admin_headers):
    request_id = submit()
    put(request_id, RequestStatus.NEEDS_REVIEW, due_at=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    assert client.get(f"{URL}/{request_id}", headers=admin_headers).json()["overdue"]
    assert not post(request_id, "extend", {"reason": "a complex case"}).json()["overdue"]


@pytest.mark.parametrize("status", sorted(RequestStatus))
def test_only_open_requests_can_be_extended(submit, post, put, status):
    request_id = submit()
    put(request_id, status)
    response = post(request_id, "extend", {"reason": "many requests"})
    assert response.status_code == (200 if status in OPEN else 409)
    if status not in OPEN:
        assert response.json()["type"] == "urn:expunge:problem:request-not-open"


@pytest.mark.parametrize("status", sorted(RequestStatus))
def test_requests_are_refused_where_the_table_of_changes_allows_it(submit, post, put, events_of, status):
    request_id = submit()
    put(request_id, status)
    response = post(request_id, "refuse", {"ground": "legal_claims", "reason": "a suit is pending"})
    if RequestStatus.REFUSED in TRANSITIONS[status]:
        assert response.status_code == 200
        assert response.json()["refusal_ground"] == RefusalGround.LEGAL_CLAIMS
        assert response.json()["reason"] == "test refused it (legal claims): a suit is pending"
        assert events_of(request_id)[-1] == ("status", "refused")
    else:
        assert response.status_code == 409
        assert response.json()["type"] == "urn:expunge:problem:illegal-status-change"


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("extend", {}),
        ("extend", {"reason": " "}),
        ("extend", {"reason": "x" * 1001}),
        ("extend", {"reason": "many", "months": 12}),
        ("refuse", {"reason": "no ground"}),
        ("refuse", {"ground": "inconvenient", "reason": "no such ground"}),
        ("refuse", {"ground": "other", "reason": ""}),
    ],
)
def test_a_decision_without_its_reasons_changes_nothing(submit, post, runtime, action, body):
    request_id = submit()
    response = post(request_id, action, body)
    assert response.status_code == 422
    request = fetch(runtime, ForgetRequest, request_id)
    assert (request.status, request.extended_at) == (RequestStatus.PENDING, None)


def test_a_refused_request_is_never_claimed(submit, post, runtime):
    request_id = submit()
    post(request_id, "refuse", {"ground": "unfounded", "reason": "not about the caller"})
    with runtime.database.read() as session:
        assert not work_waits(session)


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
    bodies = {
        "cancel": None,
        "retry": {},
        "extend": {"reason": "many"},
        "refuse": {"ground": "other", "reason": "no"},
    }
    for action, body in bodies.items():
        assert client.post(f"{URL}/{request_id}/{action}", json=body, headers=headers).status_code == 403
