import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from app.retention.versions import destroy_due_versions
from app.tables import Event, Job, LogLeaf, Model, Snapshot, Version
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState


@pytest.fixture
def forgotten(yard, worker):
    """A model whose version 2 has forgotten r1."""
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    return model


def version(yard, model, number=1) -> Version:
    return yard.get(Version, (model.id, number))


def files(yard, location: str) -> bool:
    return (Path(yard.runtime.settings.storage_url) / location).exists()


def test_a_predecessor_stays_in_quarantine_for_its_retention(yard, forgotten, sweep_once):
    kept = version(yard, forgotten)
    assert (kept.destroy_after - kept.quarantined_at).days == yard.runtime.settings.predecessor_retention_days
    assert sweep_once().versions == 0
    assert version(yard, forgotten).state is VersionState.QUARANTINED
    assert files(yard, kept.location)


def test_a_predecessor_is_destroyed_with_a_tombstone_an_event_and_a_leaf(
    yard, forgotten, outlive, sweep_once
):
    outlive()
    assert sweep_once().versions == 1
    gone = version(yard, forgotten)
    assert gone.state is VersionState.DESTROYED
    assert gone.destroyed_at is not None
    assert gone.digest
    assert not files(yard, gone.location)
    with yard.runtime.database.read() as session:
        events = session.scalars(select(Event).where(Event.type == "destroyed")).all()
        assert [event.job_id for event in events] == [version(yard, forgotten, 2).job_id]
        leaf = session.scalars(select(LogLeaf).order_by(LogLeaf.position.desc()).limit(1)).one()
    assert '"state":"destroyed"' in leaf.payload
    assert gone.digest in leaf.payload
    assert sweep_once().versions == 0
    latest = version(yard, forgotten, 2)
    assert latest.state is VersionState.PUBLISHED
    assert files(yard, latest.location)


def test_a_crash_between_files_and_row_is_made_good_by_the_next_sweep(
    yard, forgotten, outlive, sweep_once, monkeypatch
):
    outlive()
    with monkeypatch.context() as patch:
        patch.setattr("app.retention.versions.bury", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        assert sweep_once().failed == 1
    half = version(yard, forgotten)
    assert half.state is VersionState.QUARANTINED
    assert not files(yard, half.location)
    assert sweep_once().versions == 1
    assert version(yard, forgotten).state is VersionState.DESTROYED


def test_files_that_will_not_go_keep_the_version_in_quarantine(
    yard, forgotten, outlive, sweep_once, monkeypatch
):
    outlive()
    with monkeypatch.context() as patch:
        patch.setattr(
            yard.runtime.storage.__class__, "delete", lambda *_: (_ for _ in ()).throw(OSError("no"))
        )
        assert sweep_once().failed == 1
    assert version(yard, forgotten).state is VersionState.QUARANTINED
    assert sweep_once().versions == 1


def test_what_a_job_reads_is_not_destroyed(yard, forgotten, outlive, sweep_once):
    outlive()
    with yard.runtime.database.write() as session:
        job = Job(
            id=new_id(),
            model_id=forgotten.id,
            kind=JobKind.AUDIT,
            state=JobState.RUNNING,
            attempts=1,
            parent_version=1,
            created_at=version(yard, forgotten).created_at,
        )
        session.add(job)
    assert sweep_once().versions == 0
    with yard.runtime.database.write() as session:
        session.get_one(Job, job.id).state = JobState.COMPLETED
    assert sweep_once().versions == 1


def test_the_latest_version_is_never_destroyed(yard, forgotten, outlive, sweep_once):
    with yard.runtime.database.write() as session:
        session.get_one(Model, forgotten.id).latest_version = 1
    outlive()
    assert sweep_once().versions == 0


def test_sweeps_at_the_same_time_destroy_once(yard, forgotten, outlive):
    outlive()
    barrier, outcomes = threading.Barrier(4), []

    def run() -> None:
        barrier.wait()
        outcomes.append(destroy_due_versions(yard.runtime, threading.Event()))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [failed for _, failed in outcomes] == [0] * 4
    assert version(yard, forgotten).state is VersionState.DESTROYED
    with yard.runtime.database.read() as session:
        leaves = session.scalars(select(LogLeaf.payload)).all()
        assert len(session.scalars(select(Event).where(Event.type == "destroyed")).all()) == 1
    assert sum('"state":"destroyed"' in leaf for leaf in leaves) == 1


def test_the_snapshot_goes_after_the_version_that_learned_it(yard, forgotten, outlive, sweep_all):
    snapshot = yard.get(Snapshot, (forgotten.dataset_id, 1))
    sweep_all()
    assert files(yard, snapshot.location)
    outlive()
    sweep_all()
    gone = yard.get(Snapshot, (forgotten.dataset_id, 1))
    assert gone.state is SnapshotState.DESTROYED
    assert gone.destroyed_at is not None
    assert not files(yard, snapshot.location)
    assert "r1" not in yard.records(forgotten.dataset_id)
