"""Checkpoints that are refused leave nothing behind. SQLite alone: nothing here reaches SQL."""

import json
import shutil
import struct
import uuid

import numpy as np
import pytest
import safetensors.numpy


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


def lying_header() -> bytes:
    header = json.dumps({"head": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


WEIGHTS = safetensors.numpy.save({"head": np.ones((8, 3))})
BAD_FILES = {
    "truncated": {"model.safetensors": WEIGHTS[:-9]},
    "trailing bytes": {"model.safetensors": WEIGHTS + b"x"},
    "not safetensors": {"model.safetensors": b"PK\x03\x04 an archive, rather"},
    "empty": {"model.safetensors": b""},
    "lying header": {"model.safetensors": lying_header()},
    "endless header": {"model.safetensors": struct.pack("<Q", 1 << 62) + bytes(64)},
    "not a number": {"model.safetensors": safetensors.numpy.save({"head": np.array([1.0, np.nan])})},
    "infinite": {"model.safetensors": safetensors.numpy.save({"head": np.array([np.inf], np.float32)})},
    "pickle": {"model.pkl": b"\x80\x04K\x01."},
    "no configuration": {"config.json": None},
    "no weights": {"model.safetensors": None},
    "configuration not JSON": {"config.json": b"{"},
    "configuration not an object": {"config.json": b"[]"},
    "no architecture": {"config.json": b"{}"},
    "other manifest": {"manifest.json": json.dumps({"files": []}).encode()},
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_an_unsound_checkpoint_is_refused_and_changes_nothing(registry, unchanged, bad):
    dataset = registry.dataset("letters")
    files = registry.checkpoint() | BAD_FILES[bad]
    sent = {name: content for name, content in files.items() if content is not None}
    body = {"name": "reader", "family": "classifier", "dataset": dataset["id"]}
    with unchanged():
        answer = registry.post("/v1/models", body, sent)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] in {
        "urn:expunge:problem:invalid-checkpoint",
        "urn:expunge:problem:unknown-architecture",
    }


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"name": "../escape"}, 422, "invalid-request"),
        ({"name": "two\nlines"}, 422, "invalid-request"),
        ({"family": "language"}, 422, "unknown-family"),
        ({"dataset": str(uuid.UUID(int=0))}, 422, "unknown-dataset"),
        ({"dataset": "letters"}, 422, "invalid-request"),
        ({"snapshot": 2}, 404, "snapshot-not-found"),
        ({"snapshot": 2**40}, 422, "invalid-request"),
        ({"snapshot": 0}, 422, "invalid-request"),
        ({"unknown": 1}, 422, "invalid-request"),
    ],
)
def test_wrong_metadata_are_refused_and_change_nothing(registry, unchanged, changes, status, slug):
    body = {"name": "reader", "family": "classifier", "dataset": registry.dataset("letters")["id"], **changes}
    with unchanged():
        answer = registry.post("/v1/models", body, registry.checkpoint())
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:expunge:problem:{slug}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ["a", "b"]}, "classes"),
        ({"classes": ["c", "b", "a"]}, "classes"),
        ({"input_width": 5}, "width"),
    ],
)
def test_a_checkpoint_for_other_data_is_refused(registry, unchanged, changes, reason):
    body = {"name": "reader", "family": "classifier", "dataset": registry.dataset("letters")["id"]}
    with unchanged():
        answer = registry.post("/v1/models", body, registry.checkpoint(**changes))
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:checkpoint-mismatch")
    assert reason in answer.json()["detail"]


def test_a_name_that_is_taken_is_a_conflict(registry, unchanged):
    model = registry.model("reader")
    body = {"name": "reader", "family": "classifier", "dataset": model["dataset"]}
    with unchanged():
        answer = registry.post("/v1/models", body, registry.checkpoint())
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:expunge:problem:model-exists")


def test_a_failed_transaction_takes_the_stored_files_with_it(registry, unchanged, monkeypatch):
    body = {"name": "reader", "family": "classifier", "dataset": registry.dataset("letters")["id"]}

    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("app.registry.service.register_model", fail)
    with unchanged():
        answer = registry.post("/v1/models", body, registry.checkpoint())
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:expunge:problem:internal-error")
