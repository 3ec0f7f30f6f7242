"""The engine with scripted jobs: what becomes of requests, versions, snapshots and files."""

import threading
import time
from dataclasses import replace
from itertools import repeat

import pytest
from sqlalchemy.exc import OperationalError

from app.tables import Dataset, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus
from app.worker.task import Failure, FailureKind, Finished, Progress
from app.worker.worker import Worker


def test_a_forget_request_becomes_a_new_version(yard, worker):
    model = yard.model()
    request_id = yard.request(model, "r1", "r2")

    assert worker.run_until_idle() == 1

    request = yard.get(ForgetRequest, request_id)
    assert request.status.value == "completed"
    assert request.version == 2
    assert request.completed_at is not None
    assert [status for status, _ in yard.reasons(request_id)] == ["running", "completed"]
    assert yard.get(Model, model.id).latest_version == 2
    first, second = yard.get(Version, (model.id, 1)), yard.get(Version, (model.id, 2))
    assert first.state.value == "quarantined"
    assert second.state.value == "published"
    assert (second.parent, second.origin.value, second.method) == (1, "unlearned", "acu")
    assert second.snapshot == 2
    assert yard.get(Dataset, model.dataset_id).head_snapshot == 2
    assert yard.records(model.dataset_id) == {f"r{number}" for number in range(12)} - {"r1", "r2"}
    snapshot = yard.get(Snapshot, (model.dataset_id, 2))
    assert (snapshot.parent, snapshot.origin.value, snapshot.records) == (1, "forgotten", 10)
    assert yard.stored() == yard.recorded()
    [job] = yard.jobs()
    assert (job.state.value, job.parent_version, job.produced_version) == ("completed", 1, 2)
    assert job.outcome["rungs"][0]["method"] == "acu"


def test_requests_that_ask_for_the_same_share_one_job(yard, worker, executor):
    model = yard.model()
    together = [yard.request(model, f"r{number}") for number in range(3)]
    other = yard.request(model, "r7", group_key="1" * 64)

    assert worker.run_until_idle() == 2

    assert [len(task.targets) for task in executor.tasks] == [3, 1]
    assert yard.statuses(*together, other) == ["completed"] * 4
    assert [yard.get(ForgetRequest, request_id).version for request_id in together] == [2, 2, 2]
    assert yard.get(ForgetRequest, other).version == 3


def test_a_bad_target_fails_alone(yard, worker, executor):
    model = yard.model()
    good, bad, also_good = (yard.request(model, f"r{number}") for number in range(3))
    executor.scripts = [lambda task, place: iter([executor.forget(task, place, bad=[str(bad)])])]

    worker.run_until_idle()

    assert yard.statuses(good, bad, also_good) == ["completed", "failed", "completed"]
    assert yard.get(ForgetRequest, bad).reason == "Its records no longer exist."
    assert "r1" in yard.records(model.dataset_id)


def test_a_job_of_bad_targets_alone_publishes_nothing(yard, worker, executor):
    model = yard.model()
    bad = yard.request(model, "r1")
    reasons = {str(bad): "Its records no longer exist."}
    executor.scripts = [lambda task, place: iter([Finished(None, False, reasons, (), (), None)])]

    worker.run_until_idle()

    assert yard.statuses(bad) == ["failed"]
    assert yard.get(Model, model.id).latest_version == 1
    assert yard.stored() == yard.recorded()


def test_halving_a_failing_group_isolates_the_request_that_makes_it_fail(yard, worker, executor):
    model = yard.model()
    requests = [yard.request(model, f"r{number}") for number in range(8)]
    poison = str(requests[5])

    def fail_with_poison(task, place):
        if any(target.request_id == poison for target in task.targets):
            yield Failure(FailureKind.METHOD, "The method raised ValueError.", traceback_digest="d" * 64)
        else:
            yield executor.forget(task, place)

    executor.scripts = [fail_with_poison]
    worker.run_until_idle()

    assert yard.statuses(*requests) == ["completed"] * 5 + ["failed"] + ["completed"] * 2
    assert "ValueError" in yard.get(ForgetRequest, requests[5]).reason
    assert yard.records(model.dataset_id) == {"r5", "r8", "r9", "r10", "r11"}
    assert yard.jobs()[0].traceback_digest == "d" * 64


@pytest.mark.parametrize("kind", [FailureKind.TIMEOUT, FailureKind.INPUT])
def test_a_timeout_or_a_damaged_parent_fails_the_whole_group_at_once(yard, worker, executor, kind):
    model = yard.model()
    requests = [yard.request(model, f"r{number}") for number in range(3)]
    executor.scripts = [lambda task, place: iter([Failure(kind, "It ran too long.")])]

    assert worker.run_until_idle() == 1

    assert yard.statuses(*requests) == ["failed"] * 3


def test_a_killed_process_is_tried_again_a_few_times_only(yard, worker, executor, settings):
    model = yard.model()
    request_id = yard.request(model, "r1")
    executor.scripts = [lambda task, place: iter([Failure(FailureKind.KILLED, "It was killed.")])]

    assert worker.run_until_idle() == settings.max_attempts

    request = yard.get(ForgetRequest, request_id)
    assert (request.status.value, request.attempts) == ("failed", settings.max_attempts)
    assert [status for status, _ in yard.reasons(request_id)] == [
        *["running", "pending"] * (settings.max_attempts - 1),
        "running",
        "failed",
    ]


def test_a_group_that_kills_its_process_again_and_again_is_halved(yard, worker, executor, settings):
    model = yard.model()
    harmless, deadly = yard.request(model, "r1"), yard.request(model, "r2")

    def die_of_the_deadly(task, place):
        if any(target.request_id == str(deadly) for target in task.targets):
            yield Failure(FailureKind.CRASHED, "It crashed.")
        else:
            yield executor.forget(task, place)

    executor.scripts = [die_of_the_deadly]
    assert worker.run_until_idle() == settings.max_attempts + 1 + settings.max_attempts

    assert yard.statuses(harmless, deadly) == ["completed", "failed"]


def test_one_cancelled_request_of_three_leaves_and_the_others_go_on(yard, worker, executor):
    model = yard.model()
    first, leaving, last = (yard.request(model, f"r{number}") for number in range(3))

    def cancelled_under_way(task, place):
        yard.cancel(leaving)
        while True:
            yield None  # the heartbeat finds out

    executor.scripts = [cancelled_under_way, executor.succeed]
    assert worker.run_until_idle() == 1

    assert yard.statuses(first, leaving, last) == ["completed", "cancelled", "completed"]
    assert [len(task.targets) for task in executor.tasks] == [3, 2]
    assert executor.cancelled == 2
    assert "r1" in yard.records(model.dataset_id)
    [job] = yard.jobs()
    assert job.state.value == "completed"


def test_cancelling_the_only_request_ends_the_job_once_its_process_is_gone(yard, worker, executor):
    model = yard.model()
    request_id = yard.request(model, "r1")

    def cancelled_under_way(task, place):
        yard.cancel(request_id)
        while True:
            yield None

    executor.scripts = [cancelled_under_way]
    worker.run_until_idle()

    assert yard.statuses(request_id) == ["cancelled"]
    assert [job.state.value for job in yard.jobs()] == ["cancelled"]
    assert executor.cancelled == 1
    assert yard.stored() == yard.recorded()


def test_a_cancellation_wins_over_a_result_that_is_not_yet_published(yard, worker, executor):
    model = yard.model()
    request_id = yard.request(model, "r1")

    def cancelled_at_the_end(task, place):
        finished = executor.forget(task, place)
        yard.cancel(request_id)
        yield finished

    executor.scripts = [cancelled_at_the_end]
    worker.run_until_idle()

    assert yard.statuses(request_id) == ["cancelled"]
    assert yard.get(Model, model.id).latest_version == 1
    assert yard.stored() == yard.recorded()


def test_a_job_that_runs_too_long_is_killed_and_fails(yard, runtime, executor):
    slow = replace(runtime, settings=runtime.settings.model_copy(update={"job_timeout_seconds": 0.05}))
    model = yard.model()
    request_id = yard.request(model, "r1")
    executor.scripts = [lambda task, place: repeat(None)]

    Worker(slow, executor, threading.Event()).run_until_idle()

    assert yard.statuses(request_id) == ["failed"]
    assert "longer than 0.05 seconds" in yard.get(ForgetRequest, request_id).reason
    assert executor.cancelled == 1


def test_a_fault_of_the_service_costs_its_job_and_not_the_worker(yard, worker, executor, settings):
    model = yard.model()
    unlucky = yard.request(model, "r1")
    lucky = yard.request(yard.model("other", model.dataset_id), "r2")

    def impossible(task, place):
        if task.targets[0].request_id == str(unlucky):
            raise RuntimeError("a bug")
        yield executor.forget(task, place)

    executor.scripts = [impossible]
    worker.run_until_idle()

    assert yard.statuses(unlucky, lucky) == ["failed", "completed"]
    assert yard.get(ForgetRequest, unlucky).attempts == settings.max_attempts


def test_a_worker_waits_for_a_database_that_is_away(yard, runtime, executor):
    request_id = yard.request(yard.model(), "r1")
    stop = threading.Event()
    faults = iter([True, True])

    class Away:
        def __getattr__(self, name):
            return getattr(runtime.database, name)

        def read(self):
            if next(faults, False):
                raise OperationalError("BEGIN", {}, OSError("connection refused"))
            return runtime.database.read()

    def finish_and_stop(task, place):
        stop.set()  # a result that is there already is still published
        yield executor.forget(task, place)

    executor.scripts = [finish_and_stop]
    Worker(replace(runtime, database=Away()), executor, stop).run()

    assert yard.statuses(request_id) == ["completed"]


def test_a_stopped_worker_gives_its_job_back_at_once(yard, runtime, executor):
    model = yard.model()
    request_id = yard.request(model, "r1")
    stop = threading.Event()

    def stopped_under_way(task, place):
        stop.set()
        yield None

    executor.scripts = [stopped_under_way]
    Worker(runtime, executor, stop).run()

    request = yard.get(ForgetRequest, request_id)
    assert (request.status.value, request.attempts) == ("pending", 0)
    assert executor.cancelled == 1
    assert [job.state.value for job in yard.jobs()] == ["abandoned"]


def test_a_model_that_got_a_newer_version_meanwhile_is_tried_on_that_one(yard, worker, executor):
    model = yard.model()
    request_id = yard.request(model, "r1")

    def overtaken(task, place):
        finished = executor.forget(task, place)
        yard.overtake(model)
        yield finished

    executor.scripts = [overtaken, executor.succeed]
    worker.run_until_idle()

    assert yard.get(ForgetRequest, request_id).version == 3
    assert [task.parent.number for task in executor.tasks] == [1, 2]
    assert yard.get(Version, (model.id, 2)).state.value == "quarantined"
    assert yard.stored() == yard.recorded()


def test_progress_and_rungs_become_events_of_the_job(yard, worker, executor):
    model = yard.model()
    yard.request(model, "r1")

    def talkative(task, place):
        yield Progress("solving the head", 2, 3, 0.5)
        yield executor.forget(task, place)

    executor.scripts = [talkative]
    worker.run_until_idle()

    [job] = yard.jobs()
    assert job.progress == {"stage": "solving the head", "step": 2, "of": 3, "seconds_left": 0.5}
    events = [(event.type, event.reason) for event in yard.events_of_job(job.id)]
    assert events == [
        ("progress", "solving the head: 2 of 3"),
        ("rung", "acu: All checks passed."),
        ("status", "Version 2 was published."),
    ]


def test_an_update_job_publishes_without_quarantine(yard, worker, executor):
    model = yard.model()
    yard.grow(model.dataset_id, ["r90", "r91"])
    job_id = yard.update(model)

    worker.run_until_idle()

    version = yard.get(Version, (model.id, 2))
    assert (version.origin.value, version.snapshot, version.parent) == ("updated", 2, 1)
    assert yard.get(Version, (model.id, 1)).state.value == "published"
    assert yard.get(Job, job_id).state.value == "completed"
    assert yard.get(Dataset, model.dataset_id).head_snapshot == 2


def test_an_update_job_whose_process_dies_is_queued_again_a_few_times_only(yard, worker, executor, settings):
    model = yard.model()
    job_id = yard.update(model)
    executor.scripts = [lambda task, place: iter([Failure(FailureKind.KILLED, "It was killed.")])]

    assert worker.run_until_idle() == settings.max_attempts

    job = yard.get(Job, job_id)
    assert (job.state.value, job.attempts) == ("failed", settings.max_attempts)


def test_an_update_with_nothing_to_learn_completes_without_a_version(yard, worker, executor):
    model = yard.model()
    job_id = yard.update(model)
    executor.scripts = [lambda task, place: iter([Finished(None, True, {}, (), (), None)])]

    worker.run_until_idle()

    job = yard.get(Job, job_id)
    assert (job.state.value, job.produced_version) == ("completed", None)


def test_the_oldest_work_of_all_models_comes_first(yard, worker, executor):
    cats, dogs = yard.model("cats"), yard.model("dogs")
    yard.request(cats, "r1")
    yard.update(dogs)
    yard.request(dogs, "r2")

    worker.run_until_idle()

    assert [(task.kind.value, len(task.targets)) for task in executor.tasks] == [
        ("unlearn", 1),
        ("update", 0),
        ("unlearn", 1),
    ]


def test_a_thousand_requests_are_served_by_one_job_in_few_statements(yard, worker, executor):
    ids = [f"r{number}" for number in range(1005)]
    model = yard.model(dataset_id=yard.dataset(ids))
    yard.requests(model, ids[:1000])

    began = time.monotonic()
    assert worker.run_until_idle() == 1
    seconds = time.monotonic() - began

    assert yard.count(RequestStatus.COMPLETED) == 1000
    assert seconds < 5
