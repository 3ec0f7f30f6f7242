import datetime as dt
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from app.database import database_now
from app.retention.litter import delete_litter, delete_local_litter
from app.retention.locations import SweptLocationError, claim_location, write_off
from app.runtime import Runtime
from app.settings import Settings
from app.tables import Job, Snapshot, SweptLocation, Version
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.worker.publication import candidate_location
from models.checkpoint import write_manifest

NOW = dt.datetime.now(dt.UTC)

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A service for which everything is old enough at once: only what is named or held is safe."""
    return settings.model_copy(update={"litter_seconds": 1e-3})


@pytest.fixture(params=["local", "memory"])
def any_runtime(request, settings: Settings, tmp_path: Path):
    """A service over a local directory, and one over an object store (fsspec's in memory)."""
    url = {"local": settings.storage_url, "memory": f"memory://{tmp_path.name}/deep"}[request.param]
    runtime = Runtime.open(settings.model_copy(update={"storage_url": url}))
    yield runtime
    runtime.close()


def store(runtime: Runtime, location: str) -> str:
    with runtime.storage.staging() as directory:
        (directory / "config.json").write_text("{}")
        write_manifest(directory)
        runtime.storage.publish(directory, location)
    time.sleep(0.01)
    return location


def sweep_litter(runtime: Runtime) -> tuple[int, int]:
    return delete_litter(runtime, threading.Event())


@ON_SQLITE
def test_what_no_row_names_is_deleted_once_it_is_old(any_runtime):
    dataset, job = uuid.uuid4(), uuid.uuid4()
    places = [
        f"datasets/{dataset}/1/a",
        "models/m/1/a",
        f"candidates/{job}/version",
        f"references/{dataset}/r",
    ]
    for location in places:
        store(any_runtime, location)
    assert sweep_litter(any_runtime) == (4, 0)
    assert not any(any_runtime.storage.exists(location) for location in places)
    assert sweep_litter(any_runtime) == (0, 0)


@ON_SQLITE
def test_half_written_directories_are_deleted_too(any_runtime):
    location = store(any_runtime, "models/m/1/a")
    any_runtime.storage._filesystem.rm(any_runtime.storage._path(location, "manifest.json"))
    assert sweep_litter(any_runtime) == (1, 0)


@ON_SQLITE
def test_what_is_young_stays(any_runtime):
    location = store(any_runtime, "models/m/1/a")
    patient = any_runtime.settings.model_copy(update={"litter_seconds": 3600.0})
    assert sweep_litter(replace(any_runtime, settings=patient)) == (0, 0)
    assert any_runtime.storage.exists(location)


def test_what_rows_name_stays(yard, worker, runtime):
    model = yard.model()
    yard.grow(model.dataset_id, ["r20"])
    yard.request(model, "r1")
    worker.run_until_idle()
    before = yard.stored()
    assert before >= yard.recorded()
    sweep_litter(runtime)
    assert yard.stored() == yard.recorded()


@ON_SQLITE
def test_candidates_stay_while_a_job_runs_or_a_person_decides(yard, worker, executor, runtime):
    def fail(task, workplace):
        yield executor.forget(task, workplace, passed=False)

    model = yard.model()
    executor.scripts = [fail]
    yard.request(model, "r1")
    worker.run_until_idle()
    running = Job(
        id=new_id(),
        model_id=model.id,
        kind=JobKind.UNLEARN,
        state=JobState.RUNNING,
        attempts=0,
        created_at=NOW,
    )
    with runtime.database.write() as session:
        session.add(running)
    store(runtime, f"{candidate_location(running.id)}/version")
    before = yard.stored()
    assert sweep_litter(runtime) == (0, 0)
    assert yard.stored() == before
    assert sum(location.startswith("candidates/") for location in before) == 3


def test_a_row_that_comes_too_late_is_refused(runtime):
    location = store(runtime, "models/m/1/a")
    sweep_litter(runtime)
    with pytest.raises(SweptLocationError), runtime.database.write() as session:
        claim_location(session, location)


def test_deletion_waits_for_a_row_that_is_being_written(yard, runtime):
    """The row and the deletion meet at the place's lock; whoever comes second sees what the first has done."""
    model = yard.model()
    location = store(runtime, "models/pets/2/late")
    claimed, deleted = threading.Event(), []

    def delete() -> None:
        claimed.wait()
        with runtime.database.write() as session:
            deleted.append(write_off(session, location, NOW, database_now(session)))

    thread = threading.Thread(target=delete)
    thread.start()
    with runtime.database.write() as session:
        first = session.get_one(Version, (model.id, 1))
        fields = {column.name: getattr(first, column.name) for column in Version.__table__.columns}
        session.add(Version(**{**fields, "number": 2, "location": location}))
        session.flush()
        claim_location(session, location)
        claimed.set()
        thread.join(0.3)
        assert deleted == []
    thread.join()
    assert deleted == [False]


def test_registrations_that_race_with_sweeps_lose_nothing(registry, runtime):
    """Whatever is old at once: a registration either fails whole, or all its files are there."""
    stop = threading.Event()

    def sweep_on() -> None:
        while not stop.is_set():
            sweep_litter(runtime)

    def register(number: int) -> int:
        answer = registry.post(
            "/v1/datasets",
            {"name": f"d{number}", "family": "classifier"},
            {"records.jsonl": registry.records(20)},
        )
        return answer.status_code

    sweeper = threading.Thread(target=sweep_on)
    sweeper.start()
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(register, range(24)))
    stop.set()
    sweeper.join()
    with runtime.database.read() as session:
        named = set(session.scalars(select(Snapshot.location)))
        swept = set(session.scalars(select(SweptLocation.location)))
    assert statuses.count(201) == len(named)
    assert set(statuses) <= {201, 500}
    assert all(runtime.storage.exists(location) for location in named)
    assert not named & swept


@ON_SQLITE
def test_abandoned_staging_is_deleted_and_staging_in_use_is_not(any_runtime):
    abandoned = any_runtime.storage._staging_directory("dead")
    abandoned.mkdir(parents=True)
    with any_runtime.storage.staging("alive") as alive:
        time.sleep(0.01)
        assert delete_local_litter(any_runtime, threading.Event()) == 1
        assert alive.is_dir()
    assert not abandoned.exists()


@ON_SQLITE
def test_the_staging_of_a_running_job_is_kept_for_whoever_works_on_it(yard, runtime):
    token = uuid.uuid4()
    model = yard.model()
    with runtime.database.write() as session:
        session.add(
            Job(
                id=new_id(),
                model_id=model.id,
                kind=JobKind.UNLEARN,
                state=JobState.RUNNING,
                attempts=0,
                lease_token=token,
                created_at=NOW,
            )
        )
    staging = runtime.storage._staging_directory(token.hex)
    staging.mkdir(parents=True)
    time.sleep(0.01)
    assert delete_local_litter(runtime, threading.Event()) == 0
    assert staging.is_dir()


@ON_SQLITE
def test_copies_of_what_is_gone_are_deleted_on_every_machine(settings, tmp_path):
    url = f"memory://{tmp_path.name}"
    first, second = (
        Runtime.open(settings.model_copy(update={"storage_url": url, "cache_dir": tmp_path / name}))
        for name in ("first", "second")
    )
    location = store(first, "models/m/1/a")
    copies = [runtime.storage.materialise(location) for runtime in (first, second)]
    single = second.storage.materialise_file(store(first, "models/m/1/b"), "config.json")
    sweep_litter(first)
    assert [copy.exists() for copy in (*copies, single)] == [False, True, True]
    assert delete_local_litter(second, threading.Event()) == 2
    assert not copies[1].exists()
    assert not single.exists()
    for runtime in (first, second):
        runtime.close()


@ON_SQLITE
def test_an_open_index_of_a_gone_snapshot_is_let_go(yard, runtime):
    dataset_id = yard.dataset()
    snapshot = yard.get(Snapshot, (dataset_id, 1))
    runtime.indexes.get(snapshot.location)
    delete_local_litter(runtime, threading.Event())
    assert runtime.indexes.locations() == [snapshot.location]
    with runtime.database.write() as session:
        session.delete(session.get_one(Snapshot, (dataset_id, 1)))
    delete_local_litter(runtime, threading.Event())
    assert runtime.indexes.locations() == []
