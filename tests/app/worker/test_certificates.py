"""Certificates and the log as publications make them: over HTTP to a stranger's verification, on both databases."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema_rs
import model_signing
import pytest
from sqlalchemy import select, text

from app.tables import Certificate, ForgetRequest, LogLeaf, Version
from app.trust.certificates.bundle import MEDIA_TYPE, Bundle
from app.trust.certificates.commitments import commitment_root
from app.trust.certificates.verification import TrustedKeys, verify_certificate
from app.trust.log.check import check_log
from app.trust.log.merkle import grow, leaf_hash
from app.trust.log.notes import TreeHead, VerifierKey, verify_note
from app.trust.signing import SigningKeyError, read_public_keys
from app.worker.worker import Worker, run_worker
from models.checkpoint import MANIFEST_NAME, Manifest

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "certificate.schema.json").read_text())
URL = "/v1/forget-requests"
POLICY_WORDS = "The policy accepted it although its audit did not pass"


@pytest.fixture
def keys(runtime) -> TrustedKeys:
    return TrustedKeys(dict(read_public_keys(runtime.signing.require().certificates.pem.encode())))


@pytest.fixture
def download(client, admin_headers, tmp_path):
    """Download a version as a client would, file by file."""

    def download(model, number) -> Path:
        base = f"/v1/models/{model.name}/versions/{number}"
        manifest = client.get(f"{base}/manifest", headers=admin_headers)
        directory = tmp_path / f"{model.name}-{number}"
        directory.mkdir(exist_ok=True)
        (directory / MANIFEST_NAME).write_bytes(manifest.content)
        for entry in Manifest.from_json(manifest.json()).files:
            content = client.get(f"{base}/files/{entry.path}", headers=admin_headers).content
            (directory / entry.path).write_bytes(content)
        return directory

    return download


@pytest.fixture
def certificate(client, admin_headers):
    """Download a certificate; every one made in these tests keeps to its schema."""

    def certificate(request_id) -> bytes:
        response = client.get(f"{URL}/{request_id}/certificate", headers=admin_headers)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == MEDIA_TYPE
        jsonschema_rs.validate(SCHEMA, json.loads(Bundle.parse(response.content).payload))
        return response.content

    return certificate


def predicate(content):
    return json.loads(Bundle.parse(content).payload)["predicate"]


def entries(runtime):
    with runtime.database.read() as session:
        leaves = session.scalars(select(LogLeaf).order_by(LogLeaf.position))
        return [(leaf.kind, json.loads(leaf.payload)["body"]) for leaf in leaves]


def faults(runtime, kept=()):
    with runtime.database.read() as session:
        return check_log(session, kept).faults


def test_a_completed_request_has_a_certificate_that_verifies(
    yard, worker, runtime, certificate, download, keys, client, admin_headers
):
    model = yard.model()
    request_id = yard.request(model, "r1", "r2")
    assert client.get(f"{URL}/{request_id}/certificate", headers=admin_headers).status_code == 404
    worker.run_until_idle()

    content = certificate(request_id)
    directory = download(model, 2)
    verified = verify_certificate(content, directory, keys)
    said = verified.predicate
    assert said["request"]["id"] == str(request_id)
    assert said["request"]["target"] == {"count": 2, "kind": "records"}
    assert said["request"]["forgotten"] == {
        "records": 2,
        "root": commitment_root(b"c" * 32, ["r1", "r2"]).hex(),
    }
    assert said["data"]["retained"]["records"] == 10
    assert (
        said["data"]["retained"]["root"]
        == commitment_root(b"k" * 32, {f"r{number}" for number in range(12)} - {"r1", "r2"}).hex()
    )
    assert said["parent"] == {"version": 1, "manifest_sha256": yard.get(Version, (model.id, 1)).digest}
    assert said["predecessors"]["versions"] == [1]
    assert verified.tree_head.size == 3
    assert entries(runtime) == [
        (
            "certificate",
            {
                "envelope_sha256": Bundle.parse(content).envelope_sha256(),
                "model": str(model.id),
                "request": str(request_id),
                "version": 2,
            },
        ),
        *(
            (
                "version",
                {
                    "manifest_sha256": yard.get(Version, (model.id, number)).digest,
                    "model": str(model.id),
                    "state": state,
                    "version": number,
                },
            )
            for number, state in ((1, "quarantined"), (2, "published"))
        ),
    ]
    assert faults(runtime) == []
    for name in ("r1", "r2"):
        assert f'"{name}"' not in Bundle.parse(content).payload.decode()


def test_requests_of_one_job_have_certificates_of_their_own(
    yard, worker, runtime, certificate, download, keys
):
    model = yard.model()
    first, second = yard.request(model, "r1"), yard.request(model, "s2", "s3", kind="subjects")
    worker.run_until_idle()
    directory = download(model, 2)
    one, two = (verify_certificate(certificate(name), directory, keys) for name in (first, second))
    assert [one.index, two.index, one.tree_head.size] == [0, 1, 4]
    assert two.predicate["request"]["target"] == {"count": 2, "kind": "subjects"}
    assert two.predicate["request"]["forgotten"]["root"] == commitment_root(b"c" * 32, ["r2", "r3"]).hex()
    alike = [
        {name: value for name, value in said.predicate.items() if name != "request"} for said in (one, two)
    ]
    assert alike[0] == alike[1]
    assert faults(runtime) == []


def test_a_head_that_moves_while_publishing_changes_nothing_of_the_certificate(
    yard, runtime, executor, certificate, download, keys
):
    dataset_id = yard.dataset()
    model, other = yard.model("cats", dataset_id), yard.model("dogs", dataset_id)
    request_id = yard.request(model, "r1")

    def overtaken(task, place):
        yard.grow(dataset_id, ["n1", "n2"])
        yield executor.forget(task, place)

    executor.scripts = [overtaken, executor.succeed]
    Worker(runtime, executor, threading.Event()).run_until_idle()
    said = verify_certificate(certificate(request_id), download(model, 2), keys).predicate
    assert said["data"]["retained"]["records"] == 11
    yard.request(other, "n1")
    assert faults(runtime) == []


def test_a_persons_acceptance_is_certified_with_reason_and_reviewer(
    yard, worker, executor, runtime, client, admin_headers, certificate, download, keys
):
    model = yard.model()
    executor.scripts = [lambda task, place: iter([executor.forget(task, place, passed=False)])]
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    body = {"decision": "accept", "reason": "measured by hand"}
    assert client.post(f"{URL}/{request_id}/review", json=body, headers=admin_headers).status_code == 200
    said = verify_certificate(certificate(request_id), download(model, 2), keys).predicate
    assert said["verdict"]["words"].startswith(
        "test accepted it although its audit did not pass: measured by"
    )
    assert (said["verdict"]["accepted_by"], said["verdict"]["reviewer"]) == ("person", "test")
    assert faults(runtime) == []


def test_an_inconclusive_audit_that_the_policy_accepts_is_certified_as_such(
    yard, worker, executor, certificate
):
    model = yard.model()
    audit = {
        "method": "acu",
        "guarantee": "exact",
        "verdict": "inconclusive",
        "summary": "It had no power.",
        "checks": [],
        "seconds": 0.1,
        "unlearning_seconds": 0.2,
    }

    def inconclusive(task, place):
        finished = executor.forget(task, place)
        candidate = finished.candidate.model_copy(update={"audit": audit})
        yield type(finished)(**{**vars(finished), "candidate": candidate})

    executor.scripts = [inconclusive]
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    verdict = predicate(certificate(request_id))["verdict"]
    assert (verdict["accepted_by"], verdict["outcome"]) == ("policy", "inconclusive")
    assert verdict["words"].startswith(POLICY_WORDS)


def test_a_retry_that_is_published_again_leaves_one_certificate_per_request(yard, worker, runtime):
    model = yard.model()
    ids = [f"r{number}" for number in range(8)]
    yard.requests(model, ids)
    worker.run_until_idle()
    with runtime.database.read() as session:
        served = session.scalars(select(ForgetRequest.id)).all()
        certified = session.scalars(select(Certificate.forget_request_id)).all()
    assert sorted(served) == sorted(certified)
    assert len(certified) == 8


def test_the_database_refuses_a_changed_certificate(yard, worker, runtime):
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    for statement in (
        "UPDATE certificates SET own = '{}'",
        "DELETE FROM certificates",
        "UPDATE certificate_frames SET text = ''",
        "UPDATE model_signatures SET bundle = ''",
        "DELETE FROM signing_keys",
    ):
        with (
            pytest.raises(Exception, match="never changed or deleted"),
            runtime.database.write() as session,
        ):
            session.execute(text(statement))


def test_publications_over_many_models_at_once_make_one_log(yard, runtime, executor):
    dataset_id = yard.dataset()
    models = [yard.model(f"model-{number}", dataset_id) for number in range(3)]
    requests = [
        yard.request(model, f"r{2 * place + turn}", group_key=f"{turn}" * 64)
        for place, model in enumerate(models)
        for turn in range(2)
    ]

    def work_until_all_is_done(_):
        worker = Worker(runtime, executor, threading.Event())
        while yard.statuses(*requests) != ["completed"] * 6:
            worker.run_until_idle()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work_until_all_is_done, range(3)))
    with runtime.database.read() as session:
        check = check_log(session)
    # Each of six publications: a certificate, a new version, a quarantined one.
    assert (check.size, check.certificates, check.faults) == (18, 6, [])


def test_a_worker_without_a_signing_key_does_not_start(settings, executor, tmp_path):
    without = settings.model_copy(update={"signing_key_file": tmp_path / "none.pem"})
    with pytest.raises(SigningKeyError, match="There is no signing key"):
        run_worker(without, stop=threading.Event(), executor=executor)


def test_an_acceptance_without_a_signing_key_is_refused_and_changes_nothing(
    yard, worker, executor, runtime, client, admin_headers, unchanged
):
    model = yard.model()
    executor.scripts = [lambda task, place: iter([executor.forget(task, place, passed=False)])]
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    runtime.settings.signing_key_file.unlink()
    body = {"decision": "accept", "reason": "measured by hand"}
    with unchanged():
        response = client.post(f"{URL}/{request_id}/review", json=body, headers=admin_headers)
        assert (response.status_code, response.json()["type"]) == (503, "urn:expunge:problem:no-signing-key")
        response = client.get("/v1/log/checkpoint", headers=admin_headers)
        assert response.status_code == 503
    assert yard.statuses(request_id) == ["needs_review"]


def test_model_sig_verifies_with_the_model_signing_package(
    yard, worker, runtime, download, client, admin_headers, tmp_path
):
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    directory = download(model, 2)
    response = client.get("/v1/models/pets/versions/2/model.sig", headers=admin_headers)
    signature, public = tmp_path / "model.sig", tmp_path / "checkpoints.pub"
    signature.write_bytes(response.content)
    public.write_text(runtime.signing.require().checkpoints.pem)
    verifying = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifying.verify(directory, signature)
    # It may lie beside the files, as that format has it, and then does not count as one of them.
    (directory / "model.sig").write_bytes(response.content)
    verifying.verify(directory, directory / "model.sig")
    (directory / "config.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match="mismatch"):
        verifying.verify(directory, signature)


def test_registered_and_quarantined_versions_have_no_model_sig(yard, worker, client, admin_headers):
    model = yard.model()
    url = "/v1/models/pets/versions/1/model.sig"
    response = client.get(url, headers=admin_headers)
    assert (response.status_code, response.json()["type"]) == (404, "urn:expunge:problem:signature-not-found")
    yard.request(model, "r1")
    worker.run_until_idle()
    assert client.get(url, headers=admin_headers).status_code == 403
    latest = client.get("/v1/models/pets/versions/latest/model.sig", headers=admin_headers)
    assert (latest.status_code, latest.headers["location"]) == (307, "/v1/models/pets/versions/2/model.sig")


def test_old_certificates_verify_under_the_old_key_after_rotation(
    yard, worker, runtime, keys, download, client, admin_headers, certificate, service
):
    model = yard.model()
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    old = runtime.signing.require()
    runtime.signing.replace()
    fresh = type(runtime.signing)(runtime.settings.signing_key_file, runtime.settings.log_origin).require()
    logs = [VerifierKey("test.example/log", fresh.verifier_key.public_key)]
    verify_certificate(certificate(request_id), download(model, 2), TrustedKeys(keys.certificates, logs))
    listed = client.get("/v1/log/key", headers=admin_headers).json()
    assert listed["vkey"] == str(fresh.verifier_key)
    current = {key["id"]: key["current"] for key in listed["keys"]}
    assert current[old.certificates.id] is False
    assert current[fresh.certificates.id] is True


TAMPERINGS = {
    "UPDATE log_leaves SET payload = replace(payload, '\"quarantined\"', '\"published\"')": "were changed",
    "DELETE FROM log_leaves WHERE position = 5": "gone|signed, and there are",
    "DELETE FROM log_leaves WHERE position = 1": "is missing",
    "UPDATE log_subtrees SET hash = (SELECT hash FROM log_subtrees WHERE level = 2) WHERE level = 1 AND place = 1": (
        "entries 2 to 3 is not theirs"
    ),
    "DELETE FROM log_subtrees WHERE level = 2": "entries 0 to 3 is not theirs",
    "UPDATE certificates SET own = replace(own, '\"records\"\\:1', '\"records\"\\:2')": "not the one in the log",
    "DELETE FROM certificates WHERE leaf = 0": "certificate of entry 0 is gone",
    "UPDATE versions SET state = 'published' WHERE number = 1": "is published .* the log says quarantined",
    "UPDATE versions SET digest = repeated WHERE number = 3": "the log says published",
}


def test_what_an_administrator_changes_behind_the_triggers_is_found(yard, worker, runtime, subtests):
    model = yard.model()
    for name in ("r1", "r2"):
        yard.request(model, name)
        worker.run_until_idle()
    with runtime.database.read() as session:
        before = check_log(session)
    assert (before.size, before.faults) == (6, [])
    kept = [TreeHead("test.example/log", before.size, before.root)]
    assert faults(runtime, kept) == []
    for statement, message in TAMPERINGS.items():
        with subtests.test(statement), runtime.database.read() as session:
            session.execute(text("SELECT 1"))
            drop_triggers(session, runtime.database.dialect)
            session.execute(text(statement.replace("repeated", f"'{'0' * 64}'")))
            found = " ".join(check_log(session, kept).faults)
            session.rollback()
            assert re.search(message, found), found
    assert faults(runtime, kept) == []


def drop_triggers(session, dialect):
    """Do what an administrator can do; the transaction is rolled back afterwards."""
    if dialect == "postgresql":
        session.execute(text("SET LOCAL session_replication_role = replica"))
        return
    session.execute(text("PRAGMA defer_foreign_keys = ON"))
    for table in ("log_leaves", "log_subtrees", "certificates"):
        for change in ("update", "delete"):
            session.execute(text(f"DROP TRIGGER {table}_never_{change}"))


def test_history_that_was_rewritten_as_a_whole_is_found_by_a_kept_tree_head(yard, worker, runtime):
    """An administrator who hashes everything anew leaves a log that agrees with itself, not with what others keep."""
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    with runtime.database.read() as session:
        check = check_log(session)
    kept = [TreeHead("test.example/log", check.size, check.root)]
    with runtime.database.read() as session:
        drop_triggers(session, runtime.database.dialect)
        rows = session.scalars(select(LogLeaf).order_by(LogLeaf.position)).all()
        changed = [row.payload.replace('"time":"20', '"time":"19') for row in rows]
        for row, payload in zip(rows, changed, strict=True):
            session.execute(
                text("UPDATE log_leaves SET payload = :payload WHERE position = :position"),
                {"payload": payload, "position": row.position},
            )
        for (level, place), value in grow(0, {}, [leaf_hash(payload.encode()) for payload in changed]):
            session.execute(
                text("UPDATE log_subtrees SET hash = :value WHERE level = :level AND place = :place"),
                {"value": value, "level": level, "place": place},
            )
        session.expire_all()
        assert check_log(session).faults == []
        [fault] = check_log(session, kept).faults
        session.rollback()
    assert "history was rewritten" in fault


def test_a_signed_tree_head_covers_the_log_as_it_is(yard, worker, runtime, client, admin_headers):
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    note = client.get("/v1/log/checkpoint", headers=admin_headers).content
    head = TreeHead.parse(verify_note(note, [runtime.signing.require().verifier_key], alone=True))
    with runtime.database.read() as session:
        check = check_log(session, [head])
    assert (head.origin, head.size, head.root) == ("test.example/log", check.size, check.root)
    assert check.faults == []


def test_no_tree_head_is_signed_over_rewritten_history(yard, worker, runtime, client, admin_headers):
    model = yard.model()
    request_id = yard.request(model, "r1")
    worker.run_until_idle()
    assert client.get("/v1/log/checkpoint", headers=admin_headers).status_code == 200
    with runtime.database.write() as session:
        drop_triggers(session, runtime.database.dialect)
        session.execute(text("UPDATE log_leaves SET payload = '{}' WHERE position = 2"))
    for path in ("/v1/log/checkpoint", f"{URL}/{request_id}/certificate"):
        response = client.get(path, headers=admin_headers)
        assert (response.status_code, response.json()["type"]) == (503, "urn:expunge:problem:log-rewritten")


def test_each_submitted_request_has_a_commitment_key_that_nobody_is_shown(
    client, admin_headers, registry, runtime
):
    registry.model("reader")
    shown = []
    for name in ("r1", "r2"):
        body = {"model": "reader", "target": {"kind": "records", "ids": [name]}}
        response = client.post(URL, json=body, headers=admin_headers)
        assert response.status_code == 202, response.text
        shown.append(response.text)
    with runtime.database.read() as session:
        keys = session.scalars(select(ForgetRequest.commitment_key)).all()
    assert {len(key) for key in keys} == {32}
    assert len(set(keys)) == 2
    assert not any("commitment" in text or key.hex() in text for text in shown for key in keys)
