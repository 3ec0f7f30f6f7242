import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update
from standardwebhooks import Webhook

from app.database import database_now
from app.forget_requests.states import change_status
from app.tables import ForgetRequest, WebhookEndpoint, WebhookMessage
from app.tables.forget_request import RequestStatus
from app.trust.scopes import Scope
from app.webhooks.dispatcher import DELAYS, Dispatcher, claim, settle
from app.webhooks.sending import Delivery

URL = "/v1/webhooks"


@pytest.fixture
def dispatch(runtime):
    """Send everything that is due."""

    def dispatch():
        dispatcher = Dispatcher(runtime, threading.Event())
        with ThreadPoolExecutor(1) as senders:  # one after the other, so in the order of the outbox
            while dispatcher.step(senders):
                pass

    return dispatch


@pytest.fixture
def make_due(runtime):
    """Let every wait be over."""

    def make_due():
        with runtime.database.write() as session:
            session.execute(
                update(WebhookMessage)
                .where(WebhookMessage.next_attempt_at.is_not(None))
                .values(next_attempt_at=database_now(session))
            )

    return make_due


@pytest.fixture
def move(runtime):
    """Bring a request to a state, as a worker does."""

    def move(request_id, *states):
        with runtime.database.write() as session:
            request = session.get_one(ForgetRequest, uuid.UUID(request_id))
            for state in states:
                change_status(session, [request], state, f"it is {state.value}", database_now(session))

    return move


@pytest.fixture
def messages(client, admin_headers):
    def messages(endpoint):
        return client.get(f"{URL}/{endpoint['id']}/messages", headers=admin_headers).json()["items"]

    return messages


@pytest.fixture
def post(client, admin_headers):
    def post(endpoint, action, headers=admin_headers):
        return client.post(f"{URL}/{endpoint['id']}/{action}", headers=headers)

    return post


def test_an_endpoint_hears_of_every_change_of_a_request(register, submit, move, dispatch, receiver):
    endpoint, request_id = register(), submit(reference="DSR-1")
    move(request_id, RequestStatus.RUNNING, RequestStatus.COMPLETED)
    dispatch()
    assert [payload["type"] for payload in receiver.payloads] == [
        "forget_request.running",
        "forget_request.completed",
    ]
    headers, body = receiver.received[1]
    data = Webhook(endpoint["secret"]).verify(body, headers)["data"]
    assert (data["id"], data["model"], data["reference"]) == (request_id, "pets", "DSR-1")
    assert "r1" not in body
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 2


def test_a_message_and_the_change_it_tells_are_written_together_or_not_at_all(register, submit, runtime):
    register()
    request_id = submit()
    with pytest.raises(RuntimeError, match="effect"), runtime.database.write() as session:
        request = session.get_one(ForgetRequest, uuid.UUID(request_id))
        change_status(session, [request], RequestStatus.RUNNING, "begun", database_now(session))
        session.flush()
        raise RuntimeError("the effect fails")
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(WebhookMessage)) == 0


def test_a_callback_endpoint_hears_of_the_requests_that_name_it_alone(
    register, submit, move, dispatch, receiver
):
    register(subscription="callbacks")
    named, other = submit(callback_url=receiver.url), submit(target={"kind": "records", "ids": ["r2"]})
    move(named, RequestStatus.CANCELLED)
    move(other, RequestStatus.CANCELLED)
    dispatch()
    assert [payload["data"]["id"] for payload in receiver.payloads] == [named]


def test_an_endpoint_of_other_models_hears_nothing(register, submit, move, dispatch, receiver):
    register(models=["cars"])
    move(submit(), RequestStatus.CANCELLED)
    dispatch()
    assert receiver.received == []


def test_an_extension_is_told(register, submit, dispatch, receiver, client, admin_headers):
    register()
    request_id = submit()
    client.post(f"/v1/forget-requests/{request_id}/extend", json={"reason": "many"}, headers=admin_headers)
    dispatch()
    assert [payload["type"] for payload in receiver.payloads] == ["forget_request.extended"]


def test_a_failed_delivery_is_tried_again_over_days_with_growing_pauses(
    register, submit, move, dispatch, make_due, messages, receiver
):
    endpoint = register()
    receiver.answers = [500] * (len(DELAYS) + 1)
    move(submit(), RequestStatus.CANCELLED)
    waits = []
    for _ in DELAYS:
        before = dt.datetime.now(dt.UTC)
        dispatch()
        (message,) = messages(endpoint)
        waits.append(dt.datetime.fromisoformat(message["next_attempt_at"]) - before)
        make_due()
    for wait, delay in zip(waits, DELAYS, strict=True):
        assert 0.8 * delay <= wait <= 1.2 * delay + dt.timedelta(seconds=10)
    assert sum(DELAYS, dt.timedelta()) > dt.timedelta(days=3)
    dispatch()
    (message,) = messages(endpoint)
    assert message["next_attempt_at"] is None
    assert message["delivered_at"] is None
    assert message["attempts"] == len(DELAYS) + 1
    assert message["last_error"] == "It answered 500."
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {
        f"msg_{uuid.UUID(message['id']).hex}"
    }


def test_a_delivery_that_works_the_second_time_is_delivered(
    register, submit, move, dispatch, make_due, messages, receiver
):
    endpoint = register()
    receiver.answers = [503, 200]
    move(submit(), RequestStatus.CANCELLED)
    dispatch()
    make_due()
    dispatch()
    (message,) = messages(endpoint)
    assert message["delivered_at"] is not None
    assert (message["attempts"], message["last_status"], message["last_error"]) == (2, 200, None)


def test_an_endpoint_that_answers_gone_is_disabled_and_can_be_enabled_again(
    register, submit, move, dispatch, receiver, client, admin_headers, post
):
    endpoint = register()
    receiver.answers = [410]
    first = submit()
    move(first, RequestStatus.RUNNING)
    dispatch()
    shown = client.get(f"{URL}/{endpoint['id']}", headers=admin_headers).json()
    assert shown["disabled_at"] is not None
    assert shown["disabled_reason"] == "It answered 410 Gone."
    move(first, RequestStatus.COMPLETED)
    dispatch()
    assert len(receiver.received) == 1
    assert post(endpoint, "enable").json()["disabled_at"] is None
    move(submit(target={"kind": "records", "ids": ["r2"]}), RequestStatus.CANCELLED)
    dispatch()
    assert len(receiver.received) == 2


def test_a_message_can_be_sent_again(
    register, submit, move, dispatch, messages, receiver, client, admin_headers
):
    endpoint = register()
    move(submit(), RequestStatus.CANCELLED)
    dispatch()
    (message,) = messages(endpoint)
    path = f"{URL}/{endpoint['id']}/messages/{message['id']}/resend"
    assert client.post(path, headers=admin_headers).status_code == 202
    dispatch()
    ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    unknown = f"{URL}/{endpoint['id']}/messages/{uuid.uuid4()}/resend"
    assert client.post(unknown, headers=admin_headers).status_code == 404


def test_two_dispatchers_never_send_the_same_message(register, submit, move, runtime):
    register()
    for number in range(4):
        move(submit(target={"kind": "records", "ids": [f"r{number}"]}), RequestStatus.CANCELLED)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda _: claim(runtime.database), range(4)))
    claimed = [one.row_id for batch in batches for one in batch]
    assert len(claimed) == len(set(claimed)) == 4


def test_a_claim_whose_dispatcher_died_is_taken_over_and_its_late_result_ignored(
    register, submit, move, runtime, make_due, messages
):
    endpoint = register()
    move(submit(), RequestStatus.CANCELLED)
    (late,) = claim(runtime.database)
    assert claim(runtime.database) == []
    make_due()
    (taken_over,) = claim(runtime.database)
    settle(runtime.database, late, Delivery(500, "It answered 500."))
    settle(runtime.database, taken_over, Delivery(200, None))
    settle(runtime.database, taken_over, Delivery(500, "It answered 500."))
    (message,) = messages(endpoint)
    assert message["delivered_at"] is not None
    assert message["last_status"] == 200


def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(
    register, submit, move, dispatch, receiver, post, runtime
):
    endpoint = register()
    rotated = post(endpoint, "rotate-secret").json()
    assert rotated["secret"] != endpoint["secret"]
    first, second = submit(), submit(target={"kind": "records", "ids": ["r2"]})
    move(first, RequestStatus.CANCELLED)
    dispatch()
    headers, body = receiver.received[0]
    for one in (endpoint, rotated):
        Webhook(one["secret"]).verify(body, headers)
    with runtime.database.write() as session:
        session.execute(update(WebhookEndpoint).values(previous_secret_until=database_now(session)))
    move(second, RequestStatus.CANCELLED)
    dispatch()
    assert " " not in receiver.received[1][0]["webhook-signature"]


def test_a_deleted_endpoint_hears_nothing_and_leaves_no_secret(
    register, submit, move, dispatch, receiver, client, admin_headers, runtime
):
    endpoint = register()
    move(submit(), RequestStatus.CANCELLED)
    assert client.delete(f"{URL}/{endpoint['id']}", headers=admin_headers).status_code == 204
    dispatch()
    assert receiver.received == []
    with runtime.database.read() as session:
        assert session.get_one(WebhookEndpoint, uuid.UUID(endpoint["id"])).secret == b""
    assert client.get(f"{URL}/{endpoint['id']}", headers=admin_headers).status_code == 404
    register()


def test_the_secret_is_shown_once(register, client, admin_headers):
    endpoint = register()
    assert endpoint["secret"].startswith("whsec_")
    assert "secret" not in client.get(f"{URL}/{endpoint['id']}", headers=admin_headers).json()
    assert "secret" not in client.get(URL, headers=admin_headers).json()["items"][0]


def test_an_address_is_registered_once(register, client, admin_headers, receiver):
    register()
    response = client.post(URL, json={"url": receiver.url}, headers=admin_headers)
    assert response.status_code == 409
    assert response.json()["type"] == "urn:expunge:problem:webhook-exists"


@pytest.mark.parametrize("url", ["https://10.1.2.3/", "https://[fd00::1]/", "https://169.254.169.254/latest"])
def test_a_private_address_is_refused_at_registration(client, admin_headers, url, unchanged):
    with unchanged():
        response = client.post(URL, json={"url": url}, headers=admin_headers)
        assert response.status_code == 422
        assert response.json()["type"] == "urn:expunge:problem:webhook-url-refused"


def test_a_callback_that_is_no_endpoint_is_refused(register, pets, client, admin_headers, receiver, post):
    body = {"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "callback_url": receiver.url}
    endpoint = register(models=["cars"])
    refusal = client.post("/v1/forget-requests", json=body, headers=admin_headers)
    assert refusal.status_code == 422
    assert refusal.json()["type"] == "urn:expunge:problem:unknown-callback"
    client.delete(f"{URL}/{endpoint['id']}", headers=admin_headers)
    register()
    assert client.post("/v1/forget-requests", json=body, headers=admin_headers).status_code == 202


def test_a_key_limited_to_models_sees_and_makes_endpoints_of_those_alone(
    register, client, make_key, receiver, post
):
    everything = register()
    limited = make_key(Scope.REQUESTS_READ, Scope.REQUESTS_WRITE, models=["pets"])
    assert client.get(URL, headers=limited).json()["items"] == []
    assert post(everything, "rotate-secret", limited).status_code == 404
    other = receiver.url + "/pets"
    assert client.post(URL, json={"url": other}, headers=limited).status_code == 403
    assert client.post(URL, json={"url": other, "models": ["cars"]}, headers=limited).status_code == 403
    made = client.post(URL, json={"url": other, "models": ["pets"]}, headers=limited)
    assert made.status_code == 201
    assert [item["id"] for item in client.get(URL, headers=limited).json()["items"]] == [made.json()["id"]]


def test_webhooks_need_their_scopes(register, client, make_key, receiver):
    endpoint = register()
    reader = make_key(Scope.REQUESTS_READ)
    assert client.post(URL, json={"url": receiver.url}, headers=reader).status_code == 403
    assert client.delete(f"{URL}/{endpoint['id']}", headers=reader).status_code == 403
    assert client.get(URL, headers=make_key(Scope.MODELS_READ)).status_code == 403
