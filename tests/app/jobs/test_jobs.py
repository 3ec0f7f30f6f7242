import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from app.tables import Event, Job
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope

URL = "/v1/jobs"
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@pytest.fixture
def pets(shelf):
    """A model whose dataset has moved on."""
    dataset_id = shelf.dataset(["r0", "r1"])
    model = shelf.model("pets", dataset_id)
    shelf.grow(dataset_id, ["r1", "r2"])
    return model


@pytest.fixture
def insert(runtime):
    def insert(model, kind=JobKind.UPDATE, state=JobState.RUNNING, **fields):
        job = Job(
            **{
                "id": uuid.uuid4(),
                "model_id": model.id,
                "kind": kind,
                "state": state,
                "created_at": NOW,
                **fields,
            }
        )
        with runtime.database.write() as session:
            session.add(job)
        return str(job.id)

    return insert


@pytest.fixture
def post(client, admin_headers):
    def post(path):
        return client.post(path, headers=admin_headers)

    return post


@pytest.fixture
def get(client, admin_headers):
    def get(path, **parameters):
        return client.get(path, params=parameters or None, headers=admin_headers)

    return get


def test_update_is_queued_and_shown(pets, post, get):
    response = post("/v1/models/pets/updates")
    assert response.status_code == 202
    assert response.headers["retry-after"] == "1"
    body = response.json()
    assert response.headers["location"] == f"{URL}/{body['id']}"
    assert (body["kind"], body["state"], body["model"], body["rungs"]) == ("update", "queued", "pets", [])
    assert get(response.headers["location"]).json() == body


def test_update_that_waits_already_is_the_answer_to_the_next_call(pets, post, runtime):
    first, second = post("/v1/models/pets/updates"), post("/v1/models/pets/updates")
    assert second.status_code == 202
    assert second.json() == first.json()
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
        assert session.scalar(select(func.count()).select_from(Event)) == 1


def test_update_can_be_queued_while_a_job_runs(pets, insert, post):
    insert(pets, JobKind.UNLEARN, JobState.RUNNING)
    assert post("/v1/models/pets/updates").status_code == 202


def test_concurrent_calls_queue_one_update(pets, client, admin_headers):
    together = threading.Barrier(4)

    def call(_):
        together.wait()
        return client.post("/v1/models/pets/updates", headers=admin_headers)

    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(call, range(4)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1


def test_model_that_stands_at_the_head_has_nothing_to_learn(shelf, post):
    shelf.model("pets")
    response = post("/v1/models/pets/updates")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:expunge:problem:nothing-to-learn"


def test_model_that_no_method_updates_is_refused(pets, post, monkeypatch):
    from app.jobs import service

    monkeypatch.setattr(service, "methods", lambda _family: ())
    response = post("/v1/models/pets/updates")
    assert response.status_code == 422
    assert response.json()["type"] == "urn:expunge:problem:no-suitable-method"


def test_update_of_an_absent_model_is_a_404(post):
    response = post("/v1/models/nobody/updates")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:expunge:problem:model-not-found"
    assert post("/v1/models/no%00body/updates").status_code == 422


def test_update_needs_the_scope_for_the_model(pets, client, make_key):
    for headers in (make_key(Scope.MODELS_READ), make_key(Scope.MODELS_WRITE, models=["other"])):
        assert client.post("/v1/models/pets/updates", headers=headers).status_code == 403


def test_job_shows_its_measurements_but_not_where_its_candidate_lies(pets, insert, get):
    rungs = [
        {
            "method": "acu",
            "guarantee": "exact",
            "configuration": {},
            "audit": None,
            "failure": "no",
            "seconds": 1.0,
        }
    ]
    job_id = insert(
        pets,
        JobKind.UNLEARN,
        JobState.NEEDS_REVIEW,
        plan={"rungs": [], "ruled_out": []},
        progress={"stage": "audit", "step": 1, "of": 2, "seconds_left": None},
        outcome={"rungs": rungs, "candidate": {"location": "jobs/secret-place"}},
        parent_version=1,
        seed=7,
    )
    response = get(f"{URL}/{job_id}")
    body = response.json()
    assert (body["rungs"], body["has_candidate"], body["seed"]) == (rungs, True, 7)
    assert body["progress"]["stage"] == "audit"
    assert "secret-place" not in response.text


def test_list_is_filtered_and_paged_newest_first(pets, shelf, insert, get):
    other = shelf.model("other")
    ids = [
        insert(pets, state=JobState.FAILED, created_at=NOW + dt.timedelta(hours=hour)) for hour in range(3)
    ]
    running = insert(pets, JobKind.UNLEARN, JobState.RUNNING, created_at=NOW + dt.timedelta(hours=5))
    foreign = insert(other, state=JobState.QUEUED, created_at=NOW + dt.timedelta(hours=6))

    def listed(**parameters):
        return [item["id"] for item in get(URL, **parameters).json()["items"]]

    assert listed() == [foreign, running, *ids[::-1]]
    assert listed(model="pets", kind="update") == ids[::-1]
    assert listed(state=["queued", "running"]) == [foreign, running]
    first = get(URL, model="pets", limit=3)
    assert first.headers["link"] == f'<{first.json()["next"]}>; rel="next"'
    rest = get(first.json()["next"])
    assert [item["id"] for item in first.json()["items"] + rest.json()["items"]] == [running, *ids[::-1]]
    assert rest.json()["next"] is None
    for wrong in ({"state": "asleep"}, {"kind": "odd"}, {"cursor": "x"}, {"limit": 0}, {"model": "\0"}):
        assert get(URL, **wrong).status_code == 422


def test_waiting_update_is_cancelled_at_once(pets, post, get):
    job_id = post("/v1/models/pets/updates").json()["id"]
    response = post(f"{URL}/{job_id}/cancel")
    assert response.status_code == 200
    assert response.json()["state"] == "cancelled"
    assert response.json()["finished_at"] is not None
    assert post(f"{URL}/{job_id}/cancel").status_code == 409
    assert post("/v1/models/pets/updates").json()["id"] != job_id


def test_running_update_is_asked_to_stop(pets, insert, post, runtime):
    job_id = insert(pets)
    for _ in range(2):
        response = post(f"{URL}/{job_id}/cancel")
        assert response.status_code == 202
        assert response.headers["location"] == f"{URL}/{job_id}"
        assert response.json()["state"] == "cancelling"
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 1


@pytest.mark.parametrize(
    "state", sorted(set(JobState) - {JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING})
)
def test_job_that_has_ended_cannot_be_cancelled(pets, insert, post, state):
    response = post(f"{URL}/{insert(pets, state=state)}/cancel")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:expunge:problem:job-not-cancellable"


def test_job_of_forget_requests_is_cancelled_through_them(pets, insert, post):
    response = post(f"{URL}/{insert(pets, JobKind.UNLEARN)}/cancel")
    assert response.status_code == 409
    assert "cancel those" in response.json()["detail"]


def test_key_sees_jobs_of_its_own_models_only(pets, insert, client, make_key):
    job_id = insert(pets)
    headers = make_key(Scope.MODELS_READ, Scope.MODELS_WRITE, models=["other"])
    assert client.get(URL, headers=headers).json()["items"] == []
    assert client.get(f"{URL}/{job_id}", headers=headers).status_code == 404
    assert client.post(f"{URL}/{job_id}/cancel", headers=headers).status_code == 404


def test_absent_job_is_a_404(get, post):
    assert get(f"{URL}/{uuid.uuid4()}").status_code == 404
    assert post(f"{URL}/{uuid.uuid4()}/cancel").status_code == 404
    assert get(f"{URL}/1").status_code == 422
