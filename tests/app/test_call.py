import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import func, select
from starlette.responses import Response

from app.call import Answer, CallDep, Work
from app.main import _add_handlers
from app.tables import ApiKey, IdempotencyRecord
from app.trust.keys import create_key
from app.trust.scopes import Scope


class Made(BaseModel):
    number: int


@pytest.fixture
def client(runtime):
    """An endpoint whose effect is easy to count: each run makes one API key."""
    app = FastAPI()
    app.state.runtime = runtime
    _add_handlers(app)

    @app.post("/things")
    def make(call: CallDep, name: Annotated[str, Body(embed=True)]) -> Response:
        def effect(work: Work) -> Answer:
            if name == "broken":
                raise RuntimeError
            create_key(work.session, name=name, scopes=[])
            count = work.session.scalar(select(func.count()).select_from(ApiKey))
            return Answer(Made(number=count), 201, location=f"/things/{count}")

        return call.post(Scope.MODELS_WRITE, effect)

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def things(runtime):
    def count() -> int:
        with runtime.database.read() as session:
            return session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.name == "thing"))

    return count


def test_the_same_key_and_body_give_the_first_answer_again(client, admin_headers, things):
    headers = {**admin_headers, "Idempotency-Key": "k1"}
    first = client.post("/things", json={"name": "thing"}, headers=headers)
    second = client.post("/things", json={"name": "thing"}, headers=headers)
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert things() == 1


def test_the_same_key_with_another_body_is_refused(client, admin_headers, things):
    headers = {**admin_headers, "Idempotency-Key": "k1"}
    client.post("/things", json={"name": "thing"}, headers=headers)
    refusal = client.post("/things", json={"name": "other"}, headers=headers)
    assert refusal.status_code == 422
    assert refusal.json()["type"] == "urn:expunge:problem:idempotency-key-reused"
    assert things() == 1


def test_keys_of_two_callers_do_not_meet(client, make_key, things):
    for _ in range(2):
        headers = {**make_key(Scope.MODELS_WRITE), "Idempotency-Key": "k1"}
        assert client.post("/things", json={"name": "thing"}, headers=headers).status_code == 201
    assert things() == 2


def test_concurrent_calls_under_one_key_take_effect_once(client, admin_headers, things):
    headers = {**admin_headers, "Idempotency-Key": "k1"}
    barrier = threading.Barrier(8)

    def post(_: int) -> tuple[int, object]:
        barrier.wait()
        response = client.post("/things", json={"name": "thing"}, headers=headers)
        return response.status_code, response.json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert answers == [answers[0]] * 8
    assert answers[0][0] == 201
    assert things() == 1


def test_a_failed_effect_leaves_nothing_and_its_key_can_be_used_again(client, admin_headers, runtime, things):
    headers = {**admin_headers, "Idempotency-Key": "k1"}
    failure = client.post("/things", json={"name": "broken"}, headers=headers)
    assert failure.status_code == 500
    assert failure.headers["content-type"] == "application/problem+json"
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 0
    assert client.post("/things", json={"name": "thing"}, headers=headers).status_code == 201
    assert things() == 1


def test_the_request_body_is_not_kept(client, admin_headers, runtime):
    headers = {**admin_headers, "Idempotency-Key": "k1"}
    client.post("/things", json={"name": "unmistakable-4711"}, headers=headers)
    with runtime.database.read() as session:
        row = session.execute(select(IdempotencyRecord.__table__)).mappings().one()
    assert "unmistakable-4711" not in repr(dict(row))


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "tab\t"])
def test_a_malformed_idempotency_key_is_refused(client, admin_headers, key):
    response = client.post(
        "/things", json={"name": "thing"}, headers={**admin_headers, "Idempotency-Key": key}
    )
    assert response.status_code == 422


def test_without_a_key_the_answer_says_how_to_authenticate(client):
    response = client.post("/things", json={"name": "thing"})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json()["type"] == "urn:expunge:problem:key-refused"


def test_a_key_without_the_scope_is_refused(client, make_key, things):
    response = client.post("/things", json={"name": "thing"}, headers=make_key(Scope.MODELS_READ))
    assert response.status_code == 403
    assert response.json()["scope"] == "models:write"
    assert things() == 0
