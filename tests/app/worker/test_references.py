"""References: kept whatever becomes of the job, used by later ones, out of the way of everything else."""

import datetime as dt
import json
import uuid

import pytest
from sqlalchemy import select

from app.policies.effective import effective_policy
from app.tables import ApiKey, AuditRun, Job, Model, PolicyChange, TrainedReference
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.worker.reference_rows import digest_of_ids
from app.worker.task import Failure, FailureKind, Finished, ReferenceDamaged, ReferenceStaged
from models.checkpoint import write_manifest

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
DONE = Finished(None, True, {}, (), (), None)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def queue(runtime):
    """Queue a job that only reads."""

    def queue(model, kind=JobKind.REFERENCE, **fields):
        job = Job(
            **{
                "id": new_id(),
                "model_id": model.id,
                "kind": kind,
                "state": JobState.QUEUED,
                "attempts": 0,
                "created_at": NOW,
                **fields,
            }
        )
        with runtime.database.write() as session:
            session.add(job)
        return job.id

    return queue


@pytest.fixture
def rows(runtime):
    def rows():
        with runtime.database.read() as session:
            return session.scalars(select(TrainedReference).order_by(TrainedReference.seed)).all()

    return rows


def stage(task, workplace, seed=7_000_000, data="d" * 64, left_out=("r1",)):
    """Do what a job does when it has trained a reference."""
    name = uuid.uuid4().hex
    directory = workplace.staging / "references" / name
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"seed": seed}))
    manifest = write_manifest(directory)
    return ReferenceStaged(
        part=f"references/{name}",
        location=f"{task.reference_root}/{name}",
        data=data,
        recipe="e" * 64,
        seed=seed,
        digest=manifest.digest,
        size=manifest.size,
        seconds=2.0,
        left_out=digest_of_ids(left_out) if left_out is not None else None,
    )


def test_a_reference_is_kept_though_its_job_fails(yard, worker, executor, rows):
    model = yard.model()
    yard.request(model, "r1")

    def fail(task, place):
        yield stage(task, place)
        yield Failure(FailureKind.METHOD, "Nothing passed.")

    executor.scripts = [fail]
    worker.run_until_idle()

    [row] = rows()
    assert (row.purpose.value, row.version, row.snapshot, row.seconds) == ("retrained", 1, 1, 2.0)
    assert (row.model_id, row.dataset_id, row.superseded_at) == (model.id, model.dataset_id, None)
    assert yard.stored() == yard.recorded()


def test_later_jobs_are_told_of_it(yard, worker, executor, rows):
    model, other = yard.model(), yard.model("other")
    yard.request(model, "r1")
    executor.scripts = [
        lambda task, place: iter([stage(task, place), Failure(FailureKind.METHOD, "Nothing passed.")]),
        executor.succeed,
    ]
    worker.run_until_idle()
    yard.request(model, "r1")
    yard.request(other, "r1")
    worker.run_until_idle()

    [row] = rows()
    first, second, elsewhere = executor.tasks
    assert (first.references, elsewhere.references) == ((), ())
    [known] = second.references
    assert (known.id, known.location, known.digest) == (str(row.id), row.location, row.digest)


def test_forgetting_supersedes_what_may_hold_the_forgotten_and_spares_what_never_did(
    yard, worker, executor, rows
):
    model = yard.model()
    yard.request(model, "r1")

    def train_then_publish(task, place):
        yield stage(task, place, seed=7_000_000, left_out=["r1"])
        yield stage(task, place, seed=7_000_001, left_out=["r2"])
        yield stage(task, place, seed=8_000_000, left_out=None)
        yield executor.forget(task, place)

    executor.scripts = [
        lambda task, place: iter(
            [stage(task, place, left_out=["r5"], data="c" * 64), Failure(FailureKind.KILLED, "")]
        ),
        train_then_publish,
    ]
    worker.run_until_idle()

    states = {(row.seed, row.data_digest[0]): row.superseded_at is not None for row in rows()}
    assert states == {
        (7_000_000, "c"): True,
        (7_000_000, "d"): False,
        (
            7_000_001,
            "d",
        ): False,  # left out by this very job: some of its requests may have been cancelled since
        (8_000_000, "d"): True,
    }
    yard.request(model, "r3")
    worker.run_until_idle()
    assert {known.seed for known in executor.tasks[-1].references} == {7_000_000, 7_000_001}


def test_two_jobs_that_train_the_same_keep_one(yard, worker, executor, rows, queue):
    model = yard.model()
    queue(model)
    executor.scripts = [lambda task, place: iter([stage(task, place), stage(task, place), DONE])]
    worker.run_until_idle()
    assert len(rows()) == 1
    assert yard.stored() == yard.recorded()


def test_a_damaged_reference_is_destroyed_and_can_be_trained_anew(yard, worker, executor, rows, queue):
    model = yard.model()
    queue(model)
    executor.scripts = [lambda task, place: iter([stage(task, place), DONE])]
    worker.run_until_idle()
    queue(model)

    def find_it_damaged(task, place):
        yield ReferenceDamaged(task.references[0].id)
        yield stage(task, place)
        yield DONE

    executor.scripts = [find_it_damaged]
    worker.run_until_idle()

    assert sorted(row.destroyed_at is None for row in rows()) == [False, True]
    assert yard.stored() == yard.recorded()


def test_references_are_trained_last_and_give_way(yard, worker, executor, rows, queue):
    model, other = yard.model(), yard.model("other")
    job = queue(model, created_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    requests = [yard.request(model, "r1")]

    def train(task, place):
        if task.references:
            yield DONE
            return
        yield stage(task, place, left_out=None, seed=8_000_000)
        requests.append(yard.request(other, "r2"))
        while True:  # until it must give way
            yield None

    executor.scripts = [
        lambda task, place: (
            train(task, place) if task.kind is JobKind.REFERENCE else executor.succeed(task, place)
        )
    ]
    assert worker.run_until_idle() == 4

    assert [task.kind.value for task in executor.tasks] == ["unlearn", "reference", "unlearn", "reference"]
    assert yard.statuses(*requests) == ["completed", "completed"]
    assert yard.get(Job, job).state.value == "completed"
    assert len(rows()) == 1, "what was trained before giving way is gone"
    assert any("gave way" in event.reason for event in yard.events_of_job(job))


@on_sqlite
def test_a_job_that_ended_holds_no_ids_of_what_it_was_asked(yard, worker, executor, queue):
    model = yard.model()
    job = queue(model, asked={"target": {"kind": "records", "ids": ["r1"]}})
    executor.scripts = [lambda task, place: iter([DONE])]
    worker.run_until_idle()
    assert [target.target["ids"] for target in executor.tasks[0].targets] == [["r1"]]
    assert (yard.get(Job, job).state.value, yard.get(Job, job).asked) == ("completed", {"target": None})


@pytest.fixture
def audit(runtime, queue, make_key):
    """Queue an audit of a model's version 1 against itself."""
    make_key()

    def audit(model, ids=("r1",)):
        job_id = queue(model, JobKind.AUDIT)
        with runtime.database.write() as session:
            session.add(
                AuditRun(
                    id=new_id(),
                    model_id=model.id,
                    api_key_id=session.scalars(select(ApiKey.id)).first(),
                    job_id=job_id,
                    parent_version=1,
                    candidate_version=1,
                    target={"kind": "records", "ids": list(ids)},
                    target_kind="records",
                    target_count=len(ids),
                    created_at=NOW,
                )
            )
        return job_id

    return audit


def test_a_reference_to_a_withdrawn_version_stays_if_it_learned_nothing_forgotten(
    yard, worker, executor, rows, audit
):
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    inconclusive = Finished(None, True, {}, (), (), None, audit={"verdict": "inconclusive"})

    def train(task, place):
        [target] = task.targets
        ids = target.target["ids"]
        yield stage(task, place, left_out=ids, data=ids[0][-1] * 64)
        yield stage(task, place, left_out=None, seed=8_000_000, data=ids[0][-1] * 64)
        yield inconclusive

    executor.scripts = [train]
    audit(model, ["r1"])
    audit(model, ["r2"])
    worker.run_until_idle()

    kept = {(row.data_digest[0], row.purpose.value): row.superseded_at is None for row in rows()}
    assert kept == {
        ("1", "retrained"): True,
        ("2", "retrained"): False,  # it knows r1, which was forgotten
        ("1", "shadow"): False,
        ("2", "shadow"): False,
    }


def test_an_audit_whose_process_dies_is_tried_again_a_few_times_only(yard, worker, executor, audit, settings):
    job = audit(yard.model())
    executor.scripts = [lambda task, place: iter([Failure(FailureKind.KILLED, "It was killed.")])]
    assert worker.run_until_idle() == settings.max_attempts
    assert yard.get(Job, job).state.value == "failed"
    with yard.runtime.database.read() as session:
        assert session.scalars(select(AuditRun.target)).one() is None


@on_sqlite
def test_an_audit_that_is_cancelled_under_way_ends_without_a_result(yard, worker, executor, audit):
    job = audit(yard.model())

    def cancelled(task, place):
        with yard.runtime.database.write() as session:
            session.get_one(Job, job).state = JobState.CANCELLING
        yield Finished(None, True, {}, (), (), None, audit={"verdict": "pass"})

    executor.scripts = [cancelled]
    worker.run_until_idle()
    assert yard.get(Job, job).state.value == "cancelled"
    with yard.runtime.database.read() as session:
        assert session.scalars(select(AuditRun.result)).one() is None


@on_sqlite
def test_what_a_model_s_policy_says_reaches_the_job_and_stays_with_it(
    yard, worker, executor, runtime, make_key
):
    make_key()
    model = yard.model()
    with runtime.database.write() as session:
        key = session.scalars(select(ApiKey.id)).first()
        session.add(PolicyChange(model_id=model.id, fields={"max_rungs": 1}, api_key_id=key, created_at=NOW))
    yard.request(model, "r1")
    executor.scripts = [
        lambda task, place: iter(
            [Failure(FailureKind.METHOD, "None.", skipped=({"method": "scrub", "reason": "One is enough."},))]
        )
    ]
    worker.run_until_idle()

    [job] = yard.jobs()
    assert executor.tasks[0].policy["max_rungs"] == 1
    assert job.policy == executor.tasks[0].policy
    assert job.outcome["skipped"] == [{"method": "scrub", "reason": "One is enough."}]
    with runtime.database.read() as session:
        policy = effective_policy(session, runtime.settings, session.get_one(Model, model.id)).policy
    assert policy.max_rungs == 1
