"""Claims and leases: never two workers on one model, and never for longer than the database's clock allows."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import app.worker.claims as claims_module
from app.database import database_now
from app.tables import ForgetRequest, Job, Model
from app.worker.claims import claim, work_waits
from app.worker.heartbeat import Heartbeat
from app.worker.leases import Lease, LeaseLostError, cancel_requested, hold, renew
from app.worker.settlement import reap, release
from app.worker.worker import Worker

WORKERS = 4


@pytest.fixture
def claim_one(runtime):
    def claim_one():
        return claim(runtime.database, runtime.settings, "test")

    return claim_one


def test_workers_that_claim_at_once_never_share_a_model(yard, claim_one):
    dataset_id = yard.dataset()
    models = [yard.model(f"model-{number}", dataset_id) for number in range(6)]
    for model in models:
        for number in range(3):
            yard.request(model, f"r{number}")
    barrier = threading.Barrier(WORKERS)

    def claim_all():
        barrier.wait()
        claims = []
        while (assignment := claim_one()) is not None:
            claims.append(assignment)
        return claims

    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(claim_all) for _ in range(WORKERS)]
        claims = [assignment for future in futures for assignment in future.result()]
    # A worker may have stepped over a model that another one was just looking at: what is left comes next.
    while (assignment := claim_one()) is not None:
        claims.append(assignment)

    assert sorted(assignment.model_name for assignment in claims) == [model.name for model in models]
    requests = [request_id for assignment in claims for request_id in assignment.request_ids]
    assert len(requests) == len(set(requests)) == 18


def test_one_model_is_claimed_once_however_many_try(yard, claim_one):
    model = yard.model()
    for number in range(6):
        yard.request(model, f"r{number}", group_key=f"{number}" * 64)
    barrier = threading.Barrier(WORKERS)

    def claim_at_once():
        barrier.wait()
        return claim_one()

    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(claim_at_once) for _ in range(WORKERS)]
        claims = [future.result() for future in futures]

    assert sum(assignment is not None for assignment in claims) == 1
    assert claim_one() is None


def test_a_job_begins_after_the_end_of_the_one_that_it_waited_for(yard, claim_one, runtime, monkeypatch):
    yard.request(yard.model(), "r1")
    first = claim_one()
    look = claims_module._next_audit

    def look_after_the_end_of_the_first(session):
        release(runtime.database, first, "It is given back.")
        return look(session)

    monkeypatch.setattr(claims_module, "_next_audit", look_after_the_end_of_the_first)
    second = claim_one()

    with runtime.database.read() as session:
        ended = session.get_one(Job, first.lease.job_id).finished_at
        assert session.get_one(Job, second.lease.job_id).started_at >= ended


def test_a_claim_takes_the_oldest_first_and_no_more_than_the_limit(yard, runtime):
    model = yard.model()
    requests = [yard.request(model, f"r{number}") for number in range(5)]

    assignment = claim(runtime.database, runtime.settings.model_copy(update={"max_coalesced": 3}), "test")

    assert assignment.request_ids == tuple(requests[:3])
    assert yard.statuses(*requests) == ["running"] * 3 + ["pending"] * 2


def test_halves_of_a_failed_group_coalesce_only_with_themselves(yard, claim_one):
    model = yard.model()
    left = [yard.request(model, f"r{number}", split="0") for number in range(2)]
    yard.request(model, "r2", split="1")
    yard.request(model, "r3")

    assert claim_one().request_ids == tuple(left)


def test_a_group_that_names_something_else_waits_for_the_model(yard, claim_one, runtime):
    model = yard.model()
    yard.request(model, "r1")
    yard.request(model, "r2", group_key="1" * 64)

    claim_one()

    with runtime.database.read() as session:
        assert not work_waits(session)
    assert claim_one() is None


def test_there_is_nothing_to_claim_without_waiting_work(yard, claim_one, runtime):
    yard.model()

    with runtime.database.read() as session:
        assert not work_waits(session)
    assert claim_one() is None


def test_a_lease_can_be_renewed_until_it_runs_out(yard, claim_one, runtime):
    yard.request(yard.model(), "r1")
    lease = claim_one().lease
    before = yard.get(Job, lease.job_id).lease_expires_at

    with runtime.database.write() as session:
        renew(session, lease, 60)
    assert yard.get(Job, lease.job_id).lease_expires_at > before

    yard.expire(lease.job_id)
    with pytest.raises(LeaseLostError), runtime.database.write() as session:
        renew(session, lease, 60)
    with pytest.raises(LeaseLostError), runtime.database.write() as session:
        hold(session, lease)


def test_a_lease_is_fenced_by_its_token(yard, claim_one, runtime):
    yard.request(yard.model(), "r1")
    stranger = Lease(claim_one().lease.job_id, yard.model("other").id)

    with pytest.raises(LeaseLostError), runtime.database.write() as session:
        hold(session, stranger)


def test_a_cancelled_request_is_seen_until_it_has_left(yard, claim_one, runtime):
    request_id = yard.request(yard.model(), "r1")
    lease = claim_one().lease
    with runtime.database.read() as session:
        assert not cancel_requested(session, lease)

    yard.cancel(request_id)

    with runtime.database.read() as session:
        assert cancel_requested(session, lease)


def test_the_heartbeat_keeps_a_lease_alive(yard, runtime):
    short = replace(runtime, settings=runtime.settings.model_copy(update={"lease_seconds": 1.0}))
    yard.request(yard.model(), "r1")
    lease = claim(runtime.database, short.settings, "test").lease

    with Heartbeat(runtime.database, lease, 1.0) as heartbeat:
        first = yard.get(Job, lease.job_id).lease_expires_at
        now = first
        while now <= first + dt.timedelta(seconds=0.3):  # beyond what the claim alone would have lasted
            assert not heartbeat.lost.wait(0.05)
            with runtime.database.read() as session:
                now = database_now(session)
                hold(session, lease)
        assert not heartbeat.lost.is_set()


def test_the_heartbeat_tells_that_a_lease_is_lost(yard, claim_one, runtime):
    yard.request(yard.model(), "r1")
    lease = claim_one().lease

    with Heartbeat(runtime.database, lease, 0.3) as heartbeat:
        yard.expire(lease.job_id)
        assert heartbeat.lost.wait(5)


def test_the_heartbeat_tells_that_a_request_was_cancelled(yard, claim_one, runtime):
    request_id = yard.request(yard.model(), "r1")
    lease = claim_one().lease

    with Heartbeat(runtime.database, lease, 30) as heartbeat:
        yard.cancel(request_id)
        assert heartbeat.cancelled.wait(5)


def test_an_expired_job_is_taken_over_and_counts_as_an_attempt(yard, claim_one, runtime):
    request_id = yard.request(yard.model(), "r1")
    first = claim_one()
    yard.expire(first.lease.job_id)

    assert reap(runtime.database, runtime.settings) == [first.lease.token.hex]
    second = claim_one()

    assert second.request_ids == (request_id,)
    assert second.lease.job_id != first.lease.job_id
    assert yard.get(ForgetRequest, request_id).attempts == 1
    assert yard.get(Job, first.lease.job_id).state.value == "abandoned"


def test_a_job_that_is_held_is_not_reaped(yard, claim_one, runtime):
    yard.request(yard.model(), "r1")
    claim_one()

    assert reap(runtime.database, runtime.settings) == []


def test_a_cancelled_request_of_a_dead_worker_is_cancelled(yard, claim_one, runtime):
    model = yard.model()
    leaving, staying = yard.request(model, "r1"), yard.request(model, "r2")
    lease = claim_one().lease
    yard.cancel(leaving)
    yard.expire(lease.job_id)

    reap(runtime.database, runtime.settings)

    assert yard.statuses(leaving, staying) == ["cancelled", "pending"]


def test_attempts_are_capped_when_workers_keep_dying(yard, claim_one, runtime, settings):
    request_id = yard.request(yard.model(), "r1")
    for _ in range(settings.max_attempts):
        yard.expire(claim_one().lease.job_id)
        reap(runtime.database, runtime.settings)

    assert yard.statuses(request_id) == ["failed"]
    assert claim_one() is None


def test_a_dead_workers_update_is_queued_again_unless_a_later_one_waits(yard, claim_one, runtime):
    model = yard.model()
    first = yard.update(model)
    claim_one()
    yard.expire(first)
    reap(runtime.database, runtime.settings)
    assert yard.get(Job, first).state.value == "queued"

    claim_one()
    second = yard.update(model)
    yard.expire(first)
    reap(runtime.database, runtime.settings)
    assert yard.get(Job, first).state.value == "abandoned"
    assert yard.get(Job, second).state.value == "queued"


def test_a_stale_workers_result_is_refused_and_its_files_removed(yard, runtime, executor):
    model = yard.model()
    request_id = yard.request(model, "r1")
    successor = Worker(runtime, executor, threading.Event())

    def lose_the_lease_at_the_end(task, place):
        finished = executor.forget(task, place)
        [job] = yard.jobs()
        yard.expire(job.id)
        executor.scripts = [executor.succeed]
        assert successor.run_until_idle() == 1
        yield finished

    executor.scripts = [lose_the_lease_at_the_end]
    Worker(runtime, executor, threading.Event()).run_until_idle()

    assert yard.get(ForgetRequest, request_id).version == 2
    assert yard.get(Model, model.id).latest_version == 2
    assert [job.state.value for job in yard.jobs()] == ["abandoned", "completed"]
    assert yard.stored() == yard.recorded()


def test_a_dead_workers_staging_directory_is_removed_by_its_successor(yard, runtime, claim_one, worker):
    yard.request(yard.model(), "r1")
    lease = claim_one().lease
    left_over = runtime.storage.materialise(".staging") / lease.token.hex
    left_over.mkdir(parents=True)
    yard.expire(lease.job_id)

    worker.run_until_idle()

    assert not left_over.exists()
