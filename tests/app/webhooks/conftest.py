import ipaddress
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Receiver:
    """A receiver on loopback that keeps what it gets and answers what the test says."""

    def __init__(self):
        self.received = []
        self.answers = []
        self.headers = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                owner.received.append((dict(self.headers), body))
                self.send_response(owner.answers.pop(0) if owner.answers else 204)
                for name, value in owner.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def payloads(self):
        return [json.loads(body) for _, body in self.received]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def loopback():
    return [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"webhook_allowed_networks": ("127.0.0.0/8",)})


@pytest.fixture
def register(client, admin_headers, receiver):
    """Register the receiver as an endpoint."""

    def register(**fields):
        body = {"url": receiver.url, **fields}
        response = client.post("/v1/webhooks", json=body, headers=admin_headers)
        assert response.status_code == 201, response.text
        return response.json()

    return register


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


@pytest.fixture
def submit(pets, client, admin_headers):
    def submit(**fields):
        body = {"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, **fields}
        response = client.post("/v1/forget-requests", json=body, headers=admin_headers)
        assert response.status_code == 202, response.text
        return response.json()["id"]

    return submit
