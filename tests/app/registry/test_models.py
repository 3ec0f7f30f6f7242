import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.datasets.suppression import suppress
from app.registry import registration
from app.tables import Dataset, Job, Version
from app.tables.job import JobKind, JobState
from app.tables.version import VersionOrigin, VersionState
from app.trust.scopes import Scope
from unlearning.audits.report import Audit


@pytest.fixture
def model(registry):
    return registry.model("reader")


@pytest.fixture
def change_version(runtime, model):
    """Change fields of a version's row as a worker would."""

    def change(number: int = 1, **fields):
        with runtime.database.write() as session:
            version = session.get(Version, (uuid.UUID(model["id"]), number))
            for name, value in fields.items():
                setattr(version, name, value)

    return change


def slug(answer) -> str:
    return answer.json()["type"].removeprefix("urn:expunge:problem:")


def add_version(registry, files=None, **fields):
    return registry.post("/v1/models/reader/versions", fields, files or registry.checkpoint())


def add_records(registry, model, start: int):
    path = f"/v1/datasets/{model['dataset']}/snapshots"
    registry.post(path, {}, {"more.jsonl": registry.records(5, start)}).raise_for_status()


def test_a_registered_model_has_one_version(registry, client, admin_headers, model):
    assert (model["architecture"], model["latest_version"]) == ("analytic", 1)
    assert client.get("/v1/models/reader", headers=admin_headers).json() == model
    listed = client.get("/v1/models/reader/versions", headers=admin_headers).json()
    shown = client.get("/v1/models/reader/versions/1", headers=admin_headers).json()
    assert listed == {"items": [shown], "next": None}
    assert (shown["origin"], shown["state"], shown["snapshot"], shown["parent"]) == (
        "registered",
        "published",
        1,
        None,
    )
    assert [file["path"] for file in shown["files"]] == ["config.json", "model.safetensors"]


def test_latest_redirects_to_the_number_it_stands_for(client, admin_headers, model):
    for rest in "", "/manifest", "/files/config.json?x=1", "/archive":
        answer = client.get(f"/v1/models/reader/versions/latest{rest}", headers=admin_headers)
        assert answer.status_code == 307
        assert answer.headers["location"] == f"/v1/models/reader/versions/1{rest.partition('?')[0]}"


def test_models_are_listed_newest_first_for_the_keys_that_may_see_them(
    registry, client, make_key, admin_headers
):
    dataset = registry.dataset("shared")
    for name in "one", "two", "three":
        registry.model(name, dataset=dataset["id"])
    seen, path = [], "/v1/models?limit=2&family=classifier"
    while path:
        page = client.get(path, headers=admin_headers).json()
        seen += [item["name"] for item in page["items"]]
        path = page["next"]
    assert seen == ["three", "two", "one"]
    limited = make_key(Scope.MODELS_READ, models=["two", "absent"])
    assert [item["name"] for item in client.get("/v1/models", headers=limited).json()["items"]] == ["two"]
    by_dataset = client.get(f"/v1/models?dataset={uuid.uuid4()}", headers=admin_headers).json()
    assert by_dataset["items"] == []


def test_a_key_for_other_models_sees_and_changes_nothing(registry, client, model, make_key, unchanged):
    registry.headers.update(make_key(Scope.MODELS_READ, Scope.MODELS_WRITE, models=["other"]))
    with unchanged():
        for path in "", "/versions", "/versions/1", "/versions/1/manifest", "/versions/latest/archive":
            assert client.get(f"/v1/models/reader{path}", headers=registry.headers).status_code == 403
        assert add_version(registry).status_code == 403
        body = {"name": "mine", "family": "classifier", "dataset": model["dataset"]}
        assert registry.post("/v1/models", body, registry.checkpoint()).status_code == 403


def test_a_version_trained_elsewhere_becomes_the_latest(registry, client, admin_headers, model):
    add_records(registry, model, 30)
    answer = add_version(registry)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/models/reader/versions/2"
    assert (answer.json()["number"], answer.json()["snapshot"], answer.json()["origin"]) == (2, 2, "imported")
    assert add_version(registry, snapshot=1).json()["snapshot"] == 1
    assert client.get("/v1/models/reader", headers=admin_headers).json()["latest_version"] == 3
    first = client.get("/v1/models/reader/versions?limit=2", headers=admin_headers)
    second = client.get(first.json()["next"], headers=admin_headers)
    assert [item["number"] for page in (first, second) for item in page.json()["items"]] == [3, 2, 1]


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.CANCELLING])
def test_no_version_is_added_while_a_job_works_on_the_model(registry, runtime, model, unchanged, state):
    with runtime.database.write() as session:
        session.add(
            Job(
                model_id=uuid.UUID(model["id"]),
                kind=JobKind.UNLEARN,
                state=state,
                created_at=dt.datetime.now(dt.UTC),
            )
        )
    with unchanged():
        answer = add_version(registry)
    assert (answer.status_code, slug(answer)) == (409, "model-busy")


def test_a_model_that_has_forgotten_does_not_learn_again_from_an_old_snapshot(
    registry, runtime, model, change_version, unchanged
):
    add_records(registry, model, 30)
    with runtime.database.write() as session:
        suppress(session, session.get(Dataset, uuid.UUID(model["dataset"])), ["r3"])
    assert add_version(registry, snapshot=1).status_code == 201  # this model was never asked to forget
    change_version(origin=VersionOrigin.UNLEARNED)
    with unchanged():
        answer = add_version(registry, snapshot=1)
    assert (answer.status_code, slug(answer), answer.json()["ids"]) == (422, "forgotten-records", ["r3"])
    assert add_version(registry).status_code == 201


def test_a_checkpoint_of_a_head_that_moved_meanwhile_is_not_recorded_as_of_the_new_one(
    registry, model, monkeypatch, unchanged
):
    check = registration.check_checkpoint

    def check_while_records_arrive(*arguments):
        monkeypatch.setattr(registration, "check_checkpoint", check)
        add_records(registry, model, 30)
        return check(*arguments)

    monkeypatch.setattr(registration, "check_checkpoint", check_while_records_arrive)
    answer = add_version(registry)
    assert (answer.status_code, slug(answer)) == (409, "model-moved")
    with unchanged():
        assert add_version(registry, snapshot=9).status_code == 404


def test_of_two_models_with_one_name_one_is_registered_and_nothing_else_is_kept(
    registry, runtime, monkeypatch
):
    dataset = registry.dataset("letters")
    both_checked = threading.Barrier(2)
    check = registration.check_checkpoint

    def check_together(*arguments):
        manifest = check(*arguments)
        both_checked.wait(10)
        return manifest

    monkeypatch.setattr(registration, "check_checkpoint", check_together)
    body = {"name": "twice", "family": "classifier", "dataset": dataset["id"]}
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(registry.post, "/v1/models", body, registry.checkpoint()) for _ in range(2)]
        answers = sorted((future.result() for future in sent), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [201, 409]
    assert slug(answers[1]) == "model-exists"
    assert len(list(runtime.storage.materialise("models").rglob("manifest.json"))) == 1


def test_a_repeated_registration_gives_the_first_answer_again(registry, model, unchanged):
    first = registry.post("/v1/models/reader/versions", {}, registry.checkpoint(), **{"Idempotency-Key": "k"})
    with unchanged():
        again = registry.post(
            "/v1/models/reader/versions", {}, registry.checkpoint(), **{"Idempotency-Key": "k"}
        )
        changed = registry.post(
            "/v1/models/reader/versions", {}, registry.checkpoint(seed=1), **{"Idempotency-Key": "k"}
        )
    assert (first.status_code, again.json()) == (201, first.json())
    assert (changed.status_code, slug(changed)) == (422, "idempotency-key-reused")


def test_an_audit_is_shown_where_there_is_one(client, admin_headers, model, change_version):
    path = "/v1/models/reader/versions/1/audit"
    answer = client.get(path, headers=admin_headers)
    assert (answer.status_code, slug(answer)) == (404, "audit-not-found")
    audit = Audit(
        method="acu",
        guarantee="exact",
        verdict="pass",
        summary="Nothing is left.",
        checks=(),
        seconds=1.0,
        unlearning_seconds=0.5,
    )
    change_version(audit=audit.model_dump(mode="json"), origin=VersionOrigin.UNLEARNED)
    shown = client.get(path, headers=admin_headers).json()
    assert (shown["policy"], shown["rungs"], shown["skipped"]) == (None, [], [])
    assert Audit.model_validate({name: shown[name] for name in Audit.model_fields}) == audit
    assert client.get("/v1/models/reader/versions/1", headers=admin_headers).json()["verdict"] == "pass"


@pytest.mark.parametrize(
    ("state", "status", "problem"),
    [
        (VersionState.QUARANTINED, 403, "version-quarantined"),
        (VersionState.DESTROYED, 410, "version-destroyed"),
    ],
)
def test_a_version_that_may_not_be_used_is_not_handed_out(
    client, admin_headers, model, change_version, state, status, problem
):
    change_version(state=state)
    for rest in "manifest", "files/config.json", "files/absent", "archive":
        answer = client.get(f"/v1/models/reader/versions/1/{rest}", headers=admin_headers)
        assert (answer.status_code, slug(answer)) == (status, problem)
        assert (
            client.head(f"/v1/models/reader/versions/1/{rest}", headers=admin_headers).status_code == status
        )
    assert client.get("/v1/models/reader/versions/1", headers=admin_headers).json()["state"] == state


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("absent", 404),
        ("absent/versions", 404),
        ("absent/versions/latest", 404),
        ("reader/versions/2", 404),
        ("reader/versions/999999999", 404),
        ("reader/versions/99999999999999999999", 422),
        ("reader/versions/0", 422),
        ("reader/versions/-1", 422),
        ("reader/versions/newest", 422),
        ("%00", 422),
        ("reader%0A", 422),
        ("reader/versions/1/files/absent.json", 404),
        ("reader/versions/1/files/%00", 404),
        ("reader/versions/1/files/..%2f..%2fexpunge.db", 404),
        ("reader/versions/1/files/manifest.json", 404),
        ("reader/versions/1/files/", 404),
        ("?family=%00", 422),
        ("?dataset=x", 422),
        ("?limit=0", 422),
        ("?cursor=%00", 422),
    ],
)
def test_what_is_not_there_is_a_problem(client, admin_headers, model, path, status):
    separator = "" if path.startswith("?") else "/"
    answer = client.get(f"/v1/models{separator}{path}", headers=admin_headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
