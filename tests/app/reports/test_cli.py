"""`expunge audit show` and `expunge audit export` against a real server."""

import json

import pytest

from app.cli.program import run
from app.client import Client
from tests.app.reports.conftest import parse


@pytest.fixture
def expunge(live, admin_headers, published, monkeypatch, capsys):
    words = {"accepted_by": "policy", "outcome": "fail", "reason": "accept.", "reviewer": None, "words": "-"}
    published("finetune", words)
    monkeypatch.setenv("EXPUNGE_URL", live)
    monkeypatch.setenv("EXPUNGE_API_KEY", admin_headers["Authorization"].removeprefix("Bearer "))

    def expunge(*arguments):
        status = run(arguments)
        return status, *capsys.readouterr()

    return expunge


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_report_is_shown_and_exported(expunge, live, admin_headers, tmp_path):
    status, out, err = expunge("audit", "show", "digits", "2")
    assert status == 0, err
    assert "Published without having passed; the policy: accept." in err
    for said in ("finetune", "gradient_ascent", "forget quality (margins) *", "retrain", "fail", "exact"):
        assert said in out
    status, out, _ = expunge("audit", "show", "digits", "2", "--json")
    assert (status, json.loads(out)["version"]) == (0, 2)

    page, data = tmp_path / "report.html", tmp_path / "report.json"
    for path in (page, data):
        status, _, err = expunge("audit", "export", "digits", "2", "--out", str(path))
        assert status == 0, err
        assert str(path) in err.replace("\n", "")
    assert parse(page.read_text()).one("h1").text == "Audit of version 2 of digits"
    assert json.loads(data.read_text())["verdict"] == "fail"
    secret = admin_headers["Authorization"].removeprefix("Bearer ")
    with Client(live, secret) as client:
        assert client.audit_report("digits", 2) == page.read_text()

    status, _, err = expunge("audit", "export", "digits", "2", "--out", str(tmp_path / "report.pdf"))
    assert (status, "must end in .html or .json" in err) == (1, True)
    status, _, err = expunge("audit", "show", "digits", "1")
    assert (status, "has no audit" in err) == (1, True)
