"""Requests, jobs and versions, driven through the real service at random beside a plain model of what must become of them.

A rule of the machine is one thing that a client, a worker or death can do. Workers are played step by step: a claim,
and then one of the ends that a job can come to, with other things happening in between.
"""

import json
import threading
import uuid
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from app.forget_requests.states import TRANSITIONS
from app.tables import Event, ForgetRequest, Job, Model, Version
from app.tables.forget_request import RequestStatus
from app.tables.job import JobState
from app.worker.claims import Assignment, claim, resume
from app.worker.leases import CancelledMeanwhileError, LeaseLostError
from app.worker.left_candidates import discard_left_candidates
from app.worker.publication import ParentMovedError, keep_for_review, publish
from app.worker.settlement import (
    reap,
    release,
    settle_bad_targets,
    settle_cancellation,
    settle_failure,
)
from app.worker.task import Failure, FailureKind, Finished

CONFIG = {
    "family": "classifier",
    "architecture": "analytic",
    "format": 1,
    "classes": ["cat", "dog"],
    "input_width": 4,
    "feature_dim": 8,
    "gamma": 0.1,
    "seed": 0,
    "input_range": 1.0,
    "input_bits": 8,
    "weight_bits": 8,
    "feature_bits": 8,
    "feature_bound": 16.0,
    "max_records": 1024,
}
RECORDS = [f"r{number}" for number in range(12)]
OPEN = {"pending", "running", "needs_review", "failed"}


@dataclass
class PlainRequest:
    """What the machine believes of a request."""

    id: str
    model: str
    records: frozenset[str]
    status: str = "pending"
    split: str = ""
    attempts: int = 0
    cancel_asked: bool = False
    extended: bool = False


@dataclass
class PlainModel:
    """What the machine believes of a model."""

    name: str
    learned: set[str]
    at: int = 1
    """Which state of the data it has learned; states are numbered as they come about."""
    versions: list[str] = field(default_factory=lambda: ["published"])


@dataclass
class Review:
    """A candidate that waits for a person."""

    model: str
    parent: int
    served: list[PlainRequest]
    broken: bool = False
    """One of its requests has left it."""


@dataclass
class Run:
    """A job in a worker's hands."""

    assignment: Assignment
    model: str
    served: list[PlainRequest]
    parent: int
    learned: set[str]
    head: set[str]
    head_at: int
    dead: bool = False
    """Its lease has run out."""
    reaped: bool = False
    """Somebody has noticed."""


class Machine(RuleBasedStateMachine):
    """One dataset, two models, any number of workers."""

    yard = client = headers = executor = runtime = None

    def __init__(self):
        super().__init__()
        self.dataset = self.yard.dataset(RECORDS)
        self.ids = {}
        for _ in range(2):
            model = self.yard.model(
                f"pets-{uuid.uuid4().hex}",
                self.dataset,
                lambda out: (out / "config.json").write_text(json.dumps(CONFIG)),
            )
            self.ids[model.name] = model.id
        self.models = {name: PlainModel(name, set(RECORDS)) for name in self.ids}
        self.head, self.head_at, self.states = set(RECORDS), 1, 1
        self.requests: list[PlainRequest] = []
        self.updates: set[str] = set()
        self.runs: list[Run] = []
        self.reviews: list[Review] = []

    # What clients do.

    @rule(data=st.data(), model=st.integers(0, 1), count=st.integers(1, 2))
    def submit(self, data, model, count):
        plain = list(self.models.values())[model]
        records = frozenset(data.draw(st.permutations(RECORDS))[:count])
        body = {"model": plain.name, "target": {"kind": "records", "ids": sorted(records)}}
        response = self.post("/v1/forget-requests", body)
        if records <= plain.learned | self.head:
            assert response.status_code == 202, response.text
            self.requests.append(PlainRequest(response.json()["id"], plain.name, records))
        else:
            assert response.status_code == 422, response.text

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data):
        request = self.any_request(data)
        status = self.post(f"/v1/forget-requests/{request.id}/cancel").status_code
        if request.status == "running":
            request.cancel_asked = True
            assert status == 202
        elif request.status in {"pending", "needs_review"}:
            self.move(request, "cancelled")
            assert status == 200
        else:
            assert status == 409

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def refuse(self, data):
        request = self.any_request(data)
        body = {"ground": "unfounded", "reason": "It is not theirs."}
        status = self.post(f"/v1/forget-requests/{request.id}/refuse", body).status_code
        if request.status in {"pending", "needs_review"}:
            self.move(request, "refused")
            assert status == 200
        else:
            assert status == 409

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def extend(self, data):
        request = self.any_request(data)
        status = self.post(
            f"/v1/forget-requests/{request.id}/extend", {"reason": "There are many."}
        ).status_code
        assert status == (200 if request.status in OPEN and not request.extended else 409)
        request.extended = request.extended or status == 200

    @precondition(lambda self: any(request.status in {"failed", "needs_review"} for request in self.requests))
    @rule(data=st.data())
    def retry(self, data):
        request = self.any_request(data)
        response = self.post(f"/v1/forget-requests/{request.id}/retry", {})
        if request.status not in {"failed", "needs_review"}:
            assert response.status_code == 409
        elif request.records <= self.models[request.model].learned | self.head:
            assert response.status_code == 202, response.text
            self.move(request, "pending")
            request.split, request.attempts, request.cancel_asked = "", 0, False
        else:
            assert response.status_code == 422, response.text

    @precondition(lambda self: any(request.status == "needs_review" for request in self.requests))
    @rule(data=st.data())
    def review(self, data):
        request = self.any_request(data)
        body = {"decision": "accept", "reason": "It is good enough."}
        status = self.post(f"/v1/forget-requests/{request.id}/review", body).status_code
        review = next((one for one in self.reviews if request in one.served), None)
        if request.status != "needs_review" or review is None or not self.acceptable(review):
            assert status == 409
            return
        assert status == 200
        self.reviews.remove(review)
        self.enter(review.model, review.served)

    @precondition(lambda self: any("quarantined" in model.versions for model in self.models.values()))
    @rule(data=st.data())
    def destroy(self, data):
        model = data.draw(st.sampled_from(list(self.models.values())))
        number = data.draw(st.integers(1, len(model.versions)))
        path = f"/v1/models/{model.name}/versions/{number}/destroy"
        status = self.post(path, {"reason": "The person insists."}).status_code
        state = model.versions[number - 1]
        read = {(run.model, run.parent) for run in self.runs if not run.reaped}
        in_use = (model.name, number) in read
        assert status == {"quarantined": 409 if in_use else 200, "published": 409, "destroyed": 410}[state]
        if status == 200:
            model.versions[number - 1] = "destroyed"

    @rule(model=st.integers(0, 1))
    def ask_for_update(self, model):
        plain = list(self.models.values())[model]
        response = self.post(f"/v1/models/{plain.name}/updates", None)
        if plain.name not in self.updates and plain.at == self.head_at:
            assert response.status_code == 409, response.text
            return
        assert response.status_code == 202, response.text
        self.updates.add(plain.name)

    # What workers do.

    @rule()
    def claim(self):
        discard_left_candidates(self.runtime)
        busy = {run.model for run in self.runs if not run.reaped}
        pending = [request for request in self.requests if request.status == "pending"]
        assignment = claim(self.runtime.database, self.runtime.settings, "test")
        if assignment is None:
            assert not ({request.model for request in pending} | self.updates) - busy
            return
        name = assignment.model_name
        assert name not in busy
        served = [self.known(request_id) for request_id in assignment.request_ids]
        if served:
            oldest = next(request for request in pending if request.model == name)
            assert served == [
                request for request in pending if (request.model, request.split) == (name, oldest.split)
            ]
        else:
            self.updates.remove(name)
        for request in served:
            self.move(request, "running")
        self.runs.append(self.run_of(assignment, served))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), passed=st.sampled_from([True, True, True, False]))
    def finish(self, data, passed):
        """A job comes to its end, and its worker publishes it or hands it over; a late one has no say."""
        run = data.draw(st.sampled_from(self.runs))
        bad = [request for request in run.served if not request.records <= run.learned | run.head]
        good = [request for request in run.served if request not in bad]
        with self.runtime.storage.staging() as staging:
            finished = self.work(run, staging, passed or not run.served, bad)
            if not self.settled(run, lambda: self.conclude(run, finished, staging)):
                return
        self.runs.remove(run)
        for request in bad:
            self.move(request, "failed")
        if finished.candidate is None:
            return
        if not run.served:
            model = self.models[run.model]
            model.learned, model.at = set(run.head), run.head_at
            model.versions.append("published")
        elif finished.passed:
            self.enter(run.model, good)
        else:
            for request in good:
                self.move(request, "needs_review")
            self.reviews.append(Review(run.model, run.parent, good))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), kind=st.sampled_from([FailureKind.METHOD, FailureKind.KILLED, FailureKind.TIMEOUT]))
    def fail(self, data, kind):
        run = data.draw(st.sampled_from(self.runs))
        failure = Failure(kind, "It did not work.")
        database, limits = self.runtime.database, self.runtime.settings
        if self.settled(run, lambda: settle_failure(database, run.assignment, failure, limits)):
            self.runs.remove(run)
            self.end(run, kind)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def give_back(self, data):
        run = data.draw(st.sampled_from(self.runs))
        if self.settled(run, lambda: release(self.runtime.database, run.assignment, "It was stopped.")):
            self.runs.remove(run)
            self.end(run, None)

    @precondition(lambda self: self.cancelling())
    @rule(data=st.data())
    def notice_cancellation(self, data):
        """A worker has killed its job's process; what nobody cancelled begins anew, in the same job."""
        run = data.draw(st.sampled_from(self.cancelling()))
        database, lease = self.runtime.database, run.assignment.lease
        left = []
        if self.settled(run, lambda: left.append(settle_cancellation(database, run.assignment))):
            served = self.without_cancelled(run)
            assert left == [bool(served)]
            self.runs.remove(run)
            if served:
                self.runs.append(self.run_of(resume(database, self.runtime.settings, lease), served))

    @precondition(lambda self: any(not run.dead for run in self.runs))
    @rule(data=st.data())
    def die(self, data):
        run = data.draw(st.sampled_from([run for run in self.runs if not run.dead]))
        run.dead = True
        self.yard.expire(run.assignment.lease.job_id)

    @precondition(lambda self: any(run.dead and not run.reaped for run in self.runs))
    @rule()
    def take_over(self):
        dead = [run for run in self.runs if run.dead and not run.reaped]
        assert len(reap(self.runtime.database, self.runtime.settings)) == len(dead)
        for run in dead:
            run.reaped = True
            self.end(run, FailureKind.KILLED)

    # What must hold.

    @invariant()
    def statuses_agree(self):
        with self.runtime.database.read() as session:
            found = dict(session.execute(select(ForgetRequest.id, ForgetRequest.status)).all())
        assert {one.id: one.status for one in self.requests} == {
            one.id: found[uuid.UUID(one.id)].value for one in self.requests
        }

    @invariant()
    def versions_agree(self):
        with self.runtime.database.read() as session:
            rows = session.execute(
                select(Version.model_id, Version.number, Version.state).order_by(Version.number)
            ).all()
        for model in self.models.values():
            states = [row.state.value for row in rows if row.model_id == self.ids[model.name]]
            assert states == model.versions

    @invariant()
    def one_job_a_model_is_active(self):
        with self.runtime.database.read() as session:
            active = session.scalars(
                select(Job.model_id).where(
                    Job.state.in_([JobState.RUNNING, JobState.CANCELLING]),
                    Job.model_id.in_(list(self.ids.values())),
                )
            ).all()
        assert sorted(map(str, active)) == sorted(
            str(self.ids[run.model]) for run in self.runs if not run.reaped
        )

    def teardown(self):
        """Compare what is left to compare, then leave nothing behind that another example's worker would claim."""
        assert self.yard.records(self.dataset) == self.head
        for model in self.models.values():
            row = self.yard.get(Model, self.ids[model.name])
            latest = self.yard.get(Version, (row.id, row.latest_version))
            assert self.yard.records(self.dataset, latest.snapshot) == model.learned
        for request in self.requests:
            self.history_is_legal(request)
        for run in self.runs:
            if not run.reaped:
                self.yard.expire(run.assignment.lease.job_id)
        reap(self.runtime.database, self.runtime.settings)
        with self.runtime.database.write() as session:
            for row in session.scalars(select(ForgetRequest)):
                if row.status in {RequestStatus.PENDING, RequestStatus.NEEDS_REVIEW}:
                    row.status = RequestStatus.CANCELLED
            for job in session.scalars(select(Job).where(Job.state == JobState.QUEUED)):
                job.state = JobState.CANCELLED

    def history_is_legal(self, request):
        with self.runtime.database.read() as session:
            events = session.scalars(
                select(Event.status)
                .where(Event.forget_request_id == uuid.UUID(request.id), Event.type == "status")
                .order_by(Event.id)
            ).all()
        assert events[0] == "pending"
        for before, after in pairwise(events):
            assert RequestStatus(after) in TRANSITIONS[RequestStatus(before)]
        assert events[-1] == request.status
        assert events.count("completed") == (request.status == "completed")

    # The plain model.

    def enter(self, name, served):
        """A version that has forgotten the records of some requests was published."""
        model = self.models[name]
        gone = set().union(*(request.records for request in served))
        learned_the_head = model.at == self.head_at
        if self.head & gone:
            self.head_at = self.new_state()
            self.head -= gone
        if model.learned & gone:
            model.at = self.head_at if learned_the_head else self.new_state()
            model.learned -= gone
        kept = ["quarantined" if state == "published" else state for state in model.versions]
        model.versions = [*kept, "published"]
        for request in served:
            self.move(request, "completed")

    def end(self, run, kind):
        """A job has ended without a result: `kind` says how, None that it was given back."""
        served = self.without_cancelled(run)
        if not run.served:
            attempts = self.yard.get(Job, run.assignment.lease.job_id).attempts
            killed = kind is FailureKind.KILLED
            if kind is None or (killed and attempts < self.runtime.settings.max_attempts):
                self.updates.add(run.model)
            return
        if kind is FailureKind.KILLED:
            for request in served:
                request.attempts += 1
        most = max((request.attempts for request in served), default=0)
        if kind is FailureKind.TIMEOUT:
            status = "failed"
        elif kind is FailureKind.METHOD or (
            kind is FailureKind.KILLED and most >= self.runtime.settings.max_attempts
        ):
            status = self.halve(served)
        else:
            status = "pending"
        for request in served:
            self.move(request, status)

    @staticmethod
    def halve(served):
        if len(served) == 1:
            return "failed"
        for place, request in enumerate(served):
            request.split += "0" if place < (len(served) + 1) // 2 else "1"
            request.attempts = 0
        return "pending"

    def without_cancelled(self, run):
        for request in run.served:
            if request.cancel_asked:
                self.move(request, "cancelled")
        return [request for request in run.served if not request.cancel_asked]

    def move(self, request, status):
        """Let a request go to a status; the review that it leaves has one request too few from then on."""
        request.status = status
        for review in self.reviews:
            if request in review.served and status != "needs_review":
                review.served.remove(request)
                review.broken = True

    def acceptable(self, review):
        return not review.broken and len(self.models[review.model].versions) == review.parent

    def cancelling(self):
        asked = [run for run in self.runs if any(request.cancel_asked for request in run.served)]
        return [run for run in asked if not run.reaped]

    # What workers do, in short.

    def run_of(self, assignment, served):
        model = self.models[assignment.model_name]
        parent = assignment.task.parent.number
        assert parent == len(model.versions)
        return Run(assignment, model.name, served, parent, set(model.learned), set(self.head), self.head_at)

    def work(self, run, staging, passed, bad):
        """Do what the job's process does to files."""
        reasons = {request.id: "Its records no longer exist." for request in bad}
        if run.served and len(bad) == len(run.served):
            return Finished(None, False, reasons, (), (), None)
        settings_ = self.runtime.settings
        place = SimpleNamespace(
            storage_url=settings_.storage_url, cache_dir=settings_.cache_dir, staging=staging
        )
        return self.executor.forget(
            run.assignment.task, place, passed=passed, bad=list(reasons), config=CONFIG
        )

    def conclude(self, run, finished, staging):
        """Do what an attempt does with a result."""
        lost = threading.Event()
        if finished.candidate is None:
            settle_bad_targets(self.runtime.database, run.assignment, finished)
        elif finished.passed:
            publish(self.runtime, run.assignment, finished, staging, lost)
        else:
            keep_for_review(self.runtime, run.assignment, finished, staging, lost)

    def settled(self, run, settle):
        """Try to settle a job; tell whether anything has come of it."""
        try:
            settle()
        except LeaseLostError:
            assert run.dead
            if run.reaped:
                self.runs.remove(run)  # its worker knows now, too
            return False
        except CancelledMeanwhileError:
            assert not run.dead
            assert any(request.cancel_asked for request in run.served)
            return False
        except ParentMovedError:
            assert not run.dead
            assert run.parent != len(self.models[run.model].versions)
            release(self.runtime.database, run.assignment, "The model got a newer version meanwhile.")
            self.runs.remove(run)
            self.end(run, None)
            return False
        assert not run.dead
        return True

    def post(self, path, body=None):
        return self.client.post(path, json=body, headers=self.headers)

    def any_request(self, data):
        return data.draw(st.sampled_from(self.requests))

    def known(self, request_id):
        return next(request for request in self.requests if request.id == str(request_id))

    def new_state(self):
        self.states += 1
        return self.states


@pytest.fixture
def patient(runtime):
    """The runtime with leases that run out only when a rule says so."""
    changes = {"lease_seconds": 3600.0, "max_forgotten_share_per_day": 1.0}
    return replace(runtime, settings=runtime.settings.model_copy(update=changes))


def test_requests_jobs_and_versions_go_where_a_plain_model_says(
    yard, patient, client, admin_headers, executor, database_url
):
    members = {
        "yard": yard,
        "client": client,
        "headers": admin_headers,
        "executor": executor,
        "runtime": patient,
    }
    machine = type("Machine", (Machine,), members)
    sqlite = database_url.startswith("sqlite")
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12 if sqlite else 4,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
