"""Jobs for real: forkserver processes, torch, the digits model; and methods that misbehave in every way."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from sqlalchemy import select

from app.tables import ForgetRequest, Job, Model, Snapshot, Version
from app.worker.local_process import LocalProcessExecutor
from app.worker.worker import Worker
from models.families import get_family

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What the database has no part in need not run on both kinds of it."""

MISBEHAVING = Path(__file__).parents[2] / "plugins" / "expunge_misbehaving"


@pytest.fixture(scope="session")
def processes():
    executor = LocalProcessExecutor()
    executor.start()
    yield executor
    executor.close()


@pytest.fixture
def real_worker(runtime, processes):
    return Worker(runtime, processes, threading.Event())


@pytest.fixture
def ask(yard, runtime, digits_service):
    """Ask the digits model to forget, in a row."""

    def ask(*ids, **fields):
        with runtime.database.read() as session:
            model = session.scalars(select(Model).where(Model.name == "digits")).one()
        return yard.request(model, *ids, **fields)

    return ask


@pytest.fixture
def misbehave(ask, monkeypatch):
    """Ask for the method that misbehaves, which the job's process finds on its path."""
    monkeypatch.syspath_prepend(str(MISBEHAVING))

    def misbehave(how, *ids, **parameters):
        return ask(*(ids or ("digit-0",)), method="misbehave", parameters={"how": how, **parameters})

    return misbehave


@pytest.fixture
def newcomers(yard, runtime, digits_service, tmp_path):
    """Twenty records, `new-0` onwards, that the head of the dataset has and no model has learned."""
    with runtime.database.read() as session:
        model = session.scalars(select(Model)).one()
    source = tmp_path / "more.npz"
    rng = np.random.default_rng(0)
    np.savez(
        source,
        features=rng.integers(0, 17, size=(20, 64), dtype=np.uint8),
        labels=[str(n % 10) for n in range(20)],
        ids=[f"new-{n}" for n in range(20)],
        subjects=[f"writer-{n}" for n in range(20)],
        split=["train"] * 20,
    )
    yard.grow_from(model.dataset_id, source)


def refit(runtime, model_name):
    """Return the latest head of a model, and the head fitted afresh on its snapshot."""
    family = get_family("classifier").runtime()
    with runtime.database.read() as session:
        model = session.scalars(select(Model).where(Model.name == model_name)).one()
        version = session.get_one(Version, (model.id, model.latest_version))
        snapshot = session.get_one(Snapshot, (model.dataset_id, version.snapshot))
    latest = family.load_model(runtime.storage.materialise(version.location))
    data = family.load_data(runtime.storage.materialise(snapshot.location))
    recipe = {"feature_dim": 128, "input_range": 16.0}
    return latest.head, family.train(data, recipe, seed=0, progress=lambda *_: None).head


def test_forgotten_records_leave_a_head_that_is_bit_identical_to_a_fresh_fit(
    client, admin_headers, digits_service, real_worker, runtime
):
    body = {"model": "digits", "target": {"kind": "records", "ids": [f"digit-{n}" for n in range(10)]}}
    answer = client.post("/v1/forget-requests", json=body, headers=admin_headers)
    assert answer.status_code == 202

    assert real_worker.run_until_idle() == 1

    request = client.get(answer.headers["Location"], headers=admin_headers).json()
    assert (request["status"], request["version"]) == ("completed", 2), request
    head, fresh = refit(runtime, "digits")
    assert torch.equal(head, fresh)
    with runtime.database.read() as session:
        version = session.scalars(select(Version).where(Version.number == 2)).one()
    assert version.audit["verdict"] == "pass"
    assert version.method == "acu"


@on_sqlite
def test_an_update_and_then_a_forgetting_leave_a_head_that_is_bit_identical_to_a_fresh_fit(
    yard, ask, newcomers, real_worker, runtime
):
    with runtime.database.read() as session:
        model = session.scalars(select(Model)).one()
    job_id = yard.update(model)
    requests = [ask("new-3", "digit-7"), ask("writer-5", kind="subjects"), ask("3", kind="classes")]

    real_worker.run_until_idle()

    assert yard.get(Job, job_id).state.value == "completed", yard.get(Job, job_id).reason
    assert yard.statuses(*requests) == ["completed"] * 3
    head, fresh = refit(runtime, "digits")
    assert torch.equal(head, fresh)


@on_sqlite
def test_ids_that_were_forgotten_meanwhile_fail_alone_and_are_not_named_in_the_reason(yard, ask, real_worker):
    first = ask("digit-1")
    real_worker.run_until_idle()
    again, other = ask("digit-1", "digit-2"), ask("digit-3")

    real_worker.run_until_idle()

    assert yard.statuses(first, again, other) == ["completed", "failed", "completed"]
    assert yard.get(ForgetRequest, again).reason == (
        "1 of the target's 2 records no longer exist in the dataset."
    )


@on_sqlite
def test_a_record_that_no_version_has_learned_yet_is_forgotten_too(
    yard, ask, real_worker, runtime, newcomers
):
    request_id = ask("new-3")

    real_worker.run_until_idle()

    assert yard.statuses(request_id) == ["completed"]
    with runtime.database.read() as session:
        model = session.scalars(select(Model)).one()
    assert "new-3" not in yard.records(model.dataset_id)
    head, fresh = refit(runtime, "digits")
    assert torch.equal(head, fresh)


@on_sqlite
def test_a_damaged_parent_fails_the_job_and_says_so(yard, ask, real_worker, runtime):
    requests = [ask("digit-1"), ask("digit-2")]
    with runtime.database.read() as session:
        location = session.scalars(select(Version.location)).one()
    weights = next(runtime.storage.materialise(location).glob("*.safetensors"))
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)

    assert real_worker.run_until_idle() == 1

    assert yard.statuses(*requests) == ["failed", "failed"]
    assert "damaged" in yard.get(ForgetRequest, requests[0]).reason


@on_sqlite
def test_damaged_data_fails_the_job_and_says_so(yard, ask, real_worker, runtime):
    request_id = ask("digit-1")
    with runtime.database.read() as session:
        location = session.scalars(select(Snapshot.location)).one()
    (runtime.storage.materialise(location) / "extra.txt").write_text("not in the manifest")

    real_worker.run_until_idle()

    assert yard.statuses(request_id) == ["failed"]
    assert "Snapshot 1 of the dataset is damaged" in yard.get(ForgetRequest, request_id).reason


@on_sqlite
def test_a_method_that_raises_fails_its_request(yard, misbehave, real_worker):
    request_id = misbehave("raise")

    real_worker.run_until_idle()

    assert yard.statuses(request_id) == ["failed"]
    [job] = yard.jobs()
    assert job.outcome["rungs"][0]["failure"]
    assert job.traceback_digest


@on_sqlite
@pytest.mark.parametrize("how", ["allocate", "allocate_tensors"])
def test_a_method_that_needs_too_much_memory_fails_as_out_of_memory(yard, misbehave, runtime, processes, how):
    limited = replace(runtime, settings=runtime.settings.model_copy(update={"job_memory_bytes": 1 << 30}))
    request_id = misbehave(how)

    Worker(limited, processes, threading.Event()).run_until_idle()

    assert yard.statuses(request_id) == ["failed"]
    assert "memory" in yard.get(ForgetRequest, request_id).reason


@on_sqlite
def test_a_job_within_its_memory_limit_is_not_disturbed(yard, ask, runtime, processes):
    limited = replace(runtime, settings=runtime.settings.model_copy(update={"job_memory_bytes": 1 << 30}))
    request_id = ask("digit-1")

    Worker(limited, processes, threading.Event()).run_until_idle()

    assert yard.statuses(request_id) == ["completed"]


@on_sqlite
def test_a_process_that_is_killed_is_tried_again_and_then_fails(yard, misbehave, real_worker, settings):
    request_id = misbehave("kill_itself")

    assert real_worker.run_until_idle() == settings.max_attempts

    assert yard.statuses(request_id) == ["failed"]
    assert "killed" in yard.get(ForgetRequest, request_id).reason


@on_sqlite
def test_a_process_that_is_killed_once_succeeds_the_second_time(yard, misbehave, real_worker, tmp_path):
    request_id = misbehave("kill_itself", once=str(tmp_path / "once"))

    assert real_worker.run_until_idle() == 2

    assert yard.statuses(request_id) == ["completed"], yard.get(ForgetRequest, request_id).reason


def wait_until(condition):
    """Wait for what another process does; there is no event across the database."""
    while not condition():
        time.sleep(0.01)


WORKER = """
import os, signal, sys, threading
from app.settings import Settings
from app.worker.worker import run_worker

stop, ready = threading.Event(), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
threading.Thread(target=lambda: (ready.wait(), print("ready", flush=True)), daemon=True).start()
run_worker(Settings.model_validate_json(sys.argv[1]), stop=stop, ready=ready)
"""


@pytest.fixture
def worker_process(settings):
    """A worker in a process of its own, ready to work."""
    environment = {**os.environ, "PYTHONPATH": str(MISBEHAVING)}
    arguments = [sys.executable, "-c", WORKER, settings.model_dump_json()]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def job_process(worker_process, yard):
    """Wait until a job has reported progress, and return its process."""
    wait_until(lambda: yard.jobs() and yard.jobs()[0].progress)
    forkserver_and_tracker = psutil.Process(worker_process.pid).children()
    [job] = [child for parent in forkserver_and_tracker for child in parent.children()]
    return job


def test_a_killed_worker_takes_its_job_with_it_and_another_one_takes_over(
    yard, misbehave, worker_process, real_worker, tmp_path
):
    request_id = misbehave("sleep_deaf", once=str(tmp_path / "once"))
    job = job_process(worker_process, yard)

    worker_process.send_signal(signal.SIGKILL)
    job.wait(10)

    # There is nothing to do until the lease has run out.
    wait_until(real_worker.run_until_idle)
    assert yard.statuses(request_id) == ["completed"]
    assert yard.get(ForgetRequest, request_id).attempts == 1
    assert [job.state.value for job in yard.jobs()] == ["abandoned", "completed"]
    assert yard.stored() == yard.recorded()


@on_sqlite
def test_a_worker_that_is_told_to_stop_gives_its_job_back_and_ends(yard, misbehave, worker_process):
    request_id = misbehave("sleep_deaf")
    job = job_process(worker_process, yard)

    worker_process.send_signal(signal.SIGTERM)

    assert worker_process.wait(10) == 0
    job.wait(10)
    assert yard.statuses(request_id) == ["pending"]
    assert yard.get(ForgetRequest, request_id).attempts == 0


@on_sqlite
def test_a_job_whose_forkserver_is_killed_dies_and_is_tried_again(yard, misbehave, worker_process, tmp_path):
    request_id = misbehave("sleep_deaf", once=str(tmp_path / "once"))
    job = job_process(worker_process, yard)

    job.parent().send_signal(signal.SIGKILL)
    job.wait(10)

    wait_until(lambda: yard.statuses(request_id) == ["completed"])
    assert yard.get(ForgetRequest, request_id).attempts == 1


@on_sqlite
@pytest.mark.parametrize("how", ["return_unchanged", "change_input"])
def test_a_method_that_did_not_forget_is_caught_by_the_audit(yard, misbehave, real_worker, how):
    request_id = misbehave(how)

    real_worker.run_until_idle()

    assert yard.statuses(request_id) == ["needs_review"]
    [job] = yard.jobs()
    assert job.outcome["rungs"][0]["audit"]["verdict"] == "fail"


@on_sqlite
def test_a_deaf_job_that_is_cancelled_is_killed(yard, misbehave, real_worker):
    request_id = misbehave("sleep_deaf")
    thread = threading.Thread(target=real_worker.run_until_idle)
    thread.start()
    wait_until(lambda: yard.jobs() and yard.jobs()[0].progress)

    yard.cancel(request_id)
    thread.join(10)

    assert not thread.is_alive()
    assert yard.statuses(request_id) == ["cancelled"]


@on_sqlite
def test_a_job_that_runs_too_long_is_killed(yard, misbehave, runtime, processes):
    hasty = replace(runtime, settings=runtime.settings.model_copy(update={"job_timeout_seconds": 0.5}))
    request_id = misbehave("sleep_deaf")

    Worker(hasty, processes, threading.Event()).run_until_idle()

    assert yard.statuses(request_id) == ["failed"]
    assert "longer than 0.5 seconds" in yard.get(ForgetRequest, request_id).reason


def test_the_worker_itself_imports_no_torch():
    check = "import sys, app.worker.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@on_sqlite
def test_a_class_is_forgotten_by_a_network_that_climbs_its_whole_ladder(
    client, admin_headers, registry, digits, real_worker, runtime, tmp_path, monkeypatch
):
    """From a registered checkpoint over HTTP to one that never saw the class, every rung between measured."""
    # By one seed in twelve the retrained network is too far from the original's accuracy for 156 held-out records to
    # show that it is not further: then the ladder ends with a person, as it should.
    monkeypatch.setattr("app.worker.claims.secrets", SimpleNamespace(randbits=lambda _bits: 100))
    family = get_family("classifier")
    (tmp_path / "digits.npz").write_bytes(digits.data)
    snapshot, checkpoint = tmp_path / "snapshot", tmp_path / "checkpoint"
    snapshot.mkdir()
    checkpoint.mkdir()
    family.snapshots().ingest([tmp_path / "digits.npz"], snapshot, data_schema=None)
    recipe = {"architecture": "mlp", "hidden": [32], "input_range": 16.0, "epochs": 8, "learning_rate": 0.1}
    data = family.runtime().load_data(snapshot)
    family.runtime().save_model(
        family.runtime().train(data, recipe, seed=0, progress=lambda *_: None), checkpoint
    )
    dataset = registry.post(
        "/v1/datasets", {"name": "digits", "family": "classifier"}, {"digits.npz": digits.data}
    )
    body = {"name": "net", "family": "classifier", "dataset": dataset.json()["id"]}
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    registry.post("/v1/models", body, files).raise_for_status()
    target = {"kind": "classes", "ids": ["3"]}
    plan = client.post("/v1/plans", json={"model": "net", "target": target}, headers=admin_headers).json()
    assert plan["rungs"][-1]["method"] == "retrain"
    assert {"gradient_ascent", "gradient_difference", "finetune", "scrub", "ssd"} < {
        rung["method"] for rung in plan["rungs"]
    }
    answer = client.post(
        "/v1/forget-requests", json={"model": "net", "target": target}, headers=admin_headers
    )

    assert real_worker.run_until_idle() == 1

    request = client.get(answer.headers["Location"], headers=admin_headers).json()
    assert (request["status"], request["version"]) == ("completed", 2), request
    with runtime.database.read() as session:
        version = session.scalars(select(Version).where(Version.number == 2)).one()
    assert version.audit["verdict"] == "pass"
    latest = family.runtime().load_model(runtime.storage.materialise(version.location))
    assert latest.architecture == "mlp"
    assert latest.classes == data.classes
    threes = data.training().without(data.without_classes(["3"]).ids)
    assert len(threes) > 100
    assert not (latest.predict(threes.features) == data.classes.index("3")).any()
