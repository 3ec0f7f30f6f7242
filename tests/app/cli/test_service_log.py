"""The log of a whole service at its most talkative: JSON, with ids to find things by, and nobody's name in it."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.cli.demo.service import DemoService
from app.cli.train import train_checkpoint
from app.client import Client, ClientError
from models.families import get_family

SUBJECT = "unmistakable-subject"
RECORD = "unmistakable-record"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    lines = [
        {
            "id": f"{RECORD}-{number}",
            "subject": f"{SUBJECT}-{number // 2}",
            "label": "ab"[number % 2],
            "split": "holdout" if number % 5 == 4 else "train",
            "features": [*generator.normal(size=3).tolist(), float(number % 2)],
        }
        for number in range(60)
    ]
    path = tmp_path_factory.mktemp("data") / "people.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def damage(storage: Path) -> None:
    """Flip a byte of every snapshot's data."""
    spared = {"manifest.json", "index.sqlite"}  # the service itself reads these
    files = [path for path in storage.glob("datasets/**/*") if path.is_file() and path.name not in spared]
    assert files
    for path in files:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


def forget(client: Client, kind: str, *ids: str, **fields: object) -> str:
    request = client.forget("people", {"kind": kind, "ids": list(ids)}, **fields)
    return client.wait(request["id"])["status"]


def test_no_target_id_is_in_the_debug_log_of_a_service(data, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_LOG_LEVEL", "debug")
    monkeypatch.setenv("EXPUNGE_LOG_FORMAT", "json")
    checkpoint = tmp_path / "checkpoint"
    train_checkpoint(get_family("classifier"), [data], {"feature_dim": 16}, checkpoint, seed=0)
    with DemoService(tmp_path) as service:
        announcement = service.wait_until_ready()
        with Client(announcement["url"], announcement["api_key"]) as client:
            dataset = client.register_dataset("people", "classifier", [data])
            client.register_model("people", "classifier", dataset["id"], checkpoint)
            assert forget(client, "records", f"{RECORD}-1", f"{RECORD}-2") == "completed"
            assert forget(client, "subjects", f"{SUBJECT}-7") == "completed"
            assert forget(client, "classes", "a") == "needs_review"  # beyond the daily limit
            with pytest.raises(ClientError):
                forget(client, "records", f"{RECORD}-none")
            damage(tmp_path / "storage")
            assert forget(client, "records", f"{RECORD}-20") == "failed"
            damaged = client.forget_requests(status="failed")[0]["id"]

    log = (tmp_path / "service.log").read_text()
    assert "unmistakable" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["logger"] == "app.access"]
    assert {"/v1/forget-requests", "/v1/forget-requests/{request_id}/events"} <= {
        line["route"] for line in calls
    }
    assert all(line["request_id"] for line in calls)
    begun = [line for line in lines if line["event"].endswith("begins.")]
    assert [(line["model"], line["forget_request_count"]) for line in begun] == [("people", 1)] * 3
    # What the job's own process says names the job as well.
    [failed] = [line for line in lines if line["logger"] == "app.worker.child"]
    assert (failed["job_id"], failed["forget_requests"]) == (begun[-1]["job_id"], [damaged])
