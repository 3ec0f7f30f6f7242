"""The share of a model that may be forgotten in a day: beyond it, a person decides."""

import datetime as dt

import pytest

from app.database import database_now
from app.runtime import Runtime
from app.tables import Event, ForgetRequest, Model, Version
from app.tables.forget_request import RequestStatus
from app.trust.scopes import Scope
from app.worker.admission import claim_within_limits
from app.worker.claims import claim
from app.worker.daily_limit import WeighingNeededError, records_left
from app.worker.task import Failure, FailureKind
from models.errors import DatasetError


@pytest.fixture
def settings(settings):
    """A quarter of a model's twelve records, three, may be forgotten in a day."""
    return settings.model_copy(update={"max_forgotten_share_per_day": 0.25})


@pytest.fixture
def left(runtime: Runtime):
    def left(model: Model) -> int:
        with runtime.database.read() as session:
            current = session.get_one(Model, model.id)
            return records_left(session, runtime.settings, current, database_now(session))

    return left


def test_what_a_day_allows_is_forgotten_and_the_rest_waits_for_a_person(yard, worker, left):
    model = yard.model()
    within = [yard.request(model, f"r{number}") for number in range(3)]
    beyond = [yard.request(model, f"r{number}") for number in range(3, 6)]

    worker.run_until_idle()

    assert yard.statuses(*within) == ["completed"] * 3
    assert yard.statuses(*beyond) == ["needs_review"] * 3
    status, reason = yard.reasons(beyond[0])[-1]
    assert status == "needs_review"
    assert reason.startswith(
        "A limit was hit: with it, more than 0.25 of the model's records would be forgotten"
    )
    assert len(yard.records(model.dataset_id)) == 9
    assert left(model) == 0


def test_a_large_demand_does_not_hold_up_the_small_ones_behind_it(yard, worker):
    model = yard.model()
    flood = yard.request(model, *(f"r{number}" for number in range(6)))
    small = yard.request(model, "r9")

    worker.run_until_idle()

    assert yard.statuses(flood, small) == ["needs_review", "completed"]


def test_subjects_and_classes_count_by_their_records(yard, worker):
    model = yard.model()
    cats = yard.request(model, "cat", kind="classes")  # six of twelve
    two = yard.request(model, "s1", "s2", kind="subjects", group_key="1" * 64)

    worker.run_until_idle()

    assert yard.statuses(cats, two) == ["needs_review", "completed"]


def test_the_same_records_named_many_times_count_once(yard, worker):
    model = yard.model()
    same = [yard.request(model, "r1", "r2") for _ in range(5)]

    worker.run_until_idle()

    assert yard.statuses(*same) == ["completed"] * 5


def test_the_limit_holds_over_jobs_and_ends_with_the_day(yard, worker, left, runtime):
    model = yard.model()
    first = yard.request(model, "r1", "r2", "r3")
    worker.run_until_idle()
    second = yard.request(model, "r4")
    worker.run_until_idle()
    assert yard.statuses(first, second) == ["completed", "needs_review"]
    with runtime.database.write() as session:
        version = session.get_one(Version, (model.id, 2))
        version.created_at = database_now(session) - dt.timedelta(hours=25)

    third = yard.request(model, "r5")
    worker.run_until_idle()

    assert yard.statuses(third) == ["completed"]
    assert left(model) == 1  # a quarter of nine is two


def test_a_tiny_model_may_forget_one_record_a_day(yard, worker):
    model = yard.model(dataset_id=yard.dataset(["r0", "r1"]))
    one, other = yard.request(model, "r0"), yard.request(model, "r1")
    worker.run_until_idle()
    assert yard.statuses(one, other) == ["completed", "needs_review"]


def test_a_waived_request_passes_and_takes_from_the_day(yard, worker, left):
    model = yard.model()
    waived = yard.request(
        model, *(f"r{number}" for number in range(6)), limit_waived_at=dt.datetime.now(dt.UTC)
    )
    other = yard.request(model, "r9", group_key="1" * 64)

    worker.run_until_idle()

    assert yard.statuses(waived, other) == ["completed", "needs_review"]
    assert left(model) == -3


def test_requests_that_came_after_the_weighing_are_not_claimed_with_the_others(yard, runtime, monkeypatch):
    model = yard.model()
    weighed = [yard.request(model, "r1", "r2", kind="records"), yard.request(model, "r2", "r3")]
    late = []

    def claim_late(database, settings, owner, known=None):
        if known is not None:
            late.append(yard.request(model, "r5", "r6", "r7"))
        return claim(database, settings, owner, known)

    monkeypatch.setattr("app.worker.admission.claim", claim_late)
    assignment = claim_within_limits(runtime, "test")

    assert set(assignment.request_ids) == set(weighed)
    assert yard.statuses(*late) == ["pending"]


def test_a_claim_that_cannot_tell_changes_nothing(yard, runtime, unchanged):
    model = yard.model()
    request_id = yard.request(model, "cat", kind="classes")
    with unchanged(), pytest.raises(WeighingNeededError):
        claim(runtime.database, runtime.settings, "test")
    assert yard.statuses(request_id) == ["pending"]


def test_a_target_that_is_gone_weighs_nothing_and_fails_in_its_job(yard, runtime):
    model = yard.model()
    gone = yard.request(model, "nobody", kind="subjects")
    assignment = claim_within_limits(runtime, "test")
    assert assignment.request_ids == (gone,)


def test_damaged_data_fails_in_its_job_and_does_not_stop_the_worker(
    yard, worker, executor, monkeypatch, runtime
):
    def damaged(_location):
        raise DatasetError("the index is damaged")

    model = yard.model()
    request_id = yard.request(model, "cat", kind="classes")
    monkeypatch.setattr(runtime.indexes, "get", damaged)
    executor.scripts = [lambda task, place: iter([Failure(FailureKind.INPUT, "It is damaged.")])]

    worker.run_until_idle()

    assert yard.statuses(request_id) == ["failed"]


@pytest.fixture
def held_back(yard, worker):
    model = yard.model()
    request_id = yard.request(model, *(f"r{number}" for number in range(6)))
    worker.run_until_idle()
    assert yard.statuses(request_id) == ["needs_review"]
    return request_id


def test_who_may_write_the_model_lets_it_through(
    client, admin_headers, yard, worker, held_back, runtime, monkeypatch
):
    monkeypatch.setattr("app.forget_requests.service.check_target", lambda *_: None)
    monkeypatch.setattr("app.forget_requests.service.settle_parameters", lambda *_, **__: ({}, False))
    answer = client.post(
        f"/v1/forget-requests/{held_back}/retry", json={"waive_limit": True}, headers=admin_headers
    )

    assert answer.status_code == 202, answer.text
    worker.run_until_idle()
    assert yard.statuses(held_back) == ["completed"]
    with runtime.database.read() as session:
        events = [event for event in session.query(Event) if event.type == "limit_waived"]
    assert [event.reason for event in events] == ["test let it pass the daily limit of the model."]
    assert events[0].details["api_key"]


def test_who_may_only_submit_cannot_waive_the_limit(client, make_key, yard, held_back, monkeypatch):
    monkeypatch.setattr("app.forget_requests.service.check_target", lambda *_: None)
    monkeypatch.setattr("app.forget_requests.service.settle_parameters", lambda *_, **__: ({}, False))
    answer = client.post(
        f"/v1/forget-requests/{held_back}/retry",
        json={"waive_limit": True},
        headers=make_key(Scope.REQUESTS_WRITE),
    )

    assert answer.status_code == 403
    assert yard.statuses(held_back) == ["needs_review"]
    assert yard.get(ForgetRequest, held_back).limit_waived_at is None


def test_trying_again_without_a_waiver_meets_the_limit_again(
    client, make_key, yard, worker, held_back, monkeypatch
):
    monkeypatch.setattr("app.forget_requests.service.check_target", lambda *_: None)
    monkeypatch.setattr("app.forget_requests.service.settle_parameters", lambda *_, **__: ({}, False))
    answer = client.post(
        f"/v1/forget-requests/{held_back}/retry", json={}, headers=make_key(Scope.REQUESTS_WRITE)
    )
    assert answer.status_code == 202
    worker.run_until_idle()
    assert yard.statuses(held_back) == [RequestStatus.NEEDS_REVIEW]


def test_accepting_a_request_that_was_never_tried_is_refused(client, admin_headers, held_back):
    answer = client.post(
        f"/v1/forget-requests/{held_back}/review",
        json={"decision": "accept", "reason": "Do it."},
        headers=admin_headers,
    )
    assert answer.status_code == 409
