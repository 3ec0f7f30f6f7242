"""Reports over HTTP: which form, what headers, what is kept, and what happens where no page can be drawn."""

import json
import subprocess
import threading
import uuid

import pytest
from sqlalchemy import select

from app.reports import printing
from app.reports.errors import ReportBusyError, ReportFailedError
from app.tables import ApiKey, AuditRun, ForgetRequest, Job
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.trust.scopes import Scope
from tests.app.reports.conftest import NOW, one_line, parse

PATH = "/v1/models/digits/versions/2/audit"
HTML = {"Accept": "text/html"}
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def get(client, admin_headers):
    return lambda path=PATH, **headers: client.get(path, headers=admin_headers | headers)


@pytest.fixture
def page_of_nothing(monkeypatch):
    """Draw nothing, at once."""

    def run(command, **options):
        return subprocess.CompletedProcess(command, 0, b"<!doctype html>" + options["input"], b"")

    monkeypatch.setattr(printing.subprocess, "run", run)


def request(model, job_id, kind="records", count=20, **fields):
    return ForgetRequest(
        id=uuid.uuid4(),
        model_id=model.id,
        target={"kind": kind, "ids": ["unmistakable-id"]},
        commitment_key=b"k" * 32,
        target_kind=kind,
        target_count=count,
        guarantee="any",
        method="auto",
        parameters={},
        group_key="0" * 64,
        status=RequestStatus.COMPLETED,
        due_at=NOW,
        job_id=job_id,
        version=2,
        created_at=NOW,
        updated_at=NOW,
        **fields,
    )


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_json_says_what_was_asked_done_and_tried(published, runtime, get, rungs):
    words = {
        "accepted_by": "person",
        "outcome": "fail",
        "reason": "The deadline is on Monday.",
        "reviewer": "dpo",
        "words": "dpo accepted it.",
    }
    model, job_id = published("finetune", words)
    with runtime.database.write() as session:
        session.add(request(model, job_id, reference="DSR-2"))
        session.add(request(model, job_id, reference="DSR-1"))
        session.add(request(model, job_id, kind="subjects", count=1))
    answer = get()
    assert (answer.status_code, answer.headers["vary"]) == (200, "Accept")
    shown = answer.json()
    assert shown["asked"] == {
        "requests": 3,
        "targets": [
            {"kind": "records", "requests": 2, "count": 40},
            {"kind": "subjects", "requests": 1, "count": 1},
        ],
        "guarantee": "any",
        "method": "auto",
        "parameters": {},
        "references": ["DSR-1", "DSR-2"],
        "further_references": 0,
    }
    assert "unmistakable" not in answer.text
    assert (shown["model"], shown["version"], shown["parent"]) == ("digits", 2, 1)
    assert (shown["made"]["method"], shown["made"]["seed"]) == ("finetune", 7)
    assert shown["acceptance"] == {"by": "person", "reviewer": "dpo", "reason": "The deadline is on Monday."}
    assert shown["policy"]["retrained_seeds"] == 5
    assert [rung["method"] for rung in shown["ladder"] if rung["chosen"]] == ["finetune"]
    for row, rung in zip(shown["ladder"], rungs, strict=True):
        checks = rung["audit"]["checks"] if rung["audit"] is not None else []
        gating = [check for check in checks if check["gating"] and check["name"] != "power"]
        for name, group in (("utility", "utility"), ("forget_quality", "forgetting")):
            found = [check["value"] for check in gating if check["group"] == group]
            assert (row[name]["value"] if row[name] is not None else None) == (found[0] if found else None)
        assert (row["failure"], row["seconds"]) == (rung["failure"], rung["seconds"])
    finetuned = next(rung for rung in rungs if rung["method"] == "finetune")
    for name in ("checks", "distributions", "curves", "strata", "references", "power", "verdict", "summary"):
        assert shown[name] == finetuned["audit"][name], "a client of the audit's own fields is left alone"


@on_sqlite
def test_a_browser_gets_the_page_and_programs_json(published, get):
    published()
    page = get(**HTML)
    assert page.status_code == 200, page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["vary"] == "Accept"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert page.headers["x-content-type-options"] == "nosniff"
    root = parse(page.text)
    assert one_line(root.one("h1").text) == "Audit of version 2 of digits"
    assert "Not begun: acu. Not of this kind." in one_line(root.one("main").text)
    for accept in ("*/*", "application/json"):
        assert get(Accept=accept).json()["version"] == 2


@on_sqlite
def test_latest_leads_to_the_page_of_its_number(published, runtime, get, page_of_nothing):
    published()
    answer = get("/v1/models/digits/versions/latest/audit", **HTML)
    assert answer.status_code == 307
    assert answer.headers["location"] == "/v1/models/digits/versions/1/audit"
    assert slug(get(answer.headers["location"], **HTML)) == (404, "audit-not-found")


@on_sqlite
def test_a_page_is_drawn_once(published, get, page_of_nothing, drawn, settings):
    published()
    first, second = get(**HTML), get(**HTML)
    assert first.content == second.content
    assert len(drawn) == 1
    assert len(list((settings.cache_dir / "reports").glob("*.html"))) == 1


def test_the_oldest_pages_are_let_go(sheet_of, page_of_nothing, tmp_path, monkeypatch):
    monkeypatch.setattr(printing, "MOST_PAGES", 2)
    for version in (2, 3, 4):
        printing.page(sheet_of(version=version), tmp_path)
    assert len(list((tmp_path / "reports").iterdir())) == 2


def test_another_template_is_another_page(sheet_of, page_of_nothing, tmp_path, monkeypatch):
    for template in ("one", "two"):
        monkeypatch.setattr(printing, "template_version", lambda template=template: template)
        printing.page(sheet_of(), tmp_path)
    assert len(list((tmp_path / "reports").iterdir())) == 2


@on_sqlite
def test_without_the_libraries_json_goes_on(published, get, monkeypatch):
    published()
    monkeypatch.setattr(printing, "LIBRARIES", ("jinja2", "no_such_library"))
    answer = get(**HTML)
    assert slug(answer) == (501, "report-not-installed")
    assert "no_such_library must be installed" in answer.json()["detail"]
    assert "pip install 'expunge[report]'" in answer.json()["detail"]
    assert get().json()["version"] == 2


@on_sqlite
def test_a_key_for_another_model_gets_neither_form(published, client, make_key):
    published()
    headers = make_key(Scope.MODELS_READ, models=["other"])
    for accept in ("text/html", "application/json"):
        assert slug(client.get(PATH, headers=headers | {"Accept": accept})) == (403, "scope-missing")


@on_sqlite
def test_a_drawing_that_fails_is_a_problem_and_is_not_kept(published, get, monkeypatch, settings):
    published()

    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, b"<!doctype html>half", b"Traceback\nValueError: no\n")

    monkeypatch.setattr(printing.subprocess, "run", run)
    assert slug(get(**HTML)) == (500, "report-failed")
    assert not (settings.cache_dir / "reports").exists()


def test_a_drawing_that_takes_too_long_is_ended(sheet_of, tmp_path, monkeypatch):
    def run(command, *, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(printing.subprocess, "run", run)
    with pytest.raises(ReportFailedError, match="longer than 60 seconds"):
        printing.page(sheet_of(), tmp_path)
    assert printing._turns.acquire(blocking=False), "its turn was not given back"
    printing._turns.release()


def test_no_more_pages_are_drawn_at_once_than_may_be(sheet_of, tmp_path, monkeypatch):
    monkeypatch.setattr(printing, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(printing, "_turns", threading.BoundedSemaphore(1))
    inside, done = threading.Event(), threading.Event()

    def run(command, **options):
        inside.set()
        assert done.wait(20)
        return subprocess.CompletedProcess(command, 0, b"page", b"")

    monkeypatch.setattr(printing.subprocess, "run", run)
    first = threading.Thread(target=printing.page, args=(sheet_of(), tmp_path))
    first.start()
    assert inside.wait(20)
    with pytest.raises(ReportBusyError) as refused:
        printing.page(sheet_of(version=3), tmp_path)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "2")
    done.set()
    first.join(20)


def test_the_drawing_process_learns_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in json.dumps(printing._environment(tmp_path))


@on_sqlite
def test_an_independent_audit_is_answered_in_both_forms(
    shelf, runtime, make_key, get, rungs, page_of_nothing
):
    model = shelf.model("digits")
    make_key(Scope.ADMIN)
    job_id, audit_id = uuid.uuid4(), uuid.uuid4()
    with runtime.database.write() as session:
        key_id = session.scalars(select(ApiKey.id).limit(1)).one()
        state = {"state": JobState.COMPLETED, "created_at": NOW, "finished_at": NOW}
        session.add(Job(id=job_id, model_id=model.id, kind=JobKind.AUDIT, attempts=1, **state))
        session.flush()
        session.add(
            AuditRun(
                id=audit_id,
                model_id=model.id,
                api_key_id=key_id,
                job_id=job_id,
                parent_version=1,
                candidate_version=1,
                target_kind="records",
                target_count=2,
                reference="A-1",
                verdict="fail",
                result=rungs[0]["audit"],
                created_at=NOW,
            )
        )
    path = f"/v1/audits/{audit_id}"
    shown = get(path)
    assert (shown.headers["vary"], shown.json()["reference"]) == ("Accept", "A-1")
    page = get(path, **HTML)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    sheet = json.loads(page.text.removeprefix("<!doctype html>"))
    assert (sheet["independent"]["id"], sheet["independent"]["status"]) == (str(audit_id), "completed")
    assert sheet["audit"]["checks"] == rungs[0]["audit"]["checks"]
