"""Sweeps beside the work they clean up after, and sweeps that die anywhere."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from app.retention.sweeper import sweep
from app.settings import Settings
from app.tables import ForgetRequest, LogLeaf, Snapshot, Version
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from app.worker.worker import Worker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is kept any longer than it must be: what is safe is safe for another reason than its age."""
    return settings.model_copy(
        update={"target_retention_days": 0, "predecessor_retention_days": 0, "litter_seconds": 1e-3}
    )


def broken_rows(yard) -> list[str]:
    """Return the places whose row does not tell the truth about their files."""
    with yard.runtime.database.read() as session:
        rows = [*session.scalars(select(Version)), *session.scalars(select(Snapshot))]
    root = Path(yard.runtime.settings.storage_url)
    broken = []
    for row in rows:
        there = (root / row.location / "manifest.json").exists()
        gone = row.state in {VersionState.DESTROYED, SnapshotState.DESTROYED}
        leaving = row.state is VersionState.QUARANTINED or getattr(row, "superseded_at", None) is not None
        if (gone and (root / row.location).exists()) or (not gone and not leaving and not there):
            broken.append(row.location)
    return broken


def test_sweeps_beside_publications_lose_nothing(yard, runtime, executor):
    """Two models over one dataset forget record after record while two sweepers take whatever they may."""
    dataset_id = yard.dataset([f"r{number}" for number in range(24)])
    models = [yard.model(name, dataset_id) for name in ("first", "second")]
    stop, faults = threading.Event(), []

    def sweep_on() -> None:
        while not stop.is_set():
            try:
                swept = sweep(runtime, stop, at_once=True)
                assert swept.failed == 0
            except Exception as error:  # noqa: BLE001 - shown by the test itself
                faults.append(error)
                return

    sweepers = [threading.Thread(target=sweep_on) for _ in range(2)]
    for thread in sweepers:
        thread.start()
    requests = []
    for number in range(3):
        requests += [yard.request(model, f"r{number}") for model in models]
        yard.grow(dataset_id, [f"n{number}"])
        while "pending" in yard.statuses(
            *requests
        ):  # a model that a sweep has locked is left for the next look
            Worker(runtime, executor, threading.Event()).run_until_idle()
        assert broken_rows(yard) == []
    stop.set()
    for thread in sweepers:
        thread.join()
    while sweep(runtime, threading.Event(), at_once=True).changed:
        pass
    assert faults == []
    assert yard.statuses(*requests) == ["completed"] * 6
    assert broken_rows(yard) == []
    with runtime.database.read() as session:
        states = list(session.scalars(select(Version.state)))
        assert [
            target for target in session.scalars(select(ForgetRequest.target)) if target is not None
        ] == []
        destroyed = [
            leaf for leaf in session.scalars(select(LogLeaf.payload)) if '"state":"destroyed"' in leaf
        ]
    assert states.count(VersionState.PUBLISHED) == 2
    assert len(destroyed) == states.count(VersionState.DESTROYED) == len(states) - 2


class _DiedError(BaseException):
    """The process is killed: nothing in it may catch this."""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_sweep_that_dies_anywhere_is_completed_by_the_next(yard, worker, runtime, monkeypatch):
    """Die before the k-th thing that lasts (a commit or a deletion), for every k until a sweep gets through."""
    model = yard.model()
    yard.grow(model.dataset_id, ["r20"])
    yard.request(model, "r1")
    worker.run_until_idle()
    litter = Path(runtime.settings.storage_url) / "models" / "pets" / "9" / "left"
    litter.mkdir(parents=True)
    time.sleep(0.01)
    write, delete = runtime.database.write, runtime.storage.delete
    left, deaths = [0], 0

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _DiedError

    @contextmanager
    def dying_write():
        with write() as session:
            yield session
            step()

    def dying_delete(location: str) -> None:
        step()
        delete(location)

    monkeypatch.setattr(runtime.database, "write", dying_write)
    monkeypatch.setattr(runtime.storage, "delete", dying_delete)
    while True:
        left[0] = deaths
        try:
            swept = sweep(runtime, threading.Event(), at_once=True)
        except _DiedError:
            deaths += 1
            assert broken_rows(yard) == []
            continue
        left[0] = 1000
        if not swept.changed:
            break
    assert deaths >= 10
    assert yard.get(Version, (model.id, 1)).state is VersionState.DESTROYED
    assert [yard.get(Snapshot, (model.dataset_id, number)).state for number in (1, 2)] == [
        SnapshotState.DESTROYED
    ] * 2
    assert not litter.exists()
    with runtime.database.read() as session:
        assert list(session.scalars(select(ForgetRequest.target))) == [None]
        leaves = list(session.scalars(select(LogLeaf.payload)))
    assert sum('"state":"destroyed"' in leaf for leaf in leaves) == 1
