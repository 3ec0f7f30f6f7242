"""Audits over HTTP: what is asked, what is refused, and where the answer is found."""

import uuid
from pathlib import Path

import pytest
from sqlalchemy import select

from app.tables import AuditRun, Job, Snapshot, Version
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from app.trust.scopes import Scope
from app.worker.claims import claim
from app.worker.judged_uploads import discard_judged_uploads
from app.worker.settlement import settle_audit

URL = "/v1/audits"
TARGET = {"kind": "records", "ids": ["r1", "r2"]}
RESULT = {
    "method": "external",
    "guarantee": "empirical",
    "verdict": "inconclusive",
    "summary": "Could not be decided.",
    "checks": [],
    "seconds": 0.5,
    "unlearning_seconds": 0.0,
}

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


@pytest.fixture
def ask(client, admin_headers, pets):
    def ask(headers=admin_headers, idempotency_key=None, **fields):
        body = {"model": "pets", "original": 1, "candidate": 1, "target": TARGET} | fields
        more = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return client.post(URL, json=body, headers=headers | more)

    return ask


@pytest.fixture
def get(client, admin_headers):
    return lambda path, headers=admin_headers: client.get(path, headers=headers)


@pytest.fixture
def judge(runtime):
    """Do the next audit with a result that is there already."""

    def judge():
        assignment = claim(runtime.database, runtime.settings, "test")
        settle_audit(runtime.database, assignment, RESULT)
        return assignment

    return judge


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_an_audit_is_accepted_done_and_shown(ask, get, judge, runtime):
    answer = ask(reference="A-1")
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    body = answer.json()
    assert (body["status"], body["verdict"], body["target"]) == (
        "queued",
        None,
        {"kind": "records", "count": 2},
    )

    task = judge().task

    assert [target.target for target in task.targets] == [TARGET]
    assert (task.parent.number, task.candidate.number, task.head) == (1, 1, task.snapshot)
    shown = get(answer.headers["location"]).json()
    assert (shown["status"], shown["verdict"], shown["reference"]) == ("completed", "inconclusive", "A-1")
    assert shown["audit"]["summary"] == RESULT["summary"]
    assert shown["policy"]["retrained_seeds"] == 5
    with runtime.database.read() as session:
        assert session.scalars(select(AuditRun.target)).one() is None, "the ids outlive the audit"


def test_audits_are_listed_in_pages_and_by_verdict(ask, get, judge):
    ids = [ask().json()["id"] for _ in range(3)]
    judge()
    first = get(f"{URL}?limit=2").json()
    second = get(first["next"]).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert [item["id"] for item in get(f"{URL}?verdict=inconclusive").json()["items"]] == [ids[0]]
    assert get(f"{URL}?model=other").json()["items"] == []


def test_the_same_idempotency_key_asks_once(ask, get):
    first, again = ask(idempotency_key="a"), ask(idempotency_key="a")
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert slug(ask(idempotency_key="a", reference="other")) == (422, "idempotency-key-reused")
    assert len(get(URL).json()["items"]) == 1


def test_audits_run_beside_each_other_and_beside_jobs_that_change_the_model(
    ask, runtime, client, admin_headers
):
    ask(), ask()
    request = {"model": "pets", "target": TARGET}
    assert client.post("/v1/forget-requests", json=request, headers=admin_headers).status_code == 202
    claimed = [claim(runtime.database, runtime.settings, "test") for _ in range(4)]
    kinds = [assignment.task.kind.value for assignment in claimed if assignment is not None]
    assert sorted(kinds) == ["audit", "audit", "unlearn"]


@on_sqlite
def test_older_audits_come_before_younger_requests_and_the_other_way_round(
    ask, runtime, client, admin_headers
):
    def request(ids):
        body = {"model": "pets", "target": {"kind": "records", "ids": ids}, "guarantee": "exact"}
        client.post("/v1/forget-requests", json=body, headers=admin_headers)

    request(["r0"])
    ask()
    kinds = [claim(runtime.database, runtime.settings, "test").task.kind.value for _ in range(2)]
    assert kinds == ["unlearn", "audit"]
    ask()
    request(["r3"])
    assert claim(runtime.database, runtime.settings, "test").task.kind.value == "audit"


@on_sqlite
def test_a_waiting_audit_can_be_cancelled_and_loses_its_ids(ask, get, client, admin_headers, runtime):
    body = ask().json()
    answer = client.post(f"/v1/jobs/{body['job']}/cancel", headers=admin_headers)
    assert answer.json()["state"] == "cancelled"
    assert get(f"{URL}/{body['id']}").json()["status"] == "cancelled"
    with runtime.database.read() as session:
        assert session.scalars(select(AuditRun.target)).one() is None


@on_sqlite
@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"model": "nobody"}, (422, "unknown-model")),
        ({"original": 7}, (422, "unknown-version")),
        ({"candidate": 7}, (422, "unknown-version")),
        ({"target": {"kind": "records", "ids": []}}, (422, "invalid-request")),
        ({"target": {"kind": "records", "ids": ["r1", "nobody"]}}, (422, "unknown-ids")),
        ({"target": {"kind": "nodes", "ids": ["r1"]}}, (422, "unsuitable-target")),
        ({"candidate": None}, (422, "invalid-request")),
        ({"unknown": 1}, (422, "invalid-request")),
        ({"original": 2**40}, (422, "invalid-request")),
    ],
)
def test_what_cannot_be_audited_is_refused(ask, unchanged, fields, refusal):
    with unchanged():
        assert slug(ask(**fields)) == refusal


@on_sqlite
def test_what_was_destroyed_cannot_be_audited(ask, runtime, unchanged):
    with runtime.database.write() as session:
        session.scalars(select(Snapshot)).one().state = SnapshotState.DESTROYED
    with unchanged():
        assert slug(ask()) == (409, "snapshot-destroyed")
    with runtime.database.write() as session:
        session.scalars(select(Version)).one().state = VersionState.DESTROYED
    with unchanged():
        assert slug(ask()) == (409, "version-gone")


@on_sqlite
def test_keys_see_and_ask_what_they_are_for(ask, get, make_key):
    audit = ask().json()["id"]
    reader, other = make_key(Scope.MODELS_READ), make_key(Scope.ADMIN, models=["other"])
    assert slug(ask(headers=reader)) == (403, "scope-missing")
    assert slug(ask(headers=other)) == (403, "scope-missing")
    assert get(f"{URL}/{audit}", reader).status_code == 200
    assert slug(get(f"{URL}/{audit}", other)) == (404, "audit-not-found")
    assert get(URL, other).json()["items"] == []
    assert slug(get(f"{URL}/{uuid.uuid4()}")) == (404, "audit-not-found")


def test_an_uploaded_checkpoint_is_kept_until_it_was_judged(registry, runtime, judge):
    registry.model("reader")
    body = {"model": "reader", "original": 1, "target": {"kind": "subjects", "ids": ["s1"]}}

    answer = registry.post(URL, body, registry.checkpoint())

    assert answer.status_code == 202, answer.text
    assert (answer.json()["candidate"], len(answer.json()["checkpoint"])) == (None, 64)
    place = Path(runtime.settings.storage_url) / "audits" / answer.json()["id"]
    assert (place / "config.json").is_file()
    discard_judged_uploads(runtime)
    assert place.is_dir(), "it went before it was judged"
    task = judge().task
    discard_judged_uploads(runtime)
    assert (task.candidate.number, task.candidate.digest) == (0, answer.json()["checkpoint"])
    assert not place.exists()
    with runtime.database.read() as session:
        assert session.scalars(select(AuditRun.location)).one() is None
        assert session.scalars(select(Version.number)).all() == [1], "an upload became a version"
        assert session.scalars(select(Job.state)).one().value == "completed"


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"architecture": "no-such-architecture"}, (422, "unknown-architecture")),
        ({"classes": ["a", "b"]}, (422, "checkpoint-mismatch")),
        ({"format": 99}, (422, "invalid-checkpoint")),
    ],
)
def test_an_upload_that_does_not_fit_is_refused_and_nothing_stays(registry, unchanged, changes, refusal):
    registry.model("reader")
    body = {"model": "reader", "original": 1, "target": {"kind": "subjects", "ids": ["s1"]}}
    with unchanged():
        assert slug(registry.post(URL, body, registry.checkpoint(**changes))) == refusal
    with unchanged():
        assert slug(registry.post(URL, body | {"original": 2}, registry.checkpoint())) == (
            422,
            "unknown-version",
        )


@on_sqlite
def test_the_same_upload_under_the_same_key_asks_once(registry, runtime):
    registry.model("reader")
    body = {"model": "reader", "original": 1, "target": {"kind": "subjects", "ids": ["s1"]}}
    answers = [registry.post(URL, body, registry.checkpoint(), **{"Idempotency-Key": "a"}) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    with runtime.database.read() as session:
        assert len(session.scalars(select(AuditRun)).all()) == 1


@on_sqlite
def test_bodies_that_are_neither_form_are_refused(client, admin_headers):
    assert (
        slug(client.post(URL, content=b"{", headers=admin_headers | {"Content-Type": "application/json"}))[0]
        == 422
    )
    assert slug(client.post(URL, json=[1], headers=admin_headers))[0] == 422
    assert slug(client.post(URL, content=b"x", headers=admin_headers | {"Content-Type": "text/plain"})) == (
        415,
        "unsupported-media-type",
    )
