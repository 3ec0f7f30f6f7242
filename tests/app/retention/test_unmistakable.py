"""An unmistakable id goes through the whole service, and once its retention is over it is nowhere to be found."""

import json
import logging
import queue
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, make_url, text

from app.backup.keyring import Keyring
from app.backup.making import make_backup
from app.backup.personal import STORED, tables
from app.backup.restoring import restore_backup
from app.backup.rows import from_lines
from app.backup.sealing import unseal
from app.main import create_app
from app.retention.compaction import compact
from app.retention.sweeper import sweep
from app.runtime import Runtime
from app.schema import migrate
from app.settings import Settings
from app.tables import ForgetRequest
from app.worker.worker import Worker
from models.families import get_family

RECORD, SUBJECT = "unmistakable-record-0f91", "unmistakable-subject-77ac"
NEEDLES = (RECORD.encode(), SUBJECT.encode())


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    days = {"target_retention_days": 0, "predecessor_retention_days": 0}
    return settings.model_copy(update={**days, "keyring_dir": tmp_path / "keyring"})


class JobsInThisProcess:
    """Runs the real job where the test sees its log."""

    def start(self) -> None: ...

    def close(self) -> None: ...

    def submit(self, task, workplace) -> "JobsInThisProcess":
        from app.worker.child import run

        self.messages: queue.Queue = queue.Queue()
        self.messages.put(run(task, workplace, lambda *_: None, self.messages.put))
        return self

    def poll(self, timeout: float):
        return self.messages.get(timeout=timeout)

    def cancel(self) -> None: ...


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[bytes, dict[str, bytes]]:
    """Records, three of them about the subject and one with the id, and a model that has learned them."""
    lines = [
        {
            "id": f"r{number}",
            "subject": f"s{number // 2}",
            "label": "abc"[number % 3],
            "split": "holdout" if number % 4 == 3 else "train",
            "features": [float(number % 3), float(number % 5), number / 7, 1.0],
        }
        for number in range(60)
    ]
    lines[4]["id"] = RECORD
    for number in (8, 9, 10):
        lines[number]["subject"] = SUBJECT
    data = "\n".join(map(json.dumps, lines)).encode()
    directory = tmp_path_factory.mktemp("trained")
    source, snapshot, checkpoint = directory / "records.jsonl", directory / "snapshot", directory / "model"
    source.write_bytes(data)
    snapshot.mkdir()
    checkpoint.mkdir()
    family = get_family("classifier")
    family.snapshots().ingest([source], snapshot, data_schema=None)
    family_runtime = family.runtime()
    learned = family_runtime.load_data(snapshot)
    model = family_runtime.train(
        learned, {"feature_dim": 32, "input_range": 16.0}, seed=0, progress=lambda *_: None
    )
    family_runtime.save_model(model, checkpoint)
    return data, {path.name: path.read_bytes() for path in checkpoint.iterdir()}


def found_in(place: Path) -> list[str]:
    """Return the files below a place that hold a needle, members of archives included."""
    return [
        str(path)
        for path in sorted(place.rglob("*"))
        if path.is_file() and any(needle in part for part in contents(path) for needle in NEEDLES)
    ]


def contents(path: Path) -> Iterator[bytes]:
    yield path.name.encode()
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def found_in_database(settings: Settings) -> bool:
    """Look into the bytes of an SQLite database, its log included, or into PostgreSQL's rows and data files."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database)
        return bool([path for path in file.parent.glob(f"{file.name}*") if holds(path.read_bytes())])
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        rows = b"".join(
            repr(row).encode()
            for table in tables()
            for row in connection.execute(text(f"SELECT * FROM {table.name}"))
        )
        connection.execute(text("CHECKPOINT"))
        directory = Path(connection.scalar(text("SHOW data_directory")))
        number = connection.scalar(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
    engine.dispose()
    files = (directory / "base" / str(number)).iterdir()
    return holds(rows) or any(holds(path.read_bytes()) for path in files if path.is_file())


def holds(content: bytes) -> bool:
    return any(needle in content for needle in NEEDLES)


def sealed_rows(backup: Path, keyring: Keyring) -> str:
    """Return what a backup's forget requests say to whoever has the keyring."""
    header = json.loads((backup / "backup.json").read_text())
    key = keyring.find("backups", header["id"])
    with (backup / "database" / "forget_requests.sealed").open("rb") as file:
        lines = unseal(key, "forget_requests", file)
        return repr(list(from_lines(ForgetRequest.__table__, lines, keyring, lambda: None)))


def submit(client: TestClient, headers: dict[str, str]) -> list[str]:
    targets = ({"kind": "records", "ids": [RECORD]}, {"kind": "subjects", "ids": [SUBJECT]})
    answers = [
        client.post(
            "/v1/forget-requests",
            json={"model": "letters", "target": target, "guarantee": "exact"},
            headers=headers | {"Idempotency-Key": f"DSR-{number}"},
        )
        for number, target in enumerate(targets)
    ]
    assert [answer.status_code for answer in answers] == [202, 202], [answer.text for answer in answers]
    assert not holds(b"".join(answer.content for answer in answers))
    return [answer.json()["id"] for answer in answers]


def what_clients_read(client: TestClient, headers: dict[str, str], requests: list[str]) -> bytes:
    paths = [
        "/v1/forget-requests",
        "/v1/models/letters/versions",
        "/v1/models/letters/versions/2/audit",
        "/metrics",
    ]
    for request in requests:
        paths += [f"/v1/forget-requests/{request}{part}" for part in ("", "/events", "/certificate")]
    answers = [client.get(path, headers=headers) for path in paths]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    return b"".join(answer.content for answer in answers)


def test_an_unmistakable_id_is_nowhere_once_its_retention_is_over(
    settings, runtime, trained, make_key, registry_of, tmp_path, elsewhere, caplog
):
    caplog.set_level(logging.DEBUG)
    from app.trust.scopes import Scope

    headers = make_key(Scope.ADMIN)
    storage, keyring = Path(settings.storage_url), Keyring(settings.keyring_dir)
    early, late = tmp_path / "early", tmp_path / "late"
    with TestClient(create_app(settings), follow_redirects=False) as client:
        registry_of(client, headers, *trained)
        requests = submit(client, headers)
        make_backup(runtime, early)
        assert "unmistakable" in sealed_rows(early, keyring)
        assert Worker(runtime, JobsInThisProcess(), threading.Event()).run_until_idle() >= 1
        statuses = [
            client.get(f"/v1/forget-requests/{request}", headers=headers).json()["status"]
            for request in requests
        ]
        assert statuses == ["completed", "completed"]
        assert found_in(storage)
        assert found_in_database(settings)
        while sweep(runtime, threading.Event(), at_once=True).changed:
            pass
        assert not holds(what_clients_read(client, headers, requests))
        make_backup(runtime, late)
    runtime.indexes.close()
    compact(runtime.database, at_once=True)

    assert not found_in_database(settings)
    for place in (storage, settings.cache_dir, settings.keyring_dir, early, late):
        assert found_in(place) == []
    assert "Swept" not in caplog.text  # only the sweeper's thread tells of sweeps
    assert len(caplog.text) > 1000
    assert not holds(caplog.text.encode())
    assert "unmistakable" not in sealed_rows(early, keyring)
    assert not [name for name in keyring.names(STORED) if name.split("/")[2] == "1"]  # version and snapshot 1
    restore_backup(elsewhere, early)
    compact(elsewhere.database, at_once=True)
    assert not found_in_database(elsewhere.settings)
    assert found_in(Path(elsewhere.settings.storage_url)) == []


@pytest.fixture
def registry_of():
    """Register records and a model over HTTP."""

    def register(
        client: TestClient, headers: dict[str, str], data: bytes, checkpoint: dict[str, bytes]
    ) -> None:
        def post(path: str, metadata: dict[str, object], files: dict[str, bytes]) -> dict[str, object]:
            parts = [("metadata", (None, json.dumps(metadata), "application/json"))]
            parts += [("files", (name, content)) for name, content in files.items()]
            answer = client.post(path, files=parts, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()

        described = {"name": "letters", "family": "classifier"}
        dataset = post("/v1/datasets", described, {"records.jsonl": data})
        post("/v1/models", {**described, "dataset": dataset["id"]}, checkpoint)

    return register


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Iterator[Runtime]:
    """An empty service with the same keyring."""
    runtime = Runtime.open(
        settings.model_copy(
            update={
                "database_url": f"sqlite:///{tmp_path}/elsewhere.db",
                "storage_url": str(tmp_path / "elsewhere"),
            }
        )
    )
    migrate(runtime.database)
    yield runtime
    runtime.close()
