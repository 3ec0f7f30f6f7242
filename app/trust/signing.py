"""The service's signing keys: a file with two private keys that is never in the database.

Ed25519 signs certificates and tree heads; these are told apart by how their signed bytes begin ("DSSEv1 " and the
log's origin). ECDSA on P-256 signs model files, since the OpenSSF model-signing format takes no Ed25519. Every
public key that has signed something stays in the database, so what an older key signed can be verified for good.
"""

import datetime as dt
import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_p256
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as insert_on_postgresql
from sqlalchemy.orm import Session

from app.errors import ServiceError
from app.tables import SigningKey
from app.tables.signing_key import KeyPurpose
from app.trust.log.notes import TreeHead, VerifierKey, sign_note

MAX_PEM_BYTES = 1 << 16
_PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----\n?")


class SigningKeyError(ServiceError):
    """The service has to sign something and has no usable key."""

    status, slug, title = 503, "no-signing-key", "No signing key"


class PublicKeyError(Exception):
    """A file holds no public key that can be used; the message is a sentence."""


@dataclass(frozen=True)
class PublicKey:
    """The public half of a signing key."""

    id: str
    """SHA-256 of its DER form (SubjectPublicKeyInfo), in hexadecimal: the `keyid` of what it signed."""
    purpose: KeyPurpose
    pem: str


@dataclass(frozen=True)
class Signer:
    """Signs with the two keys of one file."""

    origin: str
    """The log's name: it stands in every tree head."""
    _ed25519: Ed25519PrivateKey
    _p256: EllipticCurvePrivateKey
    certificates: PublicKey
    checkpoints: PublicKey

    @property
    def verifier_key(self) -> VerifierKey:
        """What verifies tree heads."""
        return VerifierKey(self.origin, self._ed25519.public_key().public_bytes_raw())

    def sign_certificate(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of a certificate's pre-authentication encoding."""
        return self._ed25519.sign(message)

    def sign_tree_head(self, size: int, root: bytes) -> str:
        """Return a tree head as a signed note."""
        text = TreeHead(self.origin, size, root).text()
        return sign_note(text, self.verifier_key, self._ed25519.sign)

    def sign_checkpoint(self, message: bytes) -> bytes:
        """Return the ECDSA signature, with SHA-256 and in DER, of a model signature's encoding."""
        return self._p256.sign(message, ECDSA(SHA256()))


class SigningKeyFile:
    """The private keys' file, read when something is signed for the first time."""

    def __init__(self, path: Path, origin: str) -> None:
        self.path = path
        self._origin = origin
        self._signer: Signer | None = None
        self._loading = threading.Lock()

    def exists(self) -> bool:
        """Tell whether there is such a file."""
        return self.path.exists()

    def create(self) -> None:
        """Make new keys in a file that only its owner can read.

        Raises:
            FileExistsError: There is a file already; it was left as it is.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _write_keys(self.path)

    def replace(self) -> None:
        """Put new keys in the place of the old ones, which are gone then; whoever runs goes on with the old."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        _write_keys(fresh)
        fresh.replace(self.path)

    def require(self) -> Signer:
        """Return the signer.

        Raises:
            SigningKeyError: There is no such file, or it does not hold the two keys.
        """
        with self._loading:
            if self._signer is None:
                self._signer = _load(self.path, self._origin)
            return self._signer


def record_keys(session: Session, signer: Signer, now: dt.datetime) -> None:
    """Keep the public keys of a signer in the database before what it signed."""
    wanted = [signer.certificates, signer.checkpoints]
    known = session.scalars(select(SigningKey.id).where(SigningKey.id.in_([key.id for key in wanted]))).all()
    rows = [
        {"id": key.id, "purpose": key.purpose, "public_key": key.pem, "created_at": now}
        for key in wanted
        if key.id not in known
    ]
    if rows and session.get_bind().dialect.name == "postgresql":
        # Another worker may be recording the same key at this moment.
        session.execute(insert_on_postgresql(SigningKey).values(rows).on_conflict_do_nothing())
    elif rows:
        session.add_all(SigningKey(**row) for row in rows)
        session.flush()


def read_public_keys(pem: bytes) -> list[tuple[str, Ed25519PublicKey]]:
    """Read the Ed25519 public keys of a PEM file, each with its id.

    Raises:
        PublicKeyError: There is none, or something else among them.
    """
    found = []
    for block in _PEM_BLOCK.findall(pem[:MAX_PEM_BYTES]):
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm):
            raise PublicKeyError("The key file holds something that is no public key.") from None
        if not isinstance(key, Ed25519PublicKey):
            raise PublicKeyError("The key that verifies certificates must be an Ed25519 key.")
        found.append((_key_id(_der(key)), key))
    if not found:
        raise PublicKeyError("The key file holds no public key in PEM form.")
    return found


def _write_keys(path: Path) -> None:
    keys = (Ed25519PrivateKey.generate(), generate_p256(SECP256R1()))
    pem = b"".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in keys)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _load(path: Path, origin: str) -> Signer:
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        raise SigningKeyError(
            f"There is no signing key at {path}: copy it from where the service was set up, or make one with "
            "'expunge keys signing create'."
        ) from None
    except OSError as error:
        raise SigningKeyError(f"The signing key at {path} cannot be read ({error.strerror}).") from None
    try:
        keys = [load_pem_private_key(block, None) for block in _PEM_BLOCK.findall(pem[:MAX_PEM_BYTES])]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyError(f"{path} is not a file of signing keys.") from None
    match keys:
        case [Ed25519PrivateKey() as ed25519, EllipticCurvePrivateKey() as p256] if isinstance(
            p256.curve, SECP256R1
        ):
            return Signer(
                origin,
                ed25519,
                p256,
                _public(ed25519, KeyPurpose.CERTIFICATES),
                _public(p256, KeyPurpose.CHECKPOINTS),
            )
        case _:
            raise SigningKeyError(f"{path} must hold an Ed25519 key and then a P-256 key.")


def _public(key: Ed25519PrivateKey | EllipticCurvePrivateKey, purpose: KeyPurpose) -> PublicKey:
    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return PublicKey(_key_id(_der(public)), purpose, pem)


def _der(key: Ed25519PublicKey | EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_id(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()
