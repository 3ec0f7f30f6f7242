"""The certificate as it is downloaded: envelope, log leaf, inclusion proof and tree head in one file.

The file is canonical JSON, and every member is either signed, hashed or compared with something that is: there is
no byte in it that could be changed unnoticed.
"""

import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.trust.canonical import canonical_json, parse_canonical
from app.trust.certificates.dsse import PAYLOAD_TYPE, envelope
from app.trust.certificates.seal import CERTIFICATE_LEAF
from app.trust.log.notes import NoteError, decode_base64

MEDIA_TYPE = "application/vnd.expunge.certificate.v1+json"
"""Of the file; it stands in it as well."""
MAX_BUNDLE_BYTES = 32 << 20
_MAX_INTEGER = 1 << 62


class CertificateError(Exception):
    """A certificate is malformed or does not hold; the message is a sentence."""


@dataclass(frozen=True)
class Bundle:
    """A certificate with the proof that the log has it."""

    payload: bytes
    """The statement."""
    key_id: str
    signature: bytes
    leaf: str
    """The log's leaf: canonical JSON."""
    index: int
    size: int
    """Leaves of the tree that the proof is for."""
    proof: tuple[bytes, ...]
    tree_head: str
    """A signed note."""

    def envelope_sha256(self) -> str:
        """Return the digest that the leaf must name."""
        text = canonical_json(envelope(self.payload, self.key_id, self.signature))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file."""
        return canonical_json(
            {
                "envelope": envelope(self.payload, self.key_id, self.signature),
                "log": {
                    "index": self.index,
                    "leaf": self.leaf,
                    "proof": [base64.b64encode(value).decode() for value in self.proof],
                    "size": self.size,
                    "tree_head": self.tree_head,
                },
                "mediaType": MEDIA_TYPE,
            }
        ).encode()

    @classmethod
    def parse(cls, content: bytes) -> "Bundle":
        """Read a file, strictly; nothing of it is verified yet.

        Raises:
            CertificateError: It is not such a file.
        """
        if len(content) > MAX_BUNDLE_BYTES:
            raise CertificateError(f"A certificate has no more than {MAX_BUNDLE_BYTES} bytes.")
        try:
            value = parse_canonical(content)
        except ValueError as error:
            raise CertificateError(f"The certificate cannot be read: {error}.") from None
        _require(value.get("mediaType") == MEDIA_TYPE, f"its mediaType is not {MEDIA_TYPE}")
        outer = _members(value, {"envelope", "log", "mediaType"}, "the certificate")
        sealed = _members(outer["envelope"], {"payload", "payloadType", "signatures"}, "the envelope")
        log = _members(outer["log"], {"index", "leaf", "proof", "size", "tree_head"}, "log")
        _require(sealed["payloadType"] == PAYLOAD_TYPE, f"its payloadType is not {PAYLOAD_TYPE}")
        signatures = sealed["signatures"]
        _require(isinstance(signatures, list) and len(signatures) == 1, "it has not exactly one signature")
        signature = _members(signatures[0], {"keyid", "sig"}, "the signature")
        proof = log["proof"]
        _require(isinstance(proof, list), "its proof is not a list")
        return cls(
            payload=_decoded(sealed["payload"], "the payload"),
            key_id=_text(signature["keyid"], "keyid"),
            signature=_decoded(signature["sig"], "the signature"),
            leaf=_text(log["leaf"], "leaf"),
            index=_integer(log["index"], "index"),
            size=_integer(log["size"], "size"),
            proof=tuple(_decoded(item, "a hash of the proof") for item in proof),
            tree_head=_text(log["tree_head"], "tree_head"),
        )


def check_leaf(bundle: Bundle, request_id: uuid.UUID | str) -> None:
    """Check that the leaf records this very envelope.

    Raises:
        CertificateError: It records something else.
    """
    try:
        value = parse_canonical(bundle.leaf.encode())
    except (ValueError, UnicodeEncodeError):
        raise CertificateError("The log's leaf is not canonical JSON.") from None
    leaf = _members(value, {"body", "index", "kind", "time"}, "the log's leaf")
    body = _members(leaf["body"], {"envelope_sha256", "model", "request", "version"}, "the log's leaf")
    if (
        leaf["kind"] != CERTIFICATE_LEAF
        or leaf["index"] != bundle.index
        or body["envelope_sha256"] != bundle.envelope_sha256()
        or body["request"] != str(request_id)
    ):
        raise CertificateError("The log's leaf records something else than this certificate.")


def _members(value: Any, names: set[str], what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.keys() != names:
        raise CertificateError(
            f"The certificate is malformed: {what} must have exactly {', '.join(sorted(names))}."
        )
    return value


def _require(condition: bool, problem: str) -> None:  # noqa: FBT001 - it is the sentence's condition
    if not condition:
        raise CertificateError(f"This is not a certificate of this service: {problem}.")


def _text(value: Any, what: str) -> str:
    _require(isinstance(value, str), f"{what} is not a text")
    return str(value)


def _integer(value: Any, what: str) -> int:
    _require(type(value) is int and 0 <= value < _MAX_INTEGER, f"{what} is not a number of leaves")
    return int(value)


def _decoded(value: Any, what: str) -> bytes:
    try:
        return decode_base64(_text(value, what), what)
    except NoteError as error:
        raise CertificateError(str(error)) from None
