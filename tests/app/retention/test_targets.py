import datetime as dt

from sqlalchemy import select

from app.tables import ApiKey, Event, ForgetRequest, IdempotencyRecord
from app.tables.forget_request import RequestStatus as S

NOW = dt.datetime.now(dt.UTC)
OVER, NOT_OVER = NOW - dt.timedelta(days=31), NOW - dt.timedelta(days=29)


def stands(yard, model, status: S, updated_at: dt.datetime, due_at: dt.datetime = OVER):
    return yard.request(
        model, "r1", status=status, updated_at=updated_at, due_at=due_at, commitment_key=b"k" * 32
    )


CASES = [
    (S.COMPLETED, OVER, OVER, True),
    (S.COMPLETED, NOT_OVER, OVER, False),
    (S.CANCELLED, OVER, NOT_OVER, True),
    (S.REFUSED, OVER, OVER, True),
    (S.FAILED, OVER, OVER, True),
    (S.FAILED, OVER, NOT_OVER, False),  # it can still be retried in time
    (S.NEEDS_REVIEW, OVER, OVER, False),
    (S.PENDING, OVER, OVER, False),
]
"""Status, when it came to it, when it is due, and whether it names nothing after a sweep."""


def test_ids_and_key_are_erased_once_nobody_owes_an_answer(yard, sweep_once, subtests):
    model = yard.model()
    requests = [stands(yard, model, status, updated_at, due_at) for status, updated_at, due_at, _ in CASES]
    assert sweep_once().targets == sum(erased for *_, erased in CASES)
    for request_id, (status, *when, erased) in zip(requests, CASES, strict=True):
        with subtests.test(status=status, when=when):
            request = yard.get(ForgetRequest, request_id)
            assert (request.target is None, request.commitment_key is None) == (erased, erased)
            assert (request.target_kind, request.target_count, request.status) == ("records", 1, status)


def test_an_erasure_is_an_event_and_happens_once(yard, sweep_once):
    request_id = stands(yard, yard.model(), S.COMPLETED, OVER)
    assert [sweep_once().targets, sweep_once().targets] == [1, 0]
    assert [reason for _, reason in yard.reasons(request_id)] == [
        "Its target's ids, and the key of their commitments, were erased at the end of their retention."
    ]


def test_more_targets_than_one_transaction_takes(yard, runtime, sweep_once, monkeypatch):
    monkeypatch.setattr("app.retention.targets.BATCH", 3)
    model = yard.model()
    requests = [stands(yard, model, S.COMPLETED, OVER) for _ in range(7)]
    assert sweep_once().targets == 7
    assert all(yard.get(ForgetRequest, request).target is None for request in requests)


def test_answers_to_old_calls_are_forgotten(runtime, make_key, sweep_once):
    make_key()
    with runtime.database.write() as session:
        key_id = session.scalars(select(ApiKey.id)).first()
        session.add_all(
            IdempotencyRecord(
                api_key_id=key_id,
                key=key,
                request_hash=b"h" * 32,
                status_code=202,
                body={},
                created_at=created_at,
            )
            for key, created_at in (("old", OVER), ("new", NOT_OVER))
        )
    assert sweep_once().answers == 1
    with runtime.database.read() as session:
        assert list(session.scalars(select(IdempotencyRecord.key))) == ["new"]
        assert session.scalars(select(Event)).all() == []
