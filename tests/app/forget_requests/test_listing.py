import datetime as dt
import hashlib
import uuid
from itertools import chain

import pytest

from app.paging import Cursor
from app.tables import ForgetRequest
from app.tables.forget_request import RequestStatus
from app.trust.scopes import Scope

URL = "/v1/forget-requests"
BEGIN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
FAR = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def add(runtime):
    """Insert a request that was submitted so many days after BEGIN."""

    def add(model, day, **fields):
        moment = BEGIN + dt.timedelta(days=day)
        request = ForgetRequest(
            **{
                "id": uuid.uuid4(),
                "model_id": model.id,
                "target": {"kind": "records", "ids": ["r1"]},
                "target_kind": "records",
                "target_count": 1,
                "guarantee": "any",
                "method": "auto",
                "parameters": {},
                "group_key": hashlib.sha256(b"").hexdigest(),
                "status": RequestStatus.PENDING,
                "due_at": FAR,
                "created_at": moment,
                "updated_at": moment,
                **fields,
            }
        )
        with runtime.database.write() as session:
            session.add(request)
        return str(request.id)

    return add


@pytest.fixture
def listed(client, admin_headers):
    def listed(**parameters):
        response = client.get(URL, params=parameters, headers=admin_headers)
        assert response.status_code == 200, response.text
        return [item["id"] for item in response.json()["items"]]

    return listed


def follow(client, headers, **parameters):
    """Yield every page, going from one to the next by its link."""
    response = client.get(URL, params=parameters, headers=headers)
    while True:
        assert response.status_code == 200, response.text
        body = response.json()
        yield [item["id"] for item in body["items"]]
        if body["next"] is None:
            assert "link" not in response.headers
            return
        assert response.headers["link"] == f'<{body["next"]}>; rel="next"'
        response = client.get(body["next"], headers=headers)


def test_pages_hold_every_request_once_newest_first(shelf, add, client, admin_headers):
    pets = shelf.model("pets")
    ids = [add(pets, day) for day in range(7)]
    pages = list(follow(client, admin_headers, limit=3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert list(chain.from_iterable(pages)) == ids[::-1]


def test_requests_of_the_same_instant_are_paged_without_loss(shelf, add, client, admin_headers):
    pets = shelf.model("pets")
    ids = {add(pets, 1) for _ in range(9)}
    seen = list(chain.from_iterable(follow(client, admin_headers, limit=2)))
    assert set(seen) == ids
    assert len(seen) == 9


def test_pages_are_stable_while_requests_come_in(shelf, add, client, admin_headers):
    pets = shelf.model("pets")
    ids = [add(pets, day) for day in range(6)]
    seen = []
    for number, page in enumerate(follow(client, admin_headers, limit=2)):
        seen += page
        add(pets, 100 + number)
    assert seen == ids[::-1]


def test_links_keep_the_filters(shelf, add, client, admin_headers):
    pets, other = shelf.model("pets"), shelf.model("other")
    wanted = [
        add(pets, 0),
        add(pets, 1, status=RequestStatus.FAILED),
        add(pets, 2),
    ]
    add(other, 3)
    add(pets, 4, status=RequestStatus.COMPLETED)
    pages = follow(client, admin_headers, model="pets", status=["pending", "failed"], limit=1)
    assert list(chain.from_iterable(pages)) == wanted[::-1]


def test_each_filter_narrows_the_list(shelf, add, listed):
    pets, other = shelf.model("pets"), shelf.model("other")
    past, soon = dt.datetime(2026, 3, 20, tzinfo=dt.UTC), dt.datetime(2098, 1, 1, tzinfo=dt.UTC)
    late = add(pets, 0, due_at=past)
    late_but_done = add(pets, 1, due_at=past, status=RequestStatus.COMPLETED)
    named = add(pets, 2, method="acu", due_at=soon)
    foreign = add(other, 3, status=RequestStatus.NEEDS_REVIEW)
    assert listed() == [foreign, named, late_but_done, late]
    assert listed(status="needs_review") == [foreign]
    assert listed(status=["needs_review", "completed"]) == [foreign, late_but_done]
    assert listed(model="pets") == [named, late_but_done, late]
    assert listed(model="nobody") == []
    assert listed(method="acu") == [named]
    assert listed(overdue="true") == [late]
    assert listed(overdue="false") == [foreign, named, late_but_done]
    assert listed(due_before="2098-06-01T00:00:00Z", due_after="2098-01-01T00:00:00Z") == [named]
    assert listed(created_after="2026-03-02T00:00:00Z", created_before="2026-03-03T00:00:00Z") == [
        late_but_done
    ]
    assert listed(created_after="2026-03-02T01:00:00+01:00", created_before="2026-03-03T00:00:00Z") == [
        late_but_done
    ]


def test_overdue_is_shown(shelf, add, client, admin_headers):
    pets = shelf.model("pets")
    request_id = add(pets, 0, due_at=BEGIN)
    assert client.get(f"{URL}/{request_id}", headers=admin_headers).json()["overdue"] is True


SENSELESS = [
    {"status": "asleep"},
    {"limit": 0},
    {"limit": 501},
    {"created_after": "yesterday"},
    {"created_after": "2026-01-01T00:00:00"},
    {"due_before": "0001-01-01T00:00:00+14:00"},
    {"overdue": "perhaps"},
    {"model": "\0"},
    {"method": "\0"},
    {"cursor": "nonsense"},
    {"cursor": "é" * 32},
    {"cursor": "f" * 32},
    {"cursor": Cursor(BEGIN, uuid.UUID(int=0)).encode() + "A"},
    {"cursor": "A" * 65},
]


def test_senseless_parameters_are_refused(client, admin_headers, subtests):
    for parameters in SENSELESS:
        with subtests.test(**parameters):
            response = client.get(URL, params=parameters, headers=admin_headers)
            assert response.status_code == 422
            assert response.headers["content-type"] == "application/problem+json"


def test_key_sees_its_own_models_only(shelf, add, client, make_key):
    mine, theirs = shelf.model("mine"), shelf.model("theirs")
    visible, hidden = add(mine, 0), add(theirs, 1)
    headers = make_key(Scope.REQUESTS_READ, Scope.REQUESTS_WRITE, models=["mine"])
    assert [item["id"] for item in client.get(URL, headers=headers).json()["items"]] == [visible]
    assert client.get(URL, params={"model": "theirs"}, headers=headers).json()["items"] == []
    assert client.get(f"{URL}/{visible}", headers=headers).status_code == 200
    for path in ("", "/events"):
        assert client.get(f"{URL}/{hidden}{path}", headers=headers).status_code == 404
    for path in ("cancel", "retry"):
        assert client.post(f"{URL}/{hidden}/{path}", json={}, headers=headers).status_code == 404


def test_absent_request_is_a_404(client, admin_headers):
    response = client.get(f"{URL}/{uuid.uuid4()}", headers=admin_headers)
    assert response.status_code == 404
    assert response.json()["type"] == "urn:expunge:problem:forget-request-not-found"
    assert client.get(f"{URL}/not-an-id", headers=admin_headers).status_code == 422
