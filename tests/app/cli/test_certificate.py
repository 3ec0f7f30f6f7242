"""`certificate`, `verify` and `log` against a whole running service, and `keys signing` against a database."""

import json
import stat

import pytest
from sqlalchemy import text

from app.database import Database
from app.settings import get_settings
from app.trust.certificates.statement import canonical_digest
from app.trust.log.tree import Entry, append_leaves
from tests.app.trust.log.test_tree import NOW
from unlearning.audits.report import Audit


@pytest.fixture
def public_key(connected, tmp_path):
    path = tmp_path / "expunge.pub"
    path.write_text(connected.client.public_keys()["public_key"])
    return path


def one_line(outcome, *words):
    """An error is one line that says what is wrong."""
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert all(word in outcome.err for word in words), outcome.err


def test_a_certificate_is_downloaded_and_verified_offline(
    connected, expunge, tmp_path, public_key, monkeypatch
):
    before = tmp_path / "before.txt"
    before.write_text(expunge("log", "checkpoint").out)
    request = expunge("forget", "digits", "digit-0011", "--wait", "--json").json
    checkpoint, file = tmp_path / "version", tmp_path / "certificate.json"
    assert expunge("download", "digits", checkpoint, "--version", request["version"]).status == 0
    assert "expunge verify" in expunge("certificate", request["id"], file).out
    audit = connected.client.audit("digits", request["version"])
    consistency = tmp_path / "consistency.json"
    size = int(before.read_text().splitlines()[1])
    head = json.loads(file.read_bytes())["log"]["size"]
    consistency.write_text(json.dumps(connected.client.log_consistency(size, head)))
    proof = connected.client.log_inclusion(0, head)
    assert (proof["index"], proof["size"]) == (0, head)
    assert len(connected.client.log_entries(0, head)) == head
    agreed = expunge("log", "verify-consistency", before, "--key", public_key, "--json").json
    assert agreed["consistent"] is True
    later = tmp_path / "later.txt"
    later.write_text(before.read_text().replace(f"\n{size}\n", f"\n{size + 1}\n"))
    one_line(expunge("log", "verify-consistency", later, "--key", public_key), "tree head does not hold")

    monkeypatch.setenv("EXPUNGE_URL", "http://127.0.0.1:1")  # from here on nothing is asked of the service
    arguments = ["verify", file, "--checkpoint", checkpoint, "--key", public_key]
    told = expunge(*arguments)
    assert told.status == 0, told.err
    assert "named 1 records" in told.out
    assert "It is not a proof" in told.out
    shown = expunge(*arguments, "--tree-head", before, "--consistency", consistency, "--json").json
    assert shown["verified"] is True
    own = {name: audit[name] for name in Audit.model_fields}  # the report adds how the version was made
    assert shown["statement"]["predicate"]["audit"]["sha256"] == canonical_digest(own)
    declared = shown["statement"]["predicate"]["making"]["checkpoint_declares"]
    assert declared["architecture"] == "analytic"
    assert shown["statement"]["predicate"]["making"]["software"]["libraries"]["torch"]

    one_line(expunge(*arguments, "--tree-head", before), "consistency proof has 0 hashes")
    (checkpoint / "config.json").write_text("{}")
    one_line(expunge(*arguments), "not what was certified", "config.json")


def test_bad_input_is_one_line_and_status_1(connected, expunge, tmp_path, public_key):
    bad, directory = tmp_path / "bad", tmp_path / "directory"
    directory.mkdir()
    verify = ["verify", bad, "--checkpoint", directory, "--key", public_key]
    one_line(expunge(*verify), "bad")
    for content in (b"", b"\x00\xff", b"{}", b"[" * 100_000, b'{"a": NaN}', b"x" * 200_000):
        bad.write_bytes(content)
        one_line(expunge(*verify), "certificate")
        one_line(expunge("log", "verify-consistency", bad, "--key", public_key), "")
        one_line(expunge("verify", bad, "--checkpoint", directory, "--key", bad), "")
    bad.write_bytes(b"x" * ((32 << 20) + 1))
    one_line(expunge(*verify), "longer than")
    one_line(expunge("verify", bad, "--checkpoint", directory), "--key")
    one_line(
        expunge("verify", bad, "--checkpoint", directory, "--key", public_key, "--log-key", "x"),
        "verifier key",
    )
    one_line(expunge("certificate", "nothing"), "422")
    one_line(expunge("certificate", "01a1fe52-fbe3-7417-83e2-845606089948"), "404")


@pytest.fixture
def migrated(expunge):
    assert expunge("migrate").status == 0


@pytest.mark.usefixtures("migrated")
def test_signing_keys_are_made_shown_and_rotated(expunge):
    one_line(expunge("keys", "signing", "show"), "expunge keys signing create")
    one_line(expunge("keys", "signing", "rotate"), "no keys to rotate")
    one_line(expunge("worker"), "There is no signing key")
    made = expunge("keys", "signing", "create", "--json").json
    path = get_settings().signing_key_file
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    one_line(expunge("keys", "signing", "create"), "already")
    assert expunge("keys", "signing", "create", "--if-absent", "--json").json == made
    assert expunge("keys", "signing", "show", "--json").json == made
    assert expunge("keys", "signing", "show", "--pem").out == made["public_key"]
    assert made["vkey"] in expunge("keys", "signing", "show").out
    fresh = expunge("keys", "signing", "rotate", "--json").json
    assert fresh["id"] != made["id"]
    assert expunge("keys", "signing", "show", "--json").json == fresh


@pytest.mark.usefixtures("migrated")
def test_lost_signing_keys_are_not_made_anew_in_silence(expunge):
    made = expunge("keys", "signing", "create", "--json").json
    get_settings().signing_key_file.unlink()
    for command in (["keys", "signing", "create"], ["keys", "signing", "create", "--if-absent"], ["serve"]):
        one_line(expunge(*command), "is not there: bring that file back")
    assert expunge("keys", "signing", "rotate", "--json").json["id"] != made["id"]


@pytest.mark.usefixtures("migrated")
def test_the_log_in_the_database_is_verified_and_its_faults_are_named(expunge, tmp_path):
    key = expunge("keys", "signing", "create", "--json").json
    database = Database(get_settings().database_url)
    with database.write() as session:
        append_leaves(session, [Entry("test", {"number": number}) for number in range(5)], NOW)
    good = expunge("log", "verify")
    assert "All 5 entries" in good.out
    shown = expunge("log", "verify", "--json").json
    assert (shown["size"], shown["faults"]) == (5, [])

    from app.trust.signing import SigningKeyFile

    settings = get_settings()
    signer = SigningKeyFile(settings.signing_key_file, settings.log_origin).require()
    kept = tmp_path / "kept.txt"
    kept.write_text(signer.sign_tree_head(5, bytes.fromhex(shown["root"])))
    assert expunge("log", "verify", "--tree-head", kept).status == 0
    assert expunge("log", "verify", "--tree-head", kept, "--log-key", key["vkey"]).status == 0
    kept.write_text(signer.sign_tree_head(5, b"x" * 32))
    refused = expunge("log", "verify", "--tree-head", kept)
    assert refused.status == 1
    assert "history was rewritten" in refused.err

    with database.write() as session:
        session.execute(text("DROP TRIGGER log_leaves_never_update"))
        session.execute(text("UPDATE log_leaves SET payload = '{}' WHERE position = 2"))
    database.dispose()
    tampered = expunge("log", "verify", "--json")
    assert tampered.status == 1
    assert any("malformed" in fault for fault in tampered.json["faults"])
    assert "tampered with" in tampered.err
