import pytest

from app.tables import ForgetRequest, Version
from app.trust.scopes import Scope

URL = "/v1/forget-requests"
ACCEPT = {"decision": "accept", "reason": "measured by hand"}


@pytest.fixture
def model(yard):
    return yard.model()


@pytest.fixture
def reviewed(yard, model, worker, executor):
    """Two requests that one job left for a person to decide about, with a candidate."""
    executor.scripts = [lambda task, place: iter([executor.forget(task, place, passed=False)])]
    ids = yard.request(model, "r1"), yard.request(model, "r2")
    worker.run_until_idle()
    return ids


@pytest.fixture
def post(client, admin_headers):
    def post(request_id, action, body):
        return client.post(f"{URL}/{request_id}/{action}", json=body, headers=admin_headers)

    return post


def test_accepted_candidate_completes_every_request_of_its_job(
    reviewed, yard, model, post, client, admin_headers
):
    first, second = reviewed
    response = post(first, "review", ACCEPT)
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["version"]) == ("completed", 2)
    assert "measured by hand" in response.json()["reason"]
    assert yard.statuses(first, second) == ["completed", "completed"]
    assert yard.get(Version, (model.id, 1)).state.value == "quarantined"
    for request_id in reviewed:
        items = client.get(f"{URL}/{request_id}/events", headers=admin_headers).json()["items"]
        [review] = [item for item in items if item["type"] == "review"]
        assert review["reason"] == "test accepted the candidate: measured by hand"
        assert (review["details"]["decision"], review["details"]["reviewer"]) == ("accept", "test")
        own = [item["status"] for item in items if item["type"] == "status" and item["job"] is None]
        assert own[-3:] == ["running", "needs_review", "completed"]
    assert post(first, "review", ACCEPT).status_code == 409


def test_candidate_is_announced_by_its_job(reviewed, yard, client, admin_headers):
    [job] = yard.jobs()
    body = client.get(f"/v1/jobs/{job.id}", headers=admin_headers).json()
    assert (body["state"], body["has_candidate"], body["rungs"][0]["method"]) == ("needs_review", True, "acu")
    assert "candidates/" not in str(body)


@pytest.mark.parametrize(
    "body",
    [
        {"decision": "accept"},
        {"decision": "accept", "reason": ""},
        {"decision": "accept", "reason": " \n"},
        {"decision": "accept", "reason": "x" * 1001},
        {"decision": "reject", "reason": "no"},
        {**ACCEPT, "reviewer": "somebody else"},
    ],
)
def test_review_without_a_decision_and_a_reason_is_refused(reviewed, yard, post, body):
    assert post(reviewed[0], "review", body).status_code == 422
    assert yard.statuses(*reviewed) == ["needs_review", "needs_review"]


def test_candidate_of_an_overtaken_model_is_a_conflict(reviewed, yard, model, post, client, admin_headers):
    yard.overtake(model)
    response = post(reviewed[0], "review", ACCEPT)
    assert response.status_code == 409
    assert response.json()["type"] == "urn:expunge:problem:candidate-outdated"
    assert yard.statuses(*reviewed) == ["needs_review", "needs_review"]
    items = client.get(f"{URL}/{reviewed[0]}/events", headers=admin_headers).json()["items"]
    assert "review" not in [item["type"] for item in items]


def test_candidate_that_forgets_more_than_is_asked_for_is_a_conflict(reviewed, post):
    assert post(reviewed[1], "cancel", None).status_code == 200
    assert post(reviewed[0], "review", ACCEPT).json()["type"] == "urn:expunge:problem:candidate-outdated"


def test_only_what_needs_review_can_be_reviewed(yard, model, post):
    request_id = yard.request(model, "r1")
    response = post(request_id, "review", ACCEPT)
    assert response.status_code == 409
    assert response.json()["type"] == "urn:expunge:problem:illegal-status-change"
    assert yard.get(ForgetRequest, request_id).status.value == "pending"


def test_reviewer_must_be_allowed_to_publish(reviewed, yard, client, make_key):
    for headers in (make_key(Scope.REQUESTS_WRITE), make_key(Scope.MODELS_WRITE)):
        response = client.post(f"{URL}/{reviewed[0]}/review", json=ACCEPT, headers=headers)
        assert response.status_code == 403
    both = make_key(Scope.REQUESTS_WRITE, Scope.MODELS_WRITE)
    assert client.post(f"{URL}/{reviewed[0]}/review", json=ACCEPT, headers=both).status_code == 200
