import datetime as dt
import socket
import threading

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.webhooks.sending import Parcel, send

SECRET = b"s" * 32
OTHER = b"o" * 32


def parcel(url, *secrets):
    return Parcel("msg_1", url, {"type": "forget_request.completed", "data": {"ä": 1}}, secrets or (SECRET,))


def now():
    return dt.datetime.now(dt.UTC)


def test_a_receiver_verifies_the_message_with_the_public_library(receiver, loopback):
    assert send(parcel(receiver.url), now(), loopback).error is None
    headers, body = receiver.received[0]
    assert Webhook(SECRET).verify(body, headers)["data"] == {"ä": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace("1", "2"), headers)


def test_both_secrets_sign_during_a_rotation(receiver, loopback):
    send(parcel(receiver.url, OTHER, SECRET), now(), loopback)
    headers, body = receiver.received[0]
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(body, headers)


def test_a_message_that_is_replayed_later_is_refused_by_the_receiver(receiver, loopback):
    send(parcel(receiver.url), now() - dt.timedelta(minutes=6), loopback)
    headers, body = receiver.received[0]
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(body, headers)


@pytest.mark.parametrize("status", [300, 307, 400, 404, 410, 500, 503])
def test_every_answer_but_success_is_a_failure(receiver, loopback, status):
    receiver.answers = [status]
    delivery = send(parcel(receiver.url), now(), loopback)
    assert delivery.status == status
    assert str(status) in delivery.error
    assert delivery.gone == (status == 410)


def test_a_redirect_is_not_followed(receiver, loopback):
    receiver.answers = [302]
    receiver.headers = {"Location": receiver.url}
    delivery = send(parcel(receiver.url), now(), loopback)
    assert "redirect" in delivery.error
    assert len(receiver.received) == 1


def test_a_private_address_is_refused_when_the_message_is_sent(receiver):
    delivery = send(parcel(receiver.url), now(), [])
    assert delivery.status is None
    assert "not public" in delivery.error
    assert receiver.received == []


def test_a_name_that_changes_its_address_gains_nothing(receiver, loopback, monkeypatch):
    """DNS rebinding: the name is resolved once, and that answer is judged and used."""
    asked = []
    real = socket.getaddrinfo

    def getaddrinfo(host, *rest, **options):
        if host != "rebinding.example.org":
            return real(host, *rest, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", rest[0]))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = receiver.url.replace("127.0.0.1", "rebinding.example.org")
    assert send(parcel(url), now(), loopback).error is None
    assert asked == ["rebinding.example.org"]


def test_a_receiver_that_is_not_there_is_a_failure(loopback):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        delivery = send(parcel(f"http://127.0.0.1:{taken.getsockname()[1]}/"), now(), loopback)
    assert delivery.status is None
    assert "could not be reached" in delivery.error


def test_an_answer_that_is_not_http_is_a_failure(loopback):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def answer():
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"\0\1\2 nonsense\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        delivery = send(parcel(f"http://127.0.0.1:{server.getsockname()[1]}/"), now(), loopback)
        thread.join()
    assert delivery.status is None
    assert delivery.error
