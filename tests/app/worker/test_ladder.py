"""The ladder, its references and audits without unlearning, for real: processes, torch, a network that memorises."""

import io
import json
import threading

import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_digits
from sqlalchemy import select

from app.tables import Job, TrainedReference
from app.worker.local_process import LocalProcessExecutor
from app.worker.worker import Worker
from models.families import get_family

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What the databases do differently is tested with scripted jobs."""

RECORDS = 400
MISLABELLED = [f"d{number}" for number in range(20)]
"""Nothing but memory explains their classes."""
RECIPE = {"architecture": "mlp", "hidden": [64], "epochs": 60, "input_range": 16.0}
POLICY = {"reference": "always", "retrained_seeds": 3, "max_rungs": 1}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Digits, some of them under a wrong class, and a network that has learned them by heart."""
    directory = tmp_path_factory.mktemp("network")
    features, labels = load_digits(return_X_y=True)
    labels = labels[: 2 * RECORDS].copy()
    labels[: len(MISLABELLED)] = (labels[: len(MISLABELLED)] + 3) % 10
    source = io.BytesIO()
    np.savez(
        source,
        features=features[: 2 * RECORDS].astype(np.uint8),
        labels=labels.astype(str),
        ids=[f"d{number}" for number in range(2 * RECORDS)],
        subjects=[f"w{number}" for number in range(2 * RECORDS)],
        split=["train"] * RECORDS + ["holdout"] * RECORDS,
    )
    (directory / "digits.npz").write_bytes(source.getvalue())
    family = get_family("classifier")
    snapshot = directory / "snapshot"
    snapshot.mkdir()
    family.snapshots().ingest([directory / "digits.npz"], snapshot, data_schema=None)
    runtime = family.runtime()
    data = runtime.load_data(snapshot)

    def train(records, name, seed):
        checkpoint = directory / name
        checkpoint.mkdir()
        model = runtime.train(records, RECIPE, seed=seed, progress=lambda *_: None)
        runtime.save_model(model, checkpoint)
        return {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    return {
        "data": source.getvalue(),
        "original": train(data, "original", 0),
        "retrained": train(data.without(MISLABELLED), "retrained", 1),
    }


@pytest.fixture(scope="module")
def processes():
    executor = LocalProcessExecutor()
    executor.start()
    yield executor
    executor.close()


@pytest.fixture
def service(network, registry, client, admin_headers, runtime, processes):
    return Service(network, registry, client, admin_headers, Worker(runtime, processes, threading.Event()))


class Service:
    """A service that knows the network, and a worker."""

    def __init__(self, network, registry, client, headers, worker):
        self.network, self.registry, self.client, self.headers = network, registry, client, headers
        self.work = worker.run_until_idle
        dataset = registry.post(
            "/v1/datasets", {"name": "digits", "family": "classifier"}, {"digits.npz": network["data"]}
        )
        body = {"name": "digits", "family": "classifier", "dataset": dataset.json()["id"]}
        answer = registry.post("/v1/models", body, network["original"])
        assert answer.status_code == 201, answer.text
        self.set_policy(**POLICY)

    def set_policy(self, **fields):
        answer = self.client.put("/v1/policies/models/digits", json=fields, headers=self.headers)
        assert answer.status_code == 200, answer.text

    def get(self, path):
        answer = self.client.get(path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path, body):
        answer = self.client.post(path, json=body, headers=self.headers)
        assert answer.status_code in {200, 202}, answer.text
        return answer.json()

    def audit(self, **fields):
        body = {"model": "digits", "original": 1, "target": TARGET} | fields
        answer = self.post("/v1/audits", body)
        self.work()
        return self.get(f"/v1/audits/{answer['id']}")

    def audit_upload(self, files):
        body = {"model": "digits", "original": 1, "target": TARGET}
        answer = self.registry.post("/v1/audits", body, files)
        assert answer.status_code == 202, answer.text
        self.work()
        return self.get(answer.headers["location"])


TARGET = {"kind": "records", "ids": MISLABELLED}


def references(runtime):
    with runtime.database.read() as session:
        return session.scalars(select(TrainedReference).order_by(TrainedReference.seed)).all()


def test_the_ladder_ends_in_retraining_keeps_every_rung_and_its_references_serve_again(service, runtime):
    planned = service.post("/v1/plans", {"model": "digits", "target": TARGET})["references"]
    assert (planned["needed"], planned["cached"], planned["measured"]) == (True, 0, False)
    request = service.post("/v1/forget-requests", {"model": "digits", "target": TARGET})

    service.work()

    done = service.get(f"/v1/forget-requests/{request['id']}")
    assert done["status"] == "completed", done["reason"]
    version = service.get("/v1/models/digits/versions/2")
    job = service.get(f"/v1/jobs/{version['job']}")
    first, *rest = job["rungs"]
    assert first["guarantee"] == "empirical"
    assert first["audit"]["power"]["detects"], first["audit"]["power"]
    assert [reference["count"] for reference in first["audit"]["references"]] == [3]
    if rest:  # the first rung did not pass, and no other approximation was let begin
        assert [rung["method"] for rung in rest] == ["retrain"]
        assert job["skipped"]
    assert job["policy"]["max_rungs"] == 1
    shown = service.get("/v1/models/digits/versions/2/audit")
    assert (shown["policy"], shown["rungs"], shown["skipped"]) == (
        job["policy"],
        job["rungs"],
        job["skipped"],
    )
    trained = references(runtime)
    assert [row.superseded_at for row in trained] == [None] * 3

    planned = service.post("/v1/plans", {"model": "digits", "target": TARGET | {"ids": ["d30"]}})[
        "references"
    ]
    assert planned["measured"]
    audit = service.audit(candidate=2)
    assert audit["status"] == "completed", audit["reason"]
    assert audit["verdict"] != "fail"
    assert audit["audit"]["guarantee"] == "empirical", "a stranger's word is taken for a provenance"
    [anchors] = audit["audit"]["references"]
    assert (anchors["count"], anchors["cached"]) == (3, 3)
    assert [row.id for row in references(runtime)] == [row.id for row in trained]


def test_uploads_are_judged_by_what_they_are(service, runtime):
    untouched = service.audit_upload(service.network["original"])
    assert (untouched["status"], untouched["verdict"]) == ("completed", "fail"), untouched["reason"]
    assert len(references(runtime)) == 3
    retrained = service.audit_upload(service.network["retrained"])
    assert retrained["verdict"] == "pass", retrained["audit"]["summary"]
    assert retrained["audit"]["references"][0]["cached"] == 3
    assert service.get("/v1/models/digits")["latest_version"] == 1


def test_an_upload_that_does_not_load_fails_with_a_sentence(service):
    files = {name: text for name, text in service.network["original"].items() if name != "manifest.json"}
    config = json.loads(files["config.json"])
    config["recipe"] = config["recipe"] | {"hidden": [32]}
    files["config.json"] = json.dumps(config).encode()
    judged = service.audit_upload(files)
    assert (judged["status"], judged["verdict"]) == ("failed", None)
    assert "does not load" in judged["reason"]


def filled(files, value):
    """Return a checkpoint's files with every weight set to a value."""
    weights = safetensors.numpy.load(files["model.safetensors"])
    tensors = {name: np.full_like(tensor, value) for name, tensor in weights.items()}
    kept = {name: text for name, text in files.items() if name != "manifest.json"}
    return kept | {"model.safetensors": safetensors.numpy.save(tensors)}


def test_weights_that_say_nothing_never_pass(service):
    judged = service.audit_upload(filled(service.network["original"], 0.0))
    assert judged["verdict"] in {"fail", "inconclusive"}, judged["reason"]
    body = {"model": "digits", "original": 1, "target": TARGET}
    refused = service.registry.post("/v1/audits", body, filled(service.network["original"], np.nan))
    assert (refused.status_code, "NaN" in refused.json()["detail"]) == (422, True)


def test_a_forget_set_too_small_for_a_claim_is_inconclusive(service):
    audit = service.audit(candidate=1, target={"kind": "records", "ids": ["d0"]})
    assert (audit["status"], audit["verdict"]) == ("completed", "inconclusive"), audit["reason"]


def test_without_retraining_everything_measured_waits_for_a_person(service):
    service.set_policy(**POLICY | {"allow_retrain": False, "reference": "never"})
    request = service.post("/v1/forget-requests", {"model": "digits", "target": TARGET})
    service.work()
    done = service.get(f"/v1/forget-requests/{request['id']}")
    assert done["status"] == "needs_review", done["reason"]
    [job] = service.get("/v1/jobs")["items"]
    [rung] = job["rungs"]
    assert rung["audit"]["verdict"] in {"fail", "inconclusive"}
    assert any(
        "never" in check["reason"] or "allows no" in check["reason"] for check in rung["audit"]["checks"]
    )
    assert "retrain" in [entry["method"] for entry in job["plan"]["ruled_out"]]


def test_references_trained_ahead_are_found_and_damaged_ones_trained_anew(service, runtime):
    service.post("/v1/models/digits/references", {"target": TARGET})
    service.work()
    trained = references(runtime)
    assert [row.purpose.value for row in trained] == ["retrained"] * 3
    planned = service.post("/v1/plans", {"model": "digits", "target": TARGET})["references"]
    assert (planned["cached"], planned["estimated_seconds"]) == (3, 0.0)
    place = runtime.storage.materialise(trained[0].location)
    weights = next(place.glob("*.safetensors"))
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)

    audit = service.audit(candidate=1)

    assert (audit["verdict"], audit["audit"]["references"][0]["cached"]) == ("fail", 2)
    states = [(row.seed, row.destroyed_at is None) for row in references(runtime)]
    assert sorted(states) == [(7_000_000, False), *((7_000_000 + place, True) for place in range(3))]
    assert not place.exists()


def test_shadow_models_trained_ahead_serve_the_deep_audit(service, runtime):
    service.set_policy(**POLICY | {"deep": True, "shadow_models": 4})
    service.post("/v1/models/digits/references", {})
    service.work()
    ahead = references(runtime)
    assert [row.purpose.value for row in ahead] == ["shadow"] * 4
    audit = service.audit(candidate=1)
    assert audit["status"] == "completed", audit["reason"]
    after = [row for row in references(runtime) if row.purpose.value == "shadow"]
    assert [row.id for row in after] == [row.id for row in ahead], "the audit's shadow models are others"
    with runtime.database.read() as session:
        kinds = [job.kind.value for job in session.scalars(select(Job).order_by(Job.created_at))]
    assert kinds == ["reference", "audit"]
