import datetime as dt
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import func, select

from app.tables import SigningKey
from app.trust.log.notes import TreeHead, verify_note
from app.trust.signing import PublicKeyError, SigningKeyError, SigningKeyFile, read_public_keys, record_keys

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def key_file(tmp_path):
    key_file = SigningKeyFile(tmp_path / "keys" / "signing-key.pem", "log.example")
    key_file.create()
    return key_file


def test_only_the_owner_can_read_new_keys(key_file):
    assert stat.S_IMODE(key_file.path.stat().st_mode) == 0o600


def test_keys_that_are_there_are_never_overwritten(key_file):
    before = key_file.path.read_bytes()
    with pytest.raises(FileExistsError):
        key_file.create()
    assert key_file.path.read_bytes() == before


def test_replaced_keys_are_others_in_a_file_as_private(key_file):
    before = key_file.require().certificates.id
    key_file.replace()
    fresh = SigningKeyFile(key_file.path, "log.example").require()
    assert fresh.certificates.id != before
    assert stat.S_IMODE(key_file.path.stat().st_mode) == 0o600
    assert key_file.require().certificates.id == before  # who runs goes on with what it has


def test_a_signature_verifies_under_the_public_key_of_its_id(key_file):
    signer = key_file.require()
    [(key_id, public)] = read_public_keys(signer.certificates.pem.encode())
    assert key_id == signer.certificates.id
    public.verify(signer.sign_certificate(b"message"), b"message")


def test_a_tree_head_verifies_under_the_verifier_key(key_file):
    signer = key_file.require()
    note = signer.sign_tree_head(3, b"r" * 32)
    assert TreeHead.parse(verify_note(note.encode(), [signer.verifier_key])).size == 3
    assert note == signer.sign_tree_head(3, b"r" * 32)  # the same state has one note


def test_a_missing_file_is_told_of_with_what_to_do(tmp_path):
    with pytest.raises(SigningKeyError, match="expunge keys signing create"):
        SigningKeyFile(tmp_path / "none.pem", "log.example").require()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "keys.pem"
    path.write_bytes(content)
    with pytest.raises(SigningKeyError, match=r"keys\.pem"):
        SigningKeyFile(path, "log.example").require()


def test_a_file_of_one_key_is_refused(tmp_path):
    path = tmp_path / "keys.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SigningKeyError, match="Ed25519 key and then a P-256 key"):
        SigningKeyFile(path, "log.example").require()


def test_public_keys_stay_known_after_rotation(runtime, key_file):
    for _ in range(2):
        signer = SigningKeyFile(key_file.path, "log.example").require()
        for _ in range(2):  # recording twice changes nothing
            with runtime.database.write() as session:
                record_keys(session, signer, NOW)
        key_file.replace()
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(SigningKey)) == 4


def test_two_workers_may_record_the_same_key_at_once(runtime, key_file):
    def record(_):
        with runtime.database.write() as session:
            record_keys(session, key_file.require(), NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, range(12)))
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).select_from(SigningKey)) == 2


@pytest.mark.parametrize(
    "pem",
    [b"", b"key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff" * 100],
)
def test_a_file_without_public_keys_is_refused(pem):
    with pytest.raises(PublicKeyError):
        read_public_keys(pem)


def test_the_key_of_checkpoints_verifies_no_certificates(key_file):
    with pytest.raises(PublicKeyError, match="must be an Ed25519 key"):
        read_public_keys(key_file.require().checkpoints.pem.encode())
