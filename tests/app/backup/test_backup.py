import datetime as dt
import json
import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.backup.errors import BackupError
from app.backup.keyring import Keyring
from app.backup.making import make_backup
from app.backup.personal import SEALED_COLUMNS, tables
from app.backup.restoring import restore_backup
from app.retention.sweeper import sweep
from app.runtime import Runtime
from app.tables import Event, ForgetRequest, Job, LogLeaf, Snapshot, Version
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from models.checkpoint import verify_directory

LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ID = "unmistakable-4711"


@pytest.fixture
def forgotten(yard, worker):
    """A model whose version 2 has forgotten the record with the unmistakable id."""
    model = yard.model(dataset_id=yard.dataset(["r0", ID, "r2", "r3"]))
    yard.request(model, ID, commitment_key=b"c" * 32)
    worker.run_until_idle()
    return model


@pytest.fixture
def backup(yard, forgotten, tmp_path: Path) -> Path:
    make_backup(yard.runtime, tmp_path / "backup")
    return tmp_path / "backup"


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What does not depend on the kind of database is tested on the quicker one."""


def all_rows(runtime: Runtime) -> dict[str, list[tuple[object, ...]]]:
    with runtime.database.read() as session:
        return {
            table.name: list(map(tuple, session.execute(select(table).order_by(*table.primary_key.columns))))
            for table in tables()
        }


def let_retention_pass(runtime: Runtime) -> None:
    with runtime.database.write() as session:
        session.execute(
            update(Version).where(Version.destroy_after.is_not(None)).values(destroy_after=LONG_AGO)
        )
        session.execute(
            update(ForgetRequest)
            .where(ForgetRequest.status == RequestStatus.COMPLETED)
            .values(updated_at=LONG_AGO)
        )
    while sweep(runtime, threading.Event(), at_once=True).changed:
        pass


def content_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_a_restored_service_is_the_one_that_was_backed_up(yard, backup, elsewhere):
    restored = restore_backup(elsewhere, backup)
    assert all_rows(elsewhere) == all_rows(yard.runtime)
    assert (restored.erased_targets, restored.destroyed, restored.quarantined) == (0, [], [])
    assert restored.requests_since == restored.without_version == []
    with elsewhere.database.read() as session:
        stored = [*session.scalars(select(Version)), *session.scalars(select(Snapshot))]
    assert restored.directories == len(stored) == 4
    for row in stored:
        assert verify_directory(elsewhere.storage.materialise(row.location)).digest == row.digest


def test_new_rows_come_after_restored_ones(backup, elsewhere):
    restore_backup(elsewhere, backup)
    with elsewhere.database.write() as session:
        newest = max(session.scalars(select(Event.id)))
        event = Event(
            job_id=session.scalars(select(Job.id)).first(), type="status", reason="New.", created_at=LONG_AGO
        )
        session.add(event)
        session.flush()
        assert event.id > newest


@ON_SQLITE
def test_ids_are_in_a_backup_only_sealed(backup, yard):
    assert ID.encode() not in content_of(backup)
    stored = Path(yard.runtime.settings.storage_url)
    assert ID.encode() in content_of(stored)  # the predecessor's snapshot, still in quarantine


def test_what_was_erased_since_stays_erased(yard, forgotten, backup, elsewhere):
    let_retention_pass(yard.runtime)
    keyring = Keyring(yard.runtime.settings.keyring_dir)
    assert not list(keyring.names("forget_requests"))
    restored = restore_backup(elsewhere, backup)
    assert restored.erased_targets == 1
    assert len(restored.destroyed) == 2  # version 1 and the snapshot that it had learned
    with elsewhere.database.read() as session:
        request = session.scalars(select(ForgetRequest)).one()
        assert (request.target, request.commitment_key) == (None, None)
        states = {version.number: version.state for version in session.scalars(select(Version))}
        snapshots = {snapshot.number: snapshot.state for snapshot in session.scalars(select(Snapshot))}
        assert (
            '"state":"destroyed"'
            in session.scalars(select(LogLeaf).order_by(LogLeaf.position)).all()[-1].payload
        )
    assert states == {1: VersionState.DESTROYED, 2: VersionState.PUBLISHED}
    assert snapshots == {1: SnapshotState.DESTROYED, 2: SnapshotState.AVAILABLE}
    everything = content_of(Path(elsewhere.settings.storage_url))
    assert ID.encode() not in everything
    assert everything


def test_what_was_withdrawn_since_comes_back_in_quarantine(yard, worker, tmp_path, elsewhere):
    model = yard.model()
    make_backup(yard.runtime, tmp_path / "early")
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    sweep(yard.runtime, threading.Event(), at_once=True)  # brings the journal up to date
    restored = restore_backup(elsewhere, tmp_path / "early")
    assert restored.quarantined == [f"{model.id}/1"]
    assert restored.without_version == ["pets"]
    assert restored.requests_since == [str(request_id)]
    with elsewhere.database.read() as session:
        version = session.scalars(select(Version)).one()
    assert version.state is VersionState.QUARANTINED
    assert version.destroy_after == yard.get(Version, (model.id, 1)).destroy_after


@ON_SQLITE
def test_a_candidate_under_review_is_backed_up_with_what_it_needs(
    yard, worker, executor, tmp_path, elsewhere
):
    def fail(task, workplace):
        yield executor.forget(task, workplace, passed=False)

    executor.scripts = [fail]
    yard.request(yard.model(), "r1")
    worker.run_until_idle()
    make_backup(yard.runtime, tmp_path / "backup")
    restore_backup(elsewhere, tmp_path / "backup")
    with elsewhere.database.read() as session:
        job = session.scalars(select(Job)).one()
    assert job.outcome["candidate"] is not None
    assert elsewhere.storage.exists(f"candidates/{job.id}/version")


@ON_SQLITE
def test_without_its_key_a_backup_says_so(backup, elsewhere, tmp_path):
    keyring = Keyring(tmp_path / "keyring")
    keyring.shred("backups", json.loads((backup / "backup.json").read_text())["id"])
    with pytest.raises(BackupError, match="key of this backup is not in the keyring"):
        restore_backup(elsewhere, backup)


@ON_SQLITE
def test_every_change_of_a_sealed_file_is_noticed(backup, elsewhere, subtests):
    for path in sorted(backup.rglob("*.sealed")):
        content = path.read_bytes()
        middle = len(content) // 2
        with subtests.test(path=path.relative_to(backup)):
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            shutil.rmtree(elsewhere.settings.storage_url, ignore_errors=True)
            with pytest.raises(BackupError):
                restore_backup(elsewhere, backup)
        path.write_bytes(content)
    assert not any(rows for name, rows in all_rows(elsewhere).items())
    restore_backup(elsewhere, backup)  # an attempt that failed is simply made again


@ON_SQLITE
def test_a_backup_that_was_cut_off_is_none(backup, elsewhere):
    (backup / "backup.json").unlink()
    with pytest.raises(BackupError, match="no finished backup"):
        restore_backup(elsewhere, backup)


@ON_SQLITE
def test_only_an_empty_database_is_restored_into(yard, backup):
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(yard.runtime, backup)


@ON_SQLITE
def test_a_damaged_storage_is_found_by_the_backup(yard, forgotten, tmp_path):
    location = yard.get(Version, (forgotten.id, 2)).location
    file = Path(yard.runtime.settings.storage_url) / location / "config.json"
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    with pytest.raises(BackupError, match="damaged"):
        make_backup(yard.runtime, tmp_path / "backup")
    file.unlink()
    with pytest.raises(BackupError, match="missing"):
        make_backup(yard.runtime, tmp_path / "again")


@ON_SQLITE
def test_a_database_that_knows_nothing_shreds_no_keys(backup, elsewhere, yard):
    keyring = Keyring(elsewhere.settings.keyring_dir)
    before = {kind: list(keyring.names(kind)) for kind in ("stored", *SEALED_COLUMNS)}
    assert before["stored"]
    sweep(elsewhere, threading.Event(), at_once=True)
    assert {kind: list(keyring.names(kind)) for kind in before} == before


@ON_SQLITE
def test_a_target_in_a_job_is_sealed_until_the_job_ends(yard, tmp_path, elsewhere):
    job = Job(
        id=new_id(),
        model_id=yard.model().id,
        kind=JobKind.REFERENCE,
        state=JobState.QUEUED,
        attempts=0,
        asked={"target": {"kind": "records", "ids": [ID]}, "seeds": 2},
        created_at=LONG_AGO,
    )
    with yard.runtime.database.write() as session:
        session.add(job)
    keyring = Keyring(yard.runtime.settings.keyring_dir)
    make_backup(yard.runtime, tmp_path / "early")
    assert list(keyring.names("jobs")) == [str(job.id)]
    with yard.runtime.database.write() as session:
        session.get_one(Job, job.id).asked = {"target": None, "seeds": 2}
    make_backup(yard.runtime, tmp_path / "late")
    assert list(keyring.names("jobs")) == []
    restore_backup(elsewhere, tmp_path / "late")
    with elsewhere.database.read() as session:
        assert session.scalars(select(Job.asked)).one() == {"target": None, "seeds": 2}


@ON_SQLITE
def test_keys_are_for_their_owner_alone(backup, tmp_path):
    keys = list((tmp_path / "keyring").rglob("*.key"))
    assert len(keys) == 1 + 1 + 4  # the backup, one request, two versions and two snapshots
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert len({path.read_bytes() for path in keys}) == len(keys)
