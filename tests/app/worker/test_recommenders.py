"""Recommenders through the service: from a registered model over HTTP to one that never knew a user."""

import json
import threading

import pytest
import torch
from sqlalchemy import select

from app.tables import Version
from app.trust.certificates.bundle import MEDIA_TYPE
from app.trust.certificates.verification import TrustedKeys, verify_certificate
from app.trust.signing import read_public_keys
from app.worker.local_process import LocalProcessExecutor
from app.worker.worker import Worker
from models.families import get_family

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
pytestmark = on_sqlite

FAMILY = get_family("recommender")
PAIRS = [(f"u{user}", f"i{(user * step) % 23}") for user in range(40) for step in range(1, 8)]
CSV = "user,item,timestamp\n" + "".join(
    f"{user},{item},{time}\n" for time, (user, item) in enumerate(dict.fromkeys(PAIRS))
)


TAKEN_BY_U7 = sum(line.startswith("u7,") for line in CSV.splitlines())


@pytest.fixture(scope="module")
def processes():
    executor = LocalProcessExecutor()
    executor.start()
    yield executor
    executor.close()


@pytest.fixture
def real_worker(runtime, processes):
    return Worker(runtime, processes, threading.Event())


@pytest.fixture
def registered(registry, tmp_path):
    """Register the interactions, and a model of each closed form trained on them."""
    (tmp_path / "taken.csv").write_text(CSV)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    FAMILY.snapshots().ingest([tmp_path / "taken.csv"], snapshot, data_schema=None)
    dataset = registry.post(
        "/v1/datasets", {"name": "taken", "family": "recommender"}, {"taken.csv": CSV.encode()}
    )
    for name, recipe in (("ease", {"regularisation": 5.0}), ("gfcf", {"architecture": "gfcf", "factors": 4})):
        checkpoint = tmp_path / name
        checkpoint.mkdir()
        data = FAMILY.runtime().load_data(snapshot)
        model = FAMILY.runtime().train(data, recipe, seed=0, progress=lambda *_: None)
        FAMILY.runtime().save_model(model, checkpoint)
        body = {"name": name, "family": "recommender", "dataset": dataset.json()["id"]}
        files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
        registry.post("/v1/models", body, files).raise_for_status()
    return dataset.json()["id"]


@pytest.fixture
def ask(client, admin_headers):
    def ask(model, target):
        body = {"model": model, "target": target}
        return client.post("/v1/forget-requests", json=body, headers=admin_headers)

    return ask


@pytest.mark.parametrize("name", ["ease", "gfcf"])
def test_a_user_is_forgotten_exactly_and_certified(
    name, client, admin_headers, registered, ask, real_worker, runtime, tmp_path
):
    target = {"kind": "users", "ids": ["u7"]}
    plan = client.post("/v1/plans", json={"model": name, "target": target}, headers=admin_headers).json()
    assert [rung["method"] for rung in plan["rungs"]] == [name, "retrain"]
    answer = ask(name, target)

    assert real_worker.run_until_idle() == 1

    request = client.get(answer.headers["Location"], headers=admin_headers).json()
    assert (request["status"], request["version"]) == ("completed", 2), request
    with runtime.database.read() as session:
        version = session.scalars(select(Version).where(Version.number == 2)).one()
        location, audit, method = version.location, version.audit, version.method
    assert (audit["verdict"], audit["guarantee"], method) == ("pass", "exact", name)
    latest = FAMILY.runtime().load_model(runtime.storage.materialise(location))
    assert "u7" not in latest.users
    assert len(latest.users) == 39

    response = client.get(f"{answer.headers['Location']}/certificate", headers=admin_headers)
    assert response.headers["content-type"] == MEDIA_TYPE
    keys = TrustedKeys(dict(read_public_keys(runtime.signing.require().certificates.pem.encode())))
    said = verify_certificate(response.content, runtime.storage.materialise(location), keys).predicate
    assert said["request"]["target"] == {"count": 1, "kind": "users"}
    assert said["request"]["forgotten"]["records"] == TAKEN_BY_U7
    assert said["data"]["retained"]["records"] == len(CSV.splitlines()) - 1 - TAKEN_BY_U7


def test_items_and_interactions_are_forgotten_one_after_the_other(
    client, admin_headers, registered, ask, real_worker, runtime, tmp_path
):
    """The last version is bit for bit what fitting on the rest of the file gives."""
    asked = [
        ask("gfcf", {"kind": "items", "ids": ["i5"]}),
        ask("gfcf", {"kind": "interactions", "pairs": [["u1", "i1"], ["u2", "i4"]]}),
    ]
    real_worker.run_until_idle()

    for answer in asked:
        request = client.get(answer.headers["Location"], headers=admin_headers).json()
        assert request["status"] == "completed", request
    gone = [f'["{user}","i5"]' for user in (f"u{number}" for number in range(40))]
    with runtime.database.read() as session:
        version = session.scalars(select(Version).order_by(Version.number.desc())).first()
        latest = FAMILY.runtime().load_model(runtime.storage.materialise(version.location))
    whole = FAMILY.runtime().load_data(tmp_path / "snapshot")
    remaining = whole.without([*gone, '["u1","i1"]', '["u2","i4"]'])
    expected = FAMILY.runtime().retrain(latest, remaining, seed=0, progress=lambda *_: None)
    assert "i5" not in latest.items
    assert latest.items == expected.items
    assert latest.sums.equal(expected.sums)
    assert torch.equal(latest.vectors, expected.vectors)


def test_what_is_not_there_is_refused_by_its_name(registered, ask):
    for target, named in (
        ({"kind": "users", "ids": ["nobody"]}, "nobody"),
        ({"kind": "items", "ids": ["i5", "nothing"]}, "nothing"),
        ({"kind": "interactions", "pairs": [["u1", "i22"]]}, "u1"),
    ):
        answer = ask("ease", target)
        assert answer.status_code == 422, answer.text
        assert named in json.dumps(answer.json())
    assert ask("ease", {"kind": "records", "ids": ['["u1","i1"]']}).status_code == 422
    twice = ask("ease", {"kind": "interactions", "pairs": [["u1", "i1"], ["u1", "i1"]]})
    assert twice.status_code == 422


def test_a_malformed_upload_is_refused_by_its_line(registry):
    answer = registry.post(
        "/v1/datasets",
        {"name": "bad", "family": "recommender"},
        {"taken.csv": b"userId,movieId,rating\n1,2,3\n1,3,7\n"},
    )
    assert answer.status_code == 422
    assert "line 3: the rating 7 is not between 0.5 and 5" in answer.text


def test_options_come_beside_the_files(registry):
    files = {
        "old.csv": b"userId,movieId,rating\n1,2,3\n1,3,7\n2,3,9\n",
        "new.csv": b"userId,movieId,rating\n5,2,3\n5,3,7\n",
        "options.json": json.dumps({"rating_range": [0, 10], "least_rating": 7}).encode(),
    }
    answer = registry.post("/v1/datasets", {"name": "films", "family": "recommender"}, files)
    assert answer.status_code == 201, answer.text
    assert answer.json()["head"]["records"] == 3


def test_forgotten_interactions_cannot_come_back(registered, registry, ask, real_worker):
    for name in ("ease", "gfcf"):
        ask(name, {"kind": "users", "ids": ["u7"]})
    real_worker.run_until_idle()
    for user, status in (("u7", 422), ("newcomer", 201)):
        more = f"user,item,timestamp\n{user},i7,5\n".encode()
        answer = registry.post(f"/v1/datasets/{registered}/snapshots", {"mode": "append"}, {"more.csv": more})
        assert answer.status_code == status, answer.text
