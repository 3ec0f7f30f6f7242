import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.datasets import registration, repository
from app.datasets.suppression import suppress
from app.tables import Dataset, Suppression
from app.trust.scopes import Scope


@pytest.fixture
def dataset(registry):
    return registry.dataset("letters")


def slug(answer) -> str:
    return answer.json()["type"].removeprefix("urn:expunge:problem:")


def add(registry, dataset, content: bytes, **fields):
    return registry.post(f"/v1/datasets/{dataset['id']}/snapshots", fields, {"more.jsonl": content})


def forget(runtime, dataset, ids):
    with runtime.database.write() as session:
        suppress(session, session.get(Dataset, uuid.UUID(dataset["id"])), ids)


def test_a_registered_dataset_shows_its_schema_counts_and_history(registry, client, admin_headers, dataset):
    assert (dataset["head"]["records"], dataset["head"]["subjects"], dataset["head"]["number"]) == (30, 15, 1)
    shown = client.get(f"/v1/datasets/{dataset['id']}", headers=admin_headers).json()
    assert shown["data_schema"] == {"classes": ["a", "b", "c"], "dtype": "float64", "width": 4}
    assert shown["snapshots"] == [dataset["head"]]
    number = client.get(f"/v1/datasets/{dataset['id']}/snapshots/1", headers=admin_headers).json()
    assert number == dataset["head"]


def test_the_stored_snapshot_is_the_one_that_its_row_names(runtime, dataset):
    with runtime.database.read() as session:
        row = repository.get_dataset(session, uuid.UUID(dataset["id"]))
        snapshot = repository.get_snapshot(session, row)
    index = runtime.indexes.get(snapshot.location)
    assert index.records == 30
    assert runtime.indexes.get(snapshot.location) is index
    assert runtime.storage.exists(snapshot.location)


def test_lists_are_paged_newest_first_and_filtered_by_family(registry, client, admin_headers):
    names = [registry.dataset(f"d{number}", count=3)["name"] for number in range(5)]
    seen, path = [], "/v1/datasets?limit=2&family=classifier"
    while path:
        answer = client.get(path, headers=admin_headers)
        seen += [item["name"] for item in answer.json()["items"]]
        path = answer.json()["next"]
        assert ("link" in answer.headers) == (path is not None)
    assert seen == names[::-1]
    assert slug(client.get("/v1/datasets?family=none", headers=admin_headers)) == "unknown-family"


def test_appended_records_make_a_new_head_and_a_page_of_history(registry, client, admin_headers, dataset):
    for start in 30, 40, 50:
        answer = add(registry, dataset, registry.records(10, start))
        assert answer.status_code == 201, answer.text
    assert answer.json()["number"] == 4
    assert answer.json()["parent"] == 3
    assert answer.json()["records"] == 60
    assert answer.json()["origin"] == "appended"
    assert answer.headers["location"] == f"/v1/datasets/{dataset['id']}/snapshots/4"
    path = f"/v1/datasets/{dataset['id']}/snapshots?limit=3"
    first = client.get(path, headers=admin_headers)
    second = client.get(first.json()["next"], headers=admin_headers)
    numbers = [item["number"] for page in (first, second) for item in page.json()["items"]]
    assert numbers == [4, 3, 2, 1]
    assert second.json()["next"] is None


def test_replacing_starts_anew_from_the_new_records_alone(registry, dataset):
    answer = add(registry, dataset, registry.records(9, 100), mode="replace")
    assert (answer.json()["records"], answer.json()["origin"]) == (9, "replaced")


def test_records_that_are_there_already_are_refused(registry, dataset, unchanged):
    with unchanged():
        answer = add(registry, dataset, registry.records(3, 28))
    assert (answer.status_code, slug(answer)) == (422, "invalid-data")
    assert "r28" in answer.json()["detail"]


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_forgotten_records_cannot_come_back(registry, runtime, dataset, unchanged, mode):
    forget(runtime, dataset, [f"r{number}" for number in range(100, 130)])
    with unchanged():
        answer = add(registry, dataset, registry.records(40, 99), mode=mode)
    assert (answer.status_code, slug(answer)) == (422, "forgotten-records")
    assert answer.json()["ids"] == [f"r{number}" for number in range(100, 120)]
    assert answer.json()["count"] == 30


def test_suppressions_hold_no_ids_and_repeat_without_harm(runtime, dataset):
    forget(runtime, dataset, ["r1", "r2"])
    forget(runtime, dataset, ["r2", "r3", "r3"])
    with runtime.database.read() as session:
        commitments = list(
            session.scalars(Suppression.__table__.select().with_only_columns(Suppression.commitment))
        )
    assert len(commitments) == 3
    assert all(len(commitment) == 32 for commitment in commitments)


@pytest.fixture
def before_recording(monkeypatch):
    """Do something once, after a snapshot was made from the head and before it is recorded."""

    def arrange(event):
        refuse = registration._refuse_forgotten

        def refuse_then_happen(*arguments):
            monkeypatch.setattr(registration, "_refuse_forgotten", refuse)
            refuse(*arguments)
            event()

        monkeypatch.setattr(registration, "_refuse_forgotten", refuse_then_happen)

    return arrange


def test_a_snapshot_is_made_again_when_the_head_moves_meanwhile(registry, dataset, before_recording):
    before_recording(lambda: add(registry, dataset, registry.records(5, 50)).raise_for_status())
    answer = add(registry, dataset, registry.records(5, 30))
    assert answer.status_code == 201, answer.text
    assert (answer.json()["number"], answer.json()["parent"], answer.json()["records"]) == (3, 2, 40)


def test_what_is_forgotten_while_a_snapshot_is_made_stays_forgotten(
    registry, runtime, dataset, before_recording
):
    # The head never had this record, so forgetting it moves no head.
    before_recording(lambda: forget(runtime, dataset, ["r30"]))
    answer = add(registry, dataset, registry.records(5, 30))
    assert (answer.status_code, slug(answer), answer.json()["ids"]) == (422, "forgotten-records", ["r30"])


def test_snapshots_sent_at_once_all_arrive(registry, client, admin_headers, dataset):
    def send(start):
        return add(registry, dataset, registry.records(2, start))

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(send, (100, 200, 300)))
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    head = client.get(f"/v1/datasets/{dataset['id']}", headers=admin_headers).json()["head"]
    assert (head["records"], head["number"]) == (36, 4)


def test_of_two_datasets_with_one_name_one_is_registered_and_nothing_else_is_kept(
    registry, runtime, monkeypatch
):
    both_looked = threading.Barrier(2)
    look = registration.service.refuse_taken_name
    first_look = threading.local()

    def look_together(work, name):
        look(work, name)
        if not getattr(first_look, "over", False):
            first_look.over = True
            both_looked.wait(10)

    monkeypatch.setattr(registration.service, "refuse_taken_name", look_together)

    def send(start):
        metadata = {"name": "twice", "family": "classifier"}
        return registry.post("/v1/datasets", metadata, {"records.jsonl": registry.records(5, start)})

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(send, (0, 10)), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [201, 409]
    assert slug(answers[1]) == "dataset-exists"
    manifests = list(runtime.storage.materialise("datasets").rglob("manifest.json"))
    assert len(manifests) == 1


def test_a_repeated_upload_gives_the_first_answer_again(registry, unchanged):
    def send(start):
        return registry.post(
            "/v1/datasets",
            {"name": "letters", "family": "classifier"},
            {"records.jsonl": registry.records(5, start)},
            **{"Idempotency-Key": "once"},
        )

    first = send(0)
    with unchanged():
        again, other = send(0), send(10)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, slug(other)) == (422, "idempotency-key-reused")


def test_scopes_are_needed_to_read_and_to_write(registry, client, dataset, make_key, unchanged):
    reader, nobody = make_key(Scope.MODELS_READ), make_key(Scope.REQUESTS_READ)
    with unchanged():
        assert client.get("/v1/datasets", headers=reader).status_code == 200
        assert client.get("/v1/datasets", headers=nobody).status_code == 403
        assert client.get(f"/v1/datasets/{dataset['id']}").status_code == 401
        answer = client.post(f"/v1/datasets/{dataset['id']}/snapshots", headers=reader, files={"a": b""})
        assert (answer.status_code, slug(answer)) == (403, "scope-missing")


def test_a_key_for_some_models_cannot_change_data_behind_others(
    registry, client, dataset, make_key, unchanged
):
    registry.model("reader", dataset=dataset["id"])
    registry.headers.update(make_key(Scope.MODELS_WRITE, models=["other"]))
    with unchanged():
        answer = add(registry, dataset, registry.records(5, 30))
    assert (answer.status_code, slug(answer)) == (403, "scope-missing")


def test_what_does_not_exist_is_not_found(registry, client, admin_headers, dataset, unchanged):
    missing = f"/v1/datasets/{uuid.uuid4()}"
    with unchanged():
        for path in (missing, f"{missing}/snapshots", f"/v1/datasets/{dataset['id']}/snapshots/7"):
            assert client.get(path, headers=admin_headers).status_code == 404
        answer = registry.post(f"{missing}/snapshots", {}, {"a.jsonl": registry.records(1)})
        assert (answer.status_code, slug(answer)) == (404, "dataset-not-found")
        for path in ("/v1/datasets/x", f"/v1/datasets/{dataset['id']}/snapshots/{2**64}"):
            assert client.get(path, headers=admin_headers).status_code == 422
