import uuid

import pytest
from sqlalchemy import select

from app.tables import Job, TrainedReference
from app.tables.trained_reference import ReferencePurpose
from app.trust.scopes import Scope
from app.worker.reference_rows import commitment_to, digest_of_ids

URL = "/v1/models/pets/references"
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


@pytest.fixture
def ask(client, admin_headers, pets):
    def ask(path=URL, headers=admin_headers, **body):
        return client.post(path, json=body, headers=headers)

    return ask


@pytest.fixture
def insert(runtime):
    """Add a reference to a model's version 1, as a job would have."""

    def insert(model, job_id, seed, *, left_out=None, **fields):
        from app.tables import Dataset

        with runtime.database.write() as session:
            dataset = session.get_one(Dataset, model.dataset_id)
            commitment = commitment_to(dataset, digest_of_ids(left_out)) if left_out is not None else None
            shadow = left_out is None
            session.add(
                TrainedReference(
                    **{
                        "purpose": ReferencePurpose.SHADOW if shadow else ReferencePurpose.RETRAINED,
                        "model_id": model.id,
                        "version": 1,
                        "dataset_id": model.dataset_id,
                        "snapshot": 1,
                        "left_out": commitment,
                        "data_digest": "d" * 64,
                        "recipe_digest": "e" * 64,
                        "seed": seed,
                        "location": f"references/{model.dataset_id}/{seed}",
                        "digest": "f" * 64,
                        "size": 1,
                        "seconds": 3.0,
                        "job_id": uuid.UUID(job_id),
                        "created_at": model.created_at,
                        **fields,
                    }
                )
            )

    return insert


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_a_job_is_queued_once_per_model(ask, runtime):
    answer = ask(target={"kind": "records", "ids": ["r1"]})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["kind"], body["state"]) == ("reference", "queued")
    assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
    assert "r1" not in answer.text
    assert slug(ask()) == (409, "reference-job-exists")
    with runtime.database.read() as session:
        assert session.scalars(select(Job.asked)).one()["target"]["ids"] == ["r1"]


def test_it_waits_beside_an_update_and_can_be_cancelled(ask, shelf, pets, client, admin_headers):
    shelf.grow(pets.dataset_id, ["r1", "r2"])
    job = ask().json()["id"]
    assert client.post("/v1/models/pets/updates", headers=admin_headers).status_code == 202
    assert client.post(f"/v1/jobs/{job}/cancel", headers=admin_headers).json()["state"] == "cancelled"
    assert ask().status_code == 202


@on_sqlite
def test_what_cannot_be_trained_is_refused(ask, client, admin_headers, make_key, unchanged):
    reader = make_key(Scope.MODELS_READ)
    client.put("/v1/policies/models/pets", json={"reference": "never"}, headers=admin_headers)
    with unchanged():
        assert slug(ask()) == (409, "references-not-wanted")
    client.delete("/v1/policies/models/pets", headers=admin_headers)
    with unchanged():
        assert slug(ask(target={"kind": "records", "ids": ["nobody"]})) == (422, "unknown-ids")
        assert slug(ask("/v1/models/nobody/references")) == (404, "model-not-found")
        assert slug(ask(headers=reader)) == (403, "scope-missing")


def test_references_are_listed_without_their_places(ask, pets, insert, client, admin_headers):
    job = ask().json()["id"]
    for number in range(3):
        insert(pets, job, 8_000_000 + number)
    first = client.get(f"{URL}?limit=2", headers=admin_headers).json()
    second = client.get(first["next"], headers=admin_headers).json()
    items = first["items"] + second["items"]
    assert {item["seed"] for item in items} == {8_000_000, 8_000_001, 8_000_002}
    assert all("location" not in item for item in items)


@pytest.fixture
def plan(client, admin_headers):
    def plan(*ids, **fields):
        body = {"model": "pets", "target": {"kind": "records", "ids": list(ids)}} | fields
        answer = client.post("/v1/plans", json=body, headers=admin_headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return plan


@on_sqlite
def test_exact_methods_need_no_references(pets, plan):
    references = plan("r1")["references"]
    assert (references["needed"], references["estimated_seconds"]) == (False, 0.0)


@pytest.fixture
def approximate(monkeypatch):
    """Let the methods that fit be approximate ones, so that their audits need references."""
    from dataclasses import replace

    import unlearning.planner
    from unlearning.catalog.spec import Guarantee

    real = unlearning.planner.methods
    monkeypatch.setattr(
        "unlearning.planner.methods",
        lambda family: tuple(replace(spec, guarantee=Guarantee.EMPIRICAL) for spec in real(family)),
    )


def test_the_plan_counts_what_is_there_and_estimates_the_rest(
    approximate, pets, plan, ask, insert, client, admin_headers
):
    client.put("/v1/policies/models/pets", json={"deep": True, "shadow_models": 8}, headers=admin_headers)
    before = plan("r1", "r2")["references"]
    assert (before["needed"], before["retrained"], before["cached"], before["measured"]) == (
        True,
        5,
        0,
        False,
    )
    assert before["estimated_seconds"] == pytest.approx(before["seconds_each"] * (5 + 8))

    job = ask().json()["id"]
    for seed in (7_000_000, 7_000_001):
        insert(pets, job, seed, left_out=["r1", "r2"])
    insert(pets, job, 7_000_002, left_out=["r3"])
    insert(pets, job, 8_000_000)
    insert(pets, job, 8_000_001, superseded_at=pets.created_at)

    after = plan("r2", "r1")["references"]
    assert (after["cached"], after["cached_shadow_models"], after["measured"]) == (2, 1, True)
    assert after["estimated_seconds"] == pytest.approx(3.0 * (3 + 7))
    assert after["within_budget"] is True
    client.put("/v1/policies/models/pets", json={"reference_seconds": 8}, headers=admin_headers)
    assert plan("r1", "r2")["references"]["within_budget"] is False


@on_sqlite
def test_the_plan_says_that_the_policy_forbids_retraining(pets, plan, client, admin_headers):
    client.put("/v1/policies/models/pets", json={"allow_retrain": False}, headers=admin_headers)
    body = plan("r1")
    assert "retrain" not in [rung["method"] for rung in body["rungs"]]
    reasons = {entry["method"]: entry["reason"] for entry in body["ruled_out"]}
    assert "policy does not allow" in reasons["retrain"]
