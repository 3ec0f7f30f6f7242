"""One observation per call: an id, a line, a metric. No path, query or id of what is to be forgotten in any."""

import json
import logging
import re

import pytest
from fastapi.testclient import TestClient

from app.main import create_app

GIVEN = "0af7651916cd43dd8448eb211c80319c"
SUBMISSION = {"model": "pets", "target": {"kind": "records", "ids": ["unmistakable-4711"]}}


@pytest.fixture
def lines(capsys):
    """Read the lines that were written since the last time."""
    access = logging.getLogger("app.access")
    before = access.level
    access.setLevel(logging.INFO)

    def read() -> list[dict]:
        return [
            json.loads(line)
            for line in capsys.readouterr().err.splitlines()
            if line.startswith('{"event": "call"')
        ]

    capsys.readouterr()
    yield read
    access.setLevel(before)


def test_a_call_is_one_line_by_its_routes_template(client, admin_headers, lines):
    client.get("/v1/models/unmistakable-name/versions/7?marker=unmistakable-query", headers=admin_headers)

    [line] = lines()
    assert re.fullmatch("[0-9a-f]{32}", line.pop("request_id"))
    assert line.pop("seconds") > 0
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "event": "call",
        "method": "GET",
        "route": "/v1/models/{name}/versions/{version}",
        "status": 404,
        "level": "info",
        "logger": "app.access",
    }


def test_a_refused_submission_leaves_no_id_in_the_log(client, admin_headers, lines, shelf, capsys, caplog):
    caplog.set_level("DEBUG")
    shelf.model()
    answer = client.post("/v1/forget-requests", json=SUBMISSION, headers=admin_headers)

    assert answer.json()["type"].endswith("unknown-ids")
    assert "unmistakable" not in capsys.readouterr().err + caplog.text


def test_a_good_request_id_is_kept_and_echoed(client, lines):
    answer = client.get("/discovery-of-nothing", headers={"X-Request-ID": GIVEN})

    assert answer.headers["X-Request-ID"] == GIVEN
    assert lines()[0]["request_id"] == GIVEN


@pytest.mark.parametrize("given", ["4711", "a" * 65, 'a"b' * 8, "anna.example@example.org", "é" * 20])
def test_an_id_that_looks_like_no_random_one_is_replaced(client, given):
    answer = client.get("/healthz", headers={"X-Request-ID": given.encode()})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_every_problem_names_the_call(client):
    answer = client.get("/v1/models", headers={"X-Request-ID": GIVEN})
    assert answer.status_code == 401
    assert answer.json()["request_id"] == GIVEN


def test_a_failure_of_the_service_names_the_call_as_well(settings, monkeypatch, lines):
    def fail():
        raise RuntimeError("about unmistakable-4711")

    app = create_app(settings)
    app.get("/fail")(fail)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/fail", headers={"X-Request-ID": GIVEN})

    assert (answer.status_code, answer.json()["request_id"]) == (500, GIVEN)
    assert answer.headers.get_list("X-Request-ID") == [GIVEN]
    assert [(line["route"], line["status"]) for line in lines()] == [("/fail", 500)]


def test_probes_are_logged_only_when_they_fail(client, lines, monkeypatch, runtime):
    client.get("/healthz")
    client.get("/readyz")
    client.get("/metrics")
    assert lines() == []
    monkeypatch.setattr(
        type(runtime.storage), "check", lambda _self: (_ for _ in ()).throw(OSError(5, "broken"))
    )
    client.get("/readyz")
    assert [line["status"] for line in lines()] == [503]


def test_unknown_methods_and_paths_make_no_names(client, lines):
    client.get("/unmistakable-path")
    client.request("BREW", "/v1/methods")

    assert [(line["method"], line["route"]) for line in lines()] == [
        ("GET", "other"),
        ("other", "/v1/methods"),
    ]


def test_the_access_log_can_be_switched_off(settings, lines):
    with TestClient(create_app(settings.model_copy(update={"access_log": False}))) as client:
        client.get("/v1/methods")
    assert lines() == []


def test_a_log_that_nobody_reads_fails_no_call(client, lines, monkeypatch):
    class Closed:
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr("app.telemetry.calls.sys.stderr", Closed())
    assert client.get("/v1/methods").status_code == 401
