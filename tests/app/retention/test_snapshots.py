import datetime as dt
import uuid
from pathlib import Path

import pytest

from app.call import Work
from app.registry.errors import SnapshotDestroyedError
from app.registry.service import _refuse_leaving
from app.tables import Dataset, Job, Snapshot, Version
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotState

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def grown(yard, worker):
    """A dataset whose snapshot 2, once its head and never learned, still holds a record that was forgotten since."""
    model = yard.model()
    yard.grow(model.dataset_id, ["r20", "r21"])
    yard.request(model, "r1")
    worker.run_until_idle()
    return model


def snapshot(yard, model, number) -> Snapshot:
    return yard.get(Snapshot, (model.dataset_id, number))


def files(yard, row: Snapshot) -> bool:
    return (Path(yard.runtime.settings.storage_url) / row.location).exists()


def test_a_former_head_with_forgotten_records_goes_though_no_version_is_due(yard, grown, sweep_once):
    assert sweep_once().superseded == 1
    assert files(yard, snapshot(yard, grown, 2))  # somebody may just be about to read it
    assert sweep_once().snapshots == 1
    assert snapshot(yard, grown, 2).state is SnapshotState.DESTROYED
    assert not files(yard, snapshot(yard, grown, 2))
    assert files(yard, snapshot(yard, grown, 1))  # version 1 is in quarantine
    assert sweep_once().changed is False


def test_history_without_forgotten_records_stays(yard, grown, sweep_all):
    yard.grow(grown.dataset_id, ["r30"])
    yard.grow(grown.dataset_id, ["r31"])
    sweep_all()
    states = [snapshot(yard, grown, number).state for number in range(1, 7)]
    assert states == [
        SnapshotState.AVAILABLE,
        SnapshotState.DESTROYED,
        *[SnapshotState.AVAILABLE] * 4,
    ]


def test_another_model_keeps_what_it_has_learned(yard, worker, outlive, sweep_all):
    first = yard.model("first")
    second = yard.model("second", first.dataset_id)
    yard.request(first, "r1")
    worker.run_until_idle()
    outlive()
    sweep_all()
    assert files(yard, snapshot(yard, first, 1))
    yard.request(second, "r1")
    worker.run_until_idle()
    outlive()
    sweep_all()
    assert not files(yard, snapshot(yard, first, 1))


def test_a_job_that_began_before_is_waited_for(yard, grown, sweep_all):
    with yard.runtime.database.write() as session:
        job = Job(
            id=new_id(),
            model_id=grown.id,
            kind=JobKind.UPDATE,
            state=JobState.RUNNING,
            attempts=1,
            created_at=NOW,
            started_at=NOW - dt.timedelta(hours=1),
        )
        session.add(job)
    sweep_all()
    assert files(yard, snapshot(yard, grown, 2))
    with yard.runtime.database.write() as session:
        session.get_one(Job, job.id).state = JobState.COMPLETED
    sweep_all()
    assert not files(yard, snapshot(yard, grown, 2))


def test_a_version_that_such_a_job_has_published_keeps_the_snapshot(yard, grown, sweep_once, sweep_all):
    sweep_once()
    assert snapshot(yard, grown, 2).superseded_at is not None
    yard.overtake(grown)
    with yard.runtime.database.write() as session:
        session.get_one(Version, (grown.id, 3)).snapshot = 2
    sweep_all()
    assert files(yard, snapshot(yard, grown, 2))
    assert snapshot(yard, grown, 2).superseded_at is None


def test_no_version_can_be_registered_on_a_leaving_snapshot(yard, runtime, grown, sweep_once):
    sweep_once()
    with runtime.database.read() as session, pytest.raises(SnapshotDestroyedError):
        work = Work(session, None, runtime, NOW)
        _refuse_leaving(work, session.get_one(Dataset, grown.dataset_id), 2)


def test_a_candidate_under_review_keeps_what_its_acceptance_reads(yard, worker, executor, sweep_all):
    def fail(task, workplace):
        yield executor.forget(task, workplace, passed=False)

    model = yard.model()
    other = yard.model("other", model.dataset_id)
    yard.grow(model.dataset_id, ["r20"])
    executor.scripts = [fail, executor.succeed]
    yard.request(model, "r1")
    worker.run_until_idle()
    yard.request(other, "r2")
    worker.run_until_idle()
    sweep_all()
    assert files(yard, snapshot(yard, model, 2))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_records_are_added_to_the_new_head_where_the_old_one_vanishes_meanwhile(registry, yard, monkeypatch):
    """The head moves and is destroyed after an addition has read which one it is."""
    dataset = registry.dataset("letters", count=20)
    dataset_id = uuid.UUID(dataset["id"])
    storage = registry.client.app.state.runtime.storage
    materialise, moved = storage.materialise, []

    def vanish(location: str) -> Path:
        if not moved:
            moved.append(location)
            yard.grow_from(dataset_id, _source(yard.tmp_path, registry.records(5, 100)))
            storage.delete(location)
        return materialise(location)

    monkeypatch.setattr(storage, "materialise", vanish)
    answer = registry.post(
        f"/v1/datasets/{dataset_id}/snapshots", {}, {"more.jsonl": registry.records(5, 200)}
    )
    assert answer.status_code == 201, answer.text
    assert (answer.json()["parent"], answer.json()["records"]) == (2, 30)


def _source(directory: Path, content: bytes) -> Path:
    path = directory / "grown.jsonl"
    path.write_bytes(content)
    return path
