import base64
import json
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from app.database import database_now
from app.forget_requests.limits import OpenRequests, TooManyOpenRequestsError
from app.forget_requests.states import change_status
from app.tables import Base, ForgetRequest, OpenDsrRequest
from app.tables.forget_request import RequestStatus
from app.trust.scopes import Scope
from app.webhooks.dispatcher import Dispatcher
from tests.app.opendsr.conftest import DOMAIN
from tests.app.webhooks.conftest import Receiver

URL = "/opendsr/requests"
ID = "a7551968-d5d6-44b2-9831-815ac9017798"


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


def request_body(**changes):
    return {
        "regulation": "gdpr",
        "subject_request_id": ID,
        "subject_request_type": "erasure",
        "submitted_time": "2026-10-02T15:00:00Z",
        "subject_identities": [
            {"identity_type": "controller_customer_id", "identity_value": "s1", "identity_format": "raw"}
        ],
        "api_version": "2.0",
        "extensions": {DOMAIN: {"model": "pets"}, "other.example.org": {"id": 5}},
    } | changes


@pytest.fixture
def post(client, admin_headers, pets):
    def post(headers=admin_headers, **changes):
        return client.post(URL, json=request_body(**changes), headers=headers)

    return post


@pytest.fixture
def move(runtime):
    def move(*states, number=0):
        with runtime.database.write() as session:
            request = session.scalars(select(ForgetRequest).order_by(ForgetRequest.id)).all()[number]
            for state in states:
                change_status(session, [request], state, "moved", database_now(session))

    return move


def verify(client, response):
    """Check an answer's signature with the certificate that discovery names."""
    discovery = client.get("/opendsr/discovery").json()
    path = discovery["processor_certificate"].removeprefix(f"https://{DOMAIN}")
    certificate = x509.load_pem_x509_certificate(client.get(path).content)
    signature = base64.b64decode(response.headers["X-OpenDSR-Signature"])
    certificate.public_key().verify(signature, response.content, ec.ECDSA(hashes.SHA256()))
    assert response.headers["X-OpenDSR-Processor-Domain"] == DOMAIN


def test_an_erasure_becomes_a_forget_request(post, client, admin_headers):
    response = post()
    assert response.status_code == 201, response.text
    verify(client, response)
    receipt = response.json()
    assert receipt["subject_request_id"] == ID
    assert json.loads(base64.b64decode(receipt["encoded_request"])) == request_body()
    (request,) = client.get("/v1/forget-requests", headers=admin_headers).json()["items"]
    assert request["target"] == {"kind": "subjects", "count": 1}
    assert (request["reference"], request["model"], request["status"]) == (ID, "pets", "pending")
    assert receipt["expected_completion_time"] == request["due_at"]


def test_the_extension_may_name_any_target_method_and_guarantee(post, client, admin_headers):
    extension = {
        "model": "pets",
        "target": {"kind": "records", "ids": ["r1", "r2"]},
        "method": "acu",
        "guarantee": "exact",
        "parameters": {"solve": "update"},
    }
    assert post(subject_identities=[], extensions={DOMAIN: extension}).status_code == 201
    (request,) = client.get("/v1/forget-requests", headers=admin_headers).json()["items"]
    assert request["target"] == {"kind": "records", "count": 2}
    assert (request["method"], request["guarantee"]) == ("acu", "exact")


def test_every_model_of_a_dataset_is_completed_together(post, client, admin_headers, shelf, pets, move):
    shelf.model("cars", pets.dataset_id)
    extensions = {DOMAIN: {"model": "*", "dataset": str(pets.dataset_id)}}
    assert post(extensions=extensions).status_code == 201

    def status():
        response = client.get(f"{URL}/{ID}", headers=admin_headers)
        verify(client, response)
        return response.json()["request_status"]

    assert status() == "pending"
    move(RequestStatus.RUNNING, RequestStatus.COMPLETED, number=0)
    assert status() == "in_progress"
    move(RequestStatus.RUNNING, RequestStatus.NEEDS_REVIEW, number=1)
    assert status() == "in_progress"
    move(RequestStatus.COMPLETED, number=1)
    assert status() == "completed"


def test_a_refused_request_is_cancelled_in_opendsr_words(post, client, admin_headers, move):
    post()
    move(RequestStatus.REFUSED)
    assert client.get(f"{URL}/{ID}", headers=admin_headers).json()["request_status"] == "cancelled"


def test_a_pending_request_is_cancelled(post, client, admin_headers):
    post()
    response = client.delete(f"{URL}/{ID}", headers=admin_headers)
    assert response.status_code == 202
    verify(client, response)
    assert client.get(f"{URL}/{ID}", headers=admin_headers).json()["request_status"] == "cancelled"


def test_a_request_under_way_is_not_cancelled(post, client, admin_headers, move):
    post()
    move(RequestStatus.RUNNING)
    response = client.delete(f"{URL}/{ID}", headers=admin_headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == 400


def test_a_repetition_is_answered_like_the_first_time_and_stored_once(post, client, admin_headers):
    first, again = post(), post()
    assert again.status_code == 201
    assert again.json() == first.json()
    assert len(client.get("/v1/forget-requests", headers=admin_headers).json()["items"]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"extensions": {DOMAIN: {"model": "cars"}}},
        {"extensions": {DOMAIN: {"model": "pets", "guarantee": "exact"}}},
        {
            "subject_identities": [
                {"identity_type": "controller_customer_id", "identity_value": "s2", "identity_format": "raw"}
            ]
        },
    ],
)
def test_another_request_under_the_same_id_is_refused(post, shelf, changes):
    shelf.model("cars")
    post()
    response = post(**changes)
    assert response.status_code == 400
    assert "used before" in response.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"subject_request_type": "access"}, "not supported"),
        ({"regulation": "lgpd"}, "regulation"),
        ({"subject_request_id": "5"}, "subject_request_id"),
        ({"submitted_time": "yesterday"}, "submitted_time"),
        ({"extensions": {}}, "extensions"),
        ({"extensions": {DOMAIN: {"model": "pets", "secret": 1}}}, "secret"),
        ({"extensions": {DOMAIN: {}}}, "model"),
        ({"extensions": {DOMAIN: {"model": "nobody"}}}, "nobody"),
        ({"subject_identities": []}, "target"),
        (
            {
                "subject_identities": [
                    {"identity_type": "email", "identity_value": "who@example.org", "identity_format": "raw"}
                ]
            },
            "controller_customer_id",
        ),
        ({"extensions": {DOMAIN: {"model": "pets", "target": {"kind": "records", "ids": ["r1"]}}}}, "either"),
        ({"status_callback_urls": ["https://10.0.0.1/"]}, "not public"),
        ({"unknown_field": 1}, "unknown_field"),
    ],
)
def test_a_bad_request_is_refused_with_400_and_an_error_object(post, unchanged, changes, word):
    with unchanged():
        response = post(**changes)
        assert response.status_code == 400
        assert word in response.json()["detail"]
        assert response.json()["error"]["message"] == response.json()["detail"]
        assert "who@example.org" not in response.text


def test_a_body_that_is_not_json_is_refused_without_being_quoted(client, admin_headers, unchanged):
    with unchanged():
        response = client.post(URL, content=b"who@example.org", headers=admin_headers)
        assert response.status_code == 400
        assert "example.org" not in response.text


def test_an_unknown_person_is_not_named_in_the_refusal(post, unchanged):
    identity = {"identity_type": "controller_customer_id", "identity_value": "jane", "identity_format": "raw"}
    with unchanged():
        response = post(subject_identities=[identity])
        assert response.status_code == 400
        assert "jane" not in response.text


def test_neither_the_body_nor_its_encoding_is_stored_or_logged(post, runtime, caplog):
    caplog.set_level(logging.DEBUG)
    encoded = post().json()["encoded_request"]
    post()
    with runtime.database.read() as session:
        for table in Base.metadata.sorted_tables:
            for row in session.execute(select(table)):
                assert encoded not in str(row)
    assert encoded not in caplog.text
    assert "controller_customer_id" not in caplog.text


def test_callbacks_tell_each_change_signed_by_the_certificate(post, runtime, client, move):
    receiver = Receiver()
    try:
        assert post(status_callback_urls=[receiver.url]).status_code == 201
        move(RequestStatus.RUNNING, RequestStatus.COMPLETED)
        dispatcher = Dispatcher(runtime, threading.Event())
        with ThreadPoolExecutor(1) as senders:
            dispatcher.step(senders)
    finally:
        receiver.close()
    assert [payload["request_status"] for payload in receiver.payloads] == ["in_progress", "completed"]
    certificate = x509.load_pem_x509_certificate(client.get("/opendsr/certificate.pem").content)
    for headers, body in receiver.received:
        signature = base64.b64decode(headers["X-OpenDSR-Signature"])
        certificate.public_key().verify(signature, body.encode(), ec.ECDSA(hashes.SHA256()))
        assert json.loads(body)["status_callback_url"] == receiver.url
        assert json.loads(body)["subject_request_id"] == ID


def test_keys_and_scopes_hold_here_too(post, client, make_key):
    assert client.post(URL, json=request_body()).status_code == 401
    assert post(headers=make_key(Scope.REQUESTS_READ)).status_code == 403
    assert post(headers=make_key(Scope.REQUESTS_WRITE, models=["cars"])).status_code == 403
    post()
    stranger = make_key(Scope.REQUESTS_READ, models=["cars"])
    assert client.get(f"{URL}/{ID}", headers=stranger).status_code == 404
    assert client.get(f"{URL}/{uuid.uuid4()}", headers=make_key(Scope.REQUESTS_READ)).status_code == 404


def test_discovery_says_what_is_supported(client):
    response = client.get("/opendsr/discovery")
    verify(client, response)
    assert response.json()["supported_subject_request_types"] == ["erasure"]
    assert response.json()["supported_identities"] == [
        {"identity_type": "controller_customer_id", "identity_format": "raw"}
    ]


def test_when_the_person_asked_is_kept(post, runtime):
    post()
    with runtime.database.read() as session:
        request = session.get_one(OpenDsrRequest, uuid.UUID(ID))
        assert request.submitted_at.isoformat() == "2026-10-02T15:00:00+00:00"


def test_too_many_open_requests_are_429_here_too(post, pets, monkeypatch):
    def refuse(*_):
        raise TooManyOpenRequestsError("This API key", 2)

    monkeypatch.setattr(OpenRequests, "admit", refuse)
    assert post().status_code == 429
