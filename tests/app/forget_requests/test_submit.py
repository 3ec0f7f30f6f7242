import datetime as dt
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from app.tables import Event, ForgetRequest, IdempotencyRecord
from app.trust.scopes import Scope

URL = "/v1/forget-requests"


def demand(**fields):
    return {"model": "pets", "target": {"kind": "records", "ids": ["r1", "r3"]}, **fields}


def stored(runtime):
    with runtime.database.read() as session:
        return session.scalar(select(func.count()).select_from(ForgetRequest))


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


@pytest.fixture
def submit(client, admin_headers):
    def submit(**fields):
        return client.post(URL, json=demand(**fields), headers=admin_headers)

    return submit


@pytest.fixture
def refused(submit, runtime):
    """Submit something that must be refused as a problem with this slug, and leave nothing behind."""

    def refused(slug, **fields):
        response = submit(**fields)
        assert response.status_code == 422, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == f"urn:expunge:problem:{slug}"
        assert stored(runtime) == 0
        return response.json()

    return refused


def test_accepted_request_is_stored_with_its_first_event(pets, submit, client, admin_headers):
    response = submit(reference="DSR-2026-118")
    assert response.status_code == 202
    assert response.headers["retry-after"] == "1"
    body = response.json()
    assert response.headers["location"] == f"{URL}/{body['id']}"
    assert body["status"] == "pending"
    assert body["target"] == {"kind": "records", "count": 2}
    assert (body["model"], body["reference"], body["guarantee"]) == ("pets", "DSR-2026-118", "any")
    assert (body["method"], body["parameters"], body["overdue"]) == ("auto", {}, False)
    assert client.get(response.headers["location"], headers=admin_headers).json() == body
    events = client.get(f"{URL}/{body['id']}/events", headers=admin_headers).json()
    assert [(event["type"], event["status"]) for event in events["items"]] == [("status", "pending")]


def test_due_date_is_one_calendar_month_from_receipt(pets, submit):
    body = submit().json()
    created, due = (dt.datetime.fromisoformat(body[key]) for key in ("created_at", "due_at"))
    assert (due.year * 12 + due.month) - (created.year * 12 + created.month) == 1
    assert due.day == created.day or due + dt.timedelta(days=1) == due.replace(
        day=1, month=due.month % 12 + 1
    )


def test_due_date_is_kept_in_utc(pets, submit):
    assert submit(due_at="2099-03-01T10:00:00+02:00").json()["due_at"] == "2099-03-01T08:00:00Z"


NO_DUE_DATES = [
    ("2020-01-01T00:00:00Z", "due-in-the-past"),
    ("2099-01-01T00:00:00", "invalid-request"),
    ("4102444800", "invalid-request"),
    (4102444800, "invalid-request"),
    ("9999-12-31T23:59:59-12:00", "invalid-request"),
]


def test_due_date_that_is_past_or_no_point_in_time_is_refused(pets, refused, subtests):
    for due_at, slug in NO_DUE_DATES:
        with subtests.test(due_at=due_at):
            refused(slug, due_at=due_at)


def test_named_method_gets_its_defaults_filled_in(pets, submit):
    parameters = submit(method="acu", parameters={"solve": "update"}).json()["parameters"]
    assert parameters["solve"] == "update"
    assert parameters["max_rank"] == 256


def test_requests_that_ask_for_the_same_are_grouped_whether_or_not_they_spell_defaults_out(
    pets, submit, runtime
):
    submit(method="acu")
    submit(method="acu", parameters={"solve": "fresh"})
    submit(method="acu", parameters={"solve": "update"})
    submit(method="auto")
    with runtime.database.read() as session:
        keys = session.scalars(select(ForgetRequest.group_key).order_by(ForgetRequest.created_at)).all()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("kind", "ids"), [("records", ["r0", "r4"]), ("subjects", ["s2"]), ("classes", ["cat"])]
)
def test_every_target_kind_of_the_family_is_accepted(pets, submit, kind, ids):
    assert submit(target={"kind": kind, "ids": ids}).json()["target"] == {"kind": kind, "count": len(ids)}


def test_ids_of_the_datasets_newer_head_are_known_too(shelf, submit, refused):
    dataset_id = shelf.dataset(["r0", "r1"])
    shelf.model("pets", dataset_id)
    shelf.grow(dataset_id, ["r1", "r7"])
    assert refused("unknown-ids", target={"kind": "records", "ids": ["r0", "r7", "r8"]})["unknown"] == ["r8"]
    assert submit(target={"kind": "records", "ids": ["r0", "r7"]}).status_code == 202


def test_unknown_ids_are_refused_naming_the_first_twenty(pets, refused):
    problem = refused("unknown-ids", target={"kind": "records", "ids": ["r1", *(f"x{n}" for n in range(23))]})
    assert problem["unknown"] == [f"x{n}" for n in range(20)]
    assert problem["more"] == 3
    assert "'x19' and 3 more" in problem["detail"]


def test_unknown_subject_is_refused(pets, refused):
    assert refused("unknown-ids", target={"kind": "subjects", "ids": ["r1"]})["unknown"] == ["r1"]


REFUSED = [
    ("unknown-model", {"model": "nobody"}),
    ("unsuitable-target", {"target": {"kind": "users", "ids": ["r1"]}}),
    ("unsuitable-target", {"target": {"kind": "edges", "pairs": [["r1", "r2"]]}}),
    ("unknown-method", {"method": "wishful_thinking"}),
    ("invalid-parameters", {"method": "acu", "parameters": {"solve": "guess"}}),
    ("invalid-parameters", {"method": "acu", "parameters": {"nonsense": 1}}),
    ("invalid-parameters", {"parameters": {"solve": "fresh"}}),
    ("unknown-callback", {"callback_url": "https://example.org/done"}),
    ("dataset-without-models", {"model": "*", "dataset": str(uuid.UUID(int=7))}),
    ("invalid-request", {"model": "*"}),
    ("invalid-request", {"dataset": str(uuid.UUID(int=7))}),
    ("invalid-request", {"model": ""}),
    ("invalid-request", {"model": "pe\0ts"}),
    ("invalid-request", {"reference": "a\0b"}),
    ("invalid-request", {"reference": "x" * 201}),
    ("invalid-request", {"guarantee": "magic"}),
    ("invalid-request", {"surprise": 1}),
    ("invalid-request", {"target": {"kind": "records", "ids": []}}),
    ("invalid-request", {"target": {"kind": "records", "ids": ["r1", "r1"]}}),
    ("invalid-request", {"target": {"kind": "records", "ids": [1]}}),
    ("invalid-request", {"target": {"kind": "records", "ids": ["r\0"]}}),
    ("invalid-request", {"target": {"kind": "wishes", "ids": ["r1"]}}),
]


def test_what_cannot_be_served_is_refused_at_once(pets, refused, subtests):
    for slug, fields in REFUSED:
        with subtests.test(slug, **fields):
            refused(slug, **fields)


UNSTORABLE = [
    b'{"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "reference": "\\ud800"}',
    b'{"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "\\udfff": 1}',
    b'{"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "method": "acu", "parameters": {"\\ud800": 1}}',
    b'{"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "method": "acu", "parameters": {"max_rank": NaN}}',
    b'{"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "parameters": {"a": '
    + b"[" * 50
    + b"]" * 50
    + b"}}",
    b"[" * 100_000,
    b'{"model": "pets",',
    b"\xff\xfe",
    b"null",
    b"",
]


def test_what_is_no_storable_json_is_refused(pets, client, admin_headers, runtime, subtests):
    headers = {**admin_headers, "Content-Type": "application/json"}
    for text in UNSTORABLE:
        with subtests.test(text[:200]):
            response = client.post(URL, content=text, headers=headers)
            assert response.status_code in {400, 422}
            assert response.headers["content-type"] == "application/problem+json"
    assert stored(runtime) == 0


def test_target_beyond_the_limit_is_refused(shelf, settings, client, admin_headers, runtime):
    shelf.model("pets", shelf.dataset([f"r{n}" for n in range(12)]))
    runtime_of_service = client.app.state.runtime
    object.__setattr__(runtime_of_service, "settings", settings.model_copy(update={"max_target_ids": 10}))
    ids = [f"r{n}" for n in range(11)]
    body = demand(target={"kind": "records", "ids": ids})
    response = client.post(URL, json=body, headers=admin_headers)
    assert response.status_code == 422
    assert response.json()["type"] == "urn:expunge:problem:target-too-large"
    assert client.post(URL, json=demand(target={"kind": "records", "ids": ids[1:]}), headers=admin_headers)
    assert stored(runtime) == 1


def test_exact_guarantee_is_refused_where_only_approximate_methods_fit(pets, refused, monkeypatch):
    from app.forget_requests import validation
    from unlearning import planner
    from unlearning.catalog import methods
    from unlearning.catalog.spec import Guarantee

    weaker = tuple(
        type(spec)(**{**vars(spec), "guarantee": Guarantee.EMPIRICAL}) for spec in methods("classifier")
    )
    monkeypatch.setattr(planner, "methods", lambda _family=None: weaker)
    validation._plan.cache_clear()
    try:
        assert "exact" in refused("no-suitable-method", guarantee="exact")["detail"]
    finally:
        validation._plan.cache_clear()


def test_every_model_of_a_dataset_gets_a_request_of_its_own(shelf, submit, runtime):
    dataset_id = shelf.dataset()
    for name in ("zebra", "ant"):
        shelf.model(name, dataset_id)
    shelf.model("stranger")
    response = submit(model="*", dataset=str(dataset_id))
    assert response.status_code == 202
    assert [item["model"] for item in response.json()["items"]] == ["ant", "zebra"]
    assert stored(runtime) == 2


def test_fan_out_that_one_model_refuses_leaves_nothing_behind(shelf, refused):
    dataset_id = shelf.dataset(["r0", "r1"])
    shelf.model("ant", dataset_id)
    shelf.grow(dataset_id, ["r1"])
    shelf.model("zebra", dataset_id)
    problem = refused(
        "unknown-ids", model="*", dataset=str(dataset_id), target={"kind": "records", "ids": ["r0"]}
    )
    assert "'zebra'" in problem["detail"]


def test_key_limited_to_some_models_reaches_no_others(shelf, client, make_key, runtime):
    dataset_id = shelf.dataset()
    shelf.model("mine", dataset_id)
    shelf.model("theirs", dataset_id)
    headers = make_key(Scope.REQUESTS_WRITE, models=["mine"])
    for fields in ({"model": "theirs"}, {"model": "absent"}, {"model": "*", "dataset": str(dataset_id)}):
        response = client.post(URL, json=demand(**fields), headers=headers)
        assert response.status_code == 403
        assert "theirs" not in response.text or fields["model"] == "theirs"
    assert stored(runtime) == 0
    assert client.post(URL, json=demand(model="mine"), headers=headers).status_code == 202


def test_key_without_the_scope_is_refused(pets, client, make_key):
    response = client.post(URL, json=demand(), headers=make_key(Scope.REQUESTS_READ, Scope.MODELS_WRITE))
    assert response.status_code == 403
    assert client.post(URL, json=demand()).status_code == 401


def test_same_key_and_body_give_the_first_answer_again(pets, client, admin_headers, runtime):
    headers = {**admin_headers, "Idempotency-Key": "once"}
    first, second = (client.post(URL, json=demand(), headers=headers) for _ in range(2))
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert second.headers["idempotent-replayed"] == "true"
    assert stored(runtime) == 1
    other = client.post(URL, json=demand(reference="other"), headers=headers)
    assert other.json()["type"] == "urn:expunge:problem:idempotency-key-reused"


def test_concurrent_calls_under_one_key_store_one_request(pets, client, admin_headers, runtime):
    headers = {**admin_headers, "Idempotency-Key": "race"}
    together = threading.Barrier(6)

    def call(_):
        together.wait()
        return client.post(URL, json=demand(), headers=headers)

    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(call, range(6)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1
    assert stored(runtime) == 1
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 1
        assert session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 1


def test_no_target_id_is_in_any_answer_event_or_log(shelf, client, admin_headers, runtime, caplog):
    secret = "patient-4711-zoë"
    shelf.model("pets", shelf.dataset([secret, "r1", "r2"]))
    headers = {**admin_headers, "Idempotency-Key": "private"}
    with caplog.at_level(logging.DEBUG):
        created = client.post(URL, json=demand(target={"kind": "records", "ids": [secret]}), headers=headers)
        assert created.status_code == 202
        url = created.headers["location"]
        answers = [
            created,
            client.get(url, headers=admin_headers),
            client.get(URL, headers=admin_headers),
            client.get(f"{url}/events", headers=admin_headers),
            client.post(f"{url}/cancel", headers=admin_headers),
        ]
    assert all("4711" not in answer.text for answer in answers)
    assert "4711" not in caplog.text
    with runtime.database.read() as session:
        for event in session.scalars(select(Event)):
            assert "4711" not in f"{event.reason} {event.details}"
        for record in session.scalars(select(IdempotencyRecord)):
            assert "4711" not in str(record.body)
