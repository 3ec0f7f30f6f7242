"""DSSE envelopes: a payload, its type, and a signature over both (secure-systems-lab/dsse, protocol 1.0)."""

import base64
from typing import Any

from app.trust.canonical import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def pre_authentication_encoding(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return what is signed: `PAE(type, payload)`, in which lengths keep the parts apart.

    >>> pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, key_id: str, signature: bytes) -> dict[str, Any]:
    """Return an envelope with one signature as JSON values."""
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }


def envelope_bytes(payload: bytes, key_id: str, signature: bytes) -> bytes:
    """Return an envelope in its canonical form, the one that the transparency log records the SHA-256 of."""
    return canonical_json(envelope(payload, key_id, signature)).encode()
