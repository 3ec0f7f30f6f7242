"""Data that is refused leaves nothing behind. SQLite alone: nothing here reaches SQL."""

import io
import json
import shutil

import numpy as np
import pytest


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def line(**changes) -> bytes:
    return json.dumps({"id": "r0", "label": "a", "features": [1.0, 2.0], **changes}).encode()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("twice.jsonl", line() + b"\n" + line(), "'r0'"),
        ("nan.jsonl", line(features=[float("nan"), 1.0]), "line 1"),
        ("truncated.jsonl", line()[:-5], "line 1"),
        ("empty.jsonl", b"", "no records"),
        ("surrogate.jsonl", line(label="\ud800"), "line 1"),
        ("nul.jsonl", line(label="a\x00b"), "line 1"),
        (
            "objects.npz",
            npz(features=np.ones((1, 2)), labels=np.array([{}]), ids=np.array(["a"])),
            "objects.npz",
        ),
        ("broken.npz", npz(features=np.ones((9, 9)))[:-100], "broken.npz"),
        (
            "photo.jsonl",
            b'{"id": "a", "label": "x", "image": "/9j/4AAQSkY="}',
            "line 1: the image is not PNG",
        ),
        ("header.csv", b"id,label\nx,y\n", "line 1"),
        ("short.csv", b"id,label,f0\nx,y\n", "line 2"),
        ("not.parquet", b"PAR1 nothing PAR1", "not.parquet"),
        ("binary.csv", b"\xff\xfe\x00", "line 1"),
    ],
)
def test_malformed_data_is_refused_with_its_place_and_changes_nothing(
    registry, unchanged, name, content, reason
):
    with unchanged():
        answer = registry.post("/v1/datasets", {"name": "bad", "family": "classifier"}, {name: content})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:invalid-data")
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"name": "../escape"}, "invalid-request"),
        ({"name": "line\nbreak"}, "invalid-request"),
        ({"name": "nul\x00"}, "invalid-request"),
        ({"name": "x" * 129}, "invalid-request"),
        ({"family": "nonsense"}, "unknown-family"),
        ({"extra": 1}, "invalid-request"),
        ({"sha256": {"records.jsonl": "short"}}, "invalid-request"),
    ],
)
def test_wrong_metadata_are_refused_and_change_nothing(registry, unchanged, changes, slug):
    metadata = {"name": "letters", "family": "classifier", **changes}
    with unchanged():
        answer = registry.post("/v1/datasets", metadata, {"records.jsonl": registry.records(3)})
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:expunge:problem:{slug}")


def test_a_name_that_is_taken_is_a_conflict(registry, unchanged):
    taken = registry.dataset("letters")
    with unchanged():
        answer = registry.post(
            "/v1/datasets",
            {"name": "letters", "family": "classifier"},
            {"records.jsonl": registry.records(3)},
        )
    assert (answer.status_code, answer.json()["dataset"]) == (409, taken["id"])


def test_a_snapshot_must_agree_with_its_dataset(registry, unchanged):
    dataset = registry.dataset("letters")
    path = f"/v1/datasets/{dataset['id']}/snapshots"
    for mode in "append", "replace":
        with unchanged():
            answer = registry.post(path, {"mode": mode}, {"wide.jsonl": line(id="new")})
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:expunge:problem:invalid-data"
