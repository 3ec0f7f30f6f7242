"""Publication: whole or not at all, with other writers in the way."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from app.call import Caller, Work
from app.database import database_now
from app.datasets.suppression import suppressed
from app.tables import Dataset, ForgetRequest, Job, Model, Suppression, Version
from app.worker.publication import CandidateOutdatedError, NothingToAcceptError, publish_candidate
from app.worker.settlement import reap
from app.worker.worker import Worker

ALL = {f"r{number}" for number in range(12)}


def test_forgotten_records_are_suppressed(yard, worker, runtime):
    model = yard.model()
    yard.request(model, "r1", "r2")

    worker.run_until_idle()

    with runtime.database.read() as session:
        dataset = session.get_one(Dataset, model.dataset_id)
        assert list(suppressed(session, dataset, ["r1", "r2", "r3"])) == ["r1", "r2"]


def test_two_models_over_one_dataset_each_keep_what_they_have_learned(yard, worker, runtime):
    dataset_id = yard.dataset()
    cats, dogs = yard.model("cats", dataset_id), yard.model("dogs", dataset_id)

    yard.request(cats, "r1")
    worker.run_until_idle()
    yard.request(dogs, "r2")
    worker.run_until_idle()

    learned = {
        model.name: yard.records(dataset_id, yard.get(Version, (model.id, 2)).snapshot)
        for model in (cats, dogs)
    }
    assert learned == {"cats": ALL - {"r1"}, "dogs": ALL - {"r2"}}
    assert yard.records(dataset_id) == ALL - {"r1", "r2"}
    assert yard.get(Version, (cats.id, 2)).state.value == "published"
    assert yard.stored() == yard.recorded()


def test_workers_that_publish_over_one_dataset_at_once_lose_nothing(yard, runtime, executor):
    dataset_id = yard.dataset()
    models = [yard.model(f"model-{number}", dataset_id) for number in range(3)]
    requests = [
        yard.request(model, f"r{3 * turn + place}", group_key=f"{turn}" * 64)
        for place, model in enumerate(models)
        for turn in range(3)
    ]

    def work_until_all_is_done():
        worker = Worker(runtime, executor, threading.Event())
        while yard.statuses(*requests) != ["completed"] * 9:
            worker.run_until_idle()

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(work_until_all_is_done) for _ in range(3)]:
            future.result()

    assert yard.records(dataset_id) == {"r9", "r10", "r11"}
    for place, model in enumerate(models):
        version = yard.get(Version, (model.id, 4))
        forgotten = {f"r{3 * turn + place}" for turn in range(3)}
        assert yard.records(dataset_id, version.snapshot) == ALL - forgotten
    assert yard.stored() == yard.recorded()


def test_the_same_record_forgotten_by_two_models_is_suppressed_once(yard, worker, runtime):
    dataset_id = yard.dataset()
    cats, dogs = yard.model("cats", dataset_id), yard.model("dogs", dataset_id)
    yard.request(cats, "r1")
    worker.run_until_idle()
    head = yard.get(Dataset, dataset_id).head_snapshot

    yard.request(dogs, "r1")
    worker.run_until_idle()

    assert yard.get(Dataset, dataset_id).head_snapshot == head
    assert yard.records(dataset_id, yard.get(Version, (dogs.id, 2)).snapshot) == ALL - {"r1"}
    with runtime.database.read() as session:
        assert session.scalars(select(func.count()).select_from(Suppression)).one() == 1


def test_records_added_to_the_head_meanwhile_stay_there(yard, worker, executor):
    model = yard.model()
    yard.request(model, "r1")

    def grown_under_way(task, place):
        finished = executor.forget(task, place)
        yard.grow(model.dataset_id, ["r90"])
        yield finished

    executor.scripts = [grown_under_way]
    worker.run_until_idle()

    assert yard.records(model.dataset_id) == ALL - {"r1"} | {"r90"}
    assert yard.records(model.dataset_id, yard.get(Version, (model.id, 2)).snapshot) == ALL - {"r1"}
    assert yard.stored() == yard.recorded()


def test_a_head_that_moves_between_files_and_commit_is_followed(yard, runtime, executor, monkeypatch):
    model = yard.model()
    yard.request(model, "r1")
    publish = runtime.storage.publish
    moves = iter(["r90", "r91"])

    def publish_while_the_head_moves(directory, location):
        publish(directory, location)
        if location.startswith("models/") or directory.name == "head":
            new = next(moves, None)
            if new is not None:
                yard.grow(model.dataset_id, [new])

    monkeypatch.setattr(runtime.storage, "publish", publish_while_the_head_moves)
    Worker(runtime, executor, threading.Event()).run_until_idle()

    assert yard.records(model.dataset_id) == ALL - {"r1"} | {"r90", "r91"}
    assert yard.get(Model, model.id).latest_version == 2
    assert yard.stored() == yard.recorded()


def test_a_record_that_only_the_head_has_is_forgotten_there(yard, worker):
    model = yard.model()
    yard.grow(model.dataset_id, ["r90", "r91"])
    request_id = yard.request(model, "r90")

    worker.run_until_idle()

    assert yard.statuses(request_id) == ["completed"]
    assert yard.records(model.dataset_id) == ALL | {"r91"}
    assert yard.get(Version, (model.id, 2)).snapshot == 1


class _Flaky:
    """A database that loses the answer to some commits, or does not commit at all."""

    def __init__(self, database, faults):
        self._database = database
        self._faults = faults

    def __getattr__(self, name):
        return getattr(self._database, name)

    @contextmanager
    def write(self):
        fault = next(self._faults, None)
        if fault == "away":
            raise OperationalError("BEGIN", {}, OSError("connection refused"))
        with self._database.write() as session:
            yield session
        if fault == "answer lost":
            raise OperationalError("COMMIT", {}, OSError("connection reset"))


@pytest.mark.parametrize("fault", ["away", "answer lost"])
@pytest.mark.parametrize("place", range(3))
def test_an_outage_while_publishing_leaves_one_whole_version(yard, runtime, executor, fault, place):
    """The writing transactions of a job are: claim, reservation, publication."""
    model = yard.model()
    request_id = yard.request(model, "r1")
    faults = iter([None] * place + [fault])
    flaky = replace(runtime, database=_Flaky(runtime.database, faults))
    stop = threading.Event()

    def lose_the_claim_if_its_answer_was_lost():
        for job in yard.jobs():
            if job.state.value == "running":
                yard.expire(job.id)

    worker = Worker(flaky, executor, stop)
    for _ in range(3):
        try:
            worker.run_until_idle()
        except OperationalError:
            lose_the_claim_if_its_answer_was_lost()

    assert yard.statuses(request_id) == ["completed"]
    assert yard.get(Model, model.id).latest_version == 2
    assert yard.stored() == yard.recorded()


def test_a_storage_that_fails_leaves_nothing_and_is_tried_again(yard, runtime, executor, monkeypatch):
    model = yard.model()
    request_id = yard.request(model, "r1")
    publish = runtime.storage.publish
    failures = iter([True])

    def fail_once(directory, location):
        if directory.name == "snapshot" and next(failures, False):
            raise OSError("no space left on device")
        publish(directory, location)

    monkeypatch.setattr(runtime.storage, "publish", fail_once)
    assert Worker(runtime, executor, threading.Event()).run_until_idle() == 2

    request = yard.get(ForgetRequest, request_id)
    assert (request.status.value, request.attempts) == ("completed", 1)
    assert yard.stored() == yard.recorded()


def test_a_job_that_is_lost_before_it_is_signed_is_no_fault_of_the_service(
    yard, runtime, executor, monkeypatch, caplog
):
    model = yard.model()
    request_id = yard.request(model, "r1")
    publish = runtime.storage.publish
    losses = iter([True])

    def lose_the_job_once(directory, location):
        publish(directory, location)
        if directory.name == "snapshot" and next(losses, False):
            yard.expire(yard.jobs()[0].id)
            reap(runtime.database, runtime.settings)

    monkeypatch.setattr(runtime.storage, "publish", lose_the_job_once)
    assert Worker(runtime, executor, threading.Event()).run_until_idle() == 2

    assert [job.state.value for job in yard.jobs()] == ["abandoned", "completed"]
    assert yard.get(ForgetRequest, request_id).version == 2
    assert "fault of the service" not in caplog.text
    assert yard.stored() == yard.recorded()


@pytest.fixture
def review(yard, runtime):
    """Accept a request's candidate, as the service does."""

    def review(request_id):
        with runtime.database.write() as session:
            work = Work(session, Caller(request_id, frozenset(), None), runtime, database_now(session))
            return publish_candidate(
                work, session.get_one(ForgetRequest, request_id), "measured by hand", "an auditor"
            )

    return review


@pytest.fixture
def inconclusive(executor):
    executor.scripts = [lambda task, place: iter([executor.forget(task, place, passed=False)])]


def test_a_result_that_did_not_pass_waits_for_a_person(yard, worker, inconclusive):
    model = yard.model()
    request_id = yard.request(model, "r1")

    worker.run_until_idle()

    assert yard.statuses(request_id) == ["needs_review"]
    assert yard.get(Model, model.id).latest_version == 1
    assert yard.get(Version, (model.id, 1)).state.value == "published"
    [job] = yard.jobs()
    assert job.state.value == "needs_review"
    assert job.outcome["rungs"][0]["method"] == "acu"
    assert yard.stored() - yard.recorded() == {
        f"candidates/{job.id}/version",
        f"candidates/{job.id}/snapshot",
    }


def test_an_accepted_candidate_is_published(yard, worker, inconclusive, review):
    model = yard.model()
    first, second = yard.request(model, "r1"), yard.request(model, "r2")
    worker.run_until_idle()

    assert review(first) == 2

    assert yard.statuses(first, second) == ["completed", "completed"]
    assert "measured by hand" in yard.get(ForgetRequest, first).reason
    assert yard.get(Version, (model.id, 1)).state.value == "quarantined"
    assert yard.records(model.dataset_id) == ALL - {"r1", "r2"}
    [job] = yard.jobs()
    assert (job.state.value, job.produced_version) == ("completed", 2)
    assert yard.stored() == yard.recorded()


def test_an_accepted_candidate_follows_a_head_that_has_moved(yard, worker, inconclusive, review):
    model = yard.model()
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    yard.grow(model.dataset_id, ["r90"])

    review(request_id)

    assert yard.records(model.dataset_id) == ALL - {"r1"} | {"r90"}
    assert yard.stored() == yard.recorded()


def test_a_candidate_of_an_older_version_cannot_be_accepted(yard, worker, inconclusive, review):
    model = yard.model()
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    yard.overtake(model)

    with pytest.raises(CandidateOutdatedError, match="newer version"):
        review(request_id)

    assert yard.statuses(request_id) == ["needs_review"]


def spoil(path):
    """Turn over one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", ["version/config.json", "snapshot/records.safetensors"])
@pytest.mark.parametrize("passed", [True, False])
def test_a_candidate_damaged_before_it_is_stored_is_made_anew(yard, worker, executor, part, passed):
    model = yard.model()
    request_id = yard.request(model, "r1")

    def damaged_at_the_end(task, place):
        finished = executor.forget(task, place, passed=passed)
        spoil(place.staging / part)
        yield finished

    executor.scripts = [damaged_at_the_end, executor.succeed]
    worker.run_until_idle()

    assert yard.statuses(request_id) == ["completed"]
    assert "DamagedCandidateError" in yard.jobs()[0].reason
    assert yard.get(ForgetRequest, request_id).attempts == 1
    assert yard.stored() == yard.recorded()


def test_a_candidate_torn_in_half_is_made_anew(yard, worker, executor):
    model = yard.model()
    request_id = yard.request(model, "r1")

    def torn_at_the_end(task, place):
        finished = executor.forget(task, place)
        (place.staging / "version" / "manifest.json").unlink()
        yield finished

    executor.scripts = [torn_at_the_end, executor.succeed]
    worker.run_until_idle()

    assert yard.statuses(request_id) == ["completed"]
    assert yard.stored() == yard.recorded()


def test_a_candidate_damaged_while_it_waited_cannot_be_accepted(yard, worker, inconclusive, review, runtime):
    model = yard.model()
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    [job] = yard.jobs()
    spoil(runtime.storage.materialise(f"candidates/{job.id}/version") / "config.json")

    with pytest.raises(CandidateOutdatedError, match="damaged"):
        review(request_id)

    assert yard.get(Model, model.id).latest_version == 1


def test_a_candidate_cannot_be_accepted_once_another_of_its_requests_has_left(
    yard, worker, inconclusive, review, runtime
):
    model = yard.model()
    staying, leaving = yard.request(model, "r1"), yard.request(model, "r2")
    worker.run_until_idle()
    with runtime.database.write() as session:
        session.get_one(ForgetRequest, leaving).status = "cancelled"

    with pytest.raises(CandidateOutdatedError, match="left the review"):
        review(staying)


def test_a_candidate_is_thrown_away_once_its_requests_have_left_the_review(
    yard, worker, executor, inconclusive, runtime
):
    model = yard.model()
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    with runtime.database.write() as session:
        session.get_one(ForgetRequest, request_id).status = "pending"  # submitted again
    executor.scripts = [executor.succeed]

    worker.run_until_idle()

    assert [job.state.value for job in yard.jobs()] == ["failed", "completed"]
    assert yard.stored() == yard.recorded()


def test_a_request_without_a_candidate_cannot_be_accepted(yard, worker, executor, review):
    request_id = yard.request(yard.model(), "r1")
    executor.scripts = [
        lambda task, place: iter([replace(executor.forget(task, place, passed=False), candidate=None)])
    ]
    worker.run_until_idle()

    assert yard.statuses(request_id) == ["needs_review"]
    with pytest.raises(NothingToAcceptError):
        review(request_id)


def test_a_request_cancelled_before_the_review_begins_takes_its_records_out_of_the_candidate(
    yard, worker, executor
):
    model = yard.model()
    staying, leaving = yard.request(model, "r1"), yard.request(model, "r2")

    def cancelled_at_the_end(task, place):
        finished = executor.forget(task, place, passed=False)
        yard.cancel(leaving)
        yield finished

    executor.scripts = [
        cancelled_at_the_end,
        lambda task, place: iter([executor.forget(task, place, passed=False)]),
    ]
    worker.run_until_idle()

    assert yard.statuses(staying, leaving) == ["needs_review", "cancelled"]
    [job] = yard.jobs()
    assert yard.get(Job, job.id).outcome["served"] == [str(staying)]
    assert job.outcome["candidate"]["snapshot"]["records"] == 11
