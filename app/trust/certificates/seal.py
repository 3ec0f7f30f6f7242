"""Signing what is about to be published, and writing it down with its leaves in the transparency log."""

import datetime as dt
import hashlib
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.tables import Certificate, CertificateFrame, ModelSignature
from app.trust.certificates.dsse import envelope_bytes, pre_authentication_encoding
from app.trust.certificates.statement import OwnPart, fill, own_part
from app.trust.log.tree import Entry, append_leaves
from app.trust.signing import Signer, record_keys

CERTIFICATE_LEAF = "certificate"


@dataclass(frozen=True)
class SignedPart:
    """One request's part of the statement, and the signature over the whole."""

    request_id: uuid.UUID
    own: str
    signature: bytes
    envelope_sha256: str
    """Of the envelope's canonical form, in hexadecimal."""


@dataclass(frozen=True)
class Sealed:
    """Everything that is signed of one version before its rows are written."""

    version: int
    signer: Signer
    model_signature: str
    """The text of `model.sig`."""
    frame: str | None
    """None where the version serves no forget request."""
    parts: tuple[SignedPart, ...]


def sign_parts(frame_text: str, own_parts: Iterable[OwnPart], signer: Signer) -> tuple[SignedPart, ...]:
    """Sign the statement of every request."""
    return tuple(_sign(frame_text, part, signer) for part in own_parts)


def enter_seal(
    session: Session,
    model_id: uuid.UUID,
    sealed: Sealed,
    served: Collection[uuid.UUID],
    states: Sequence[Entry],
    now: dt.datetime,
) -> None:
    """Write signatures and certificates, and the leaves that record them; nothing but the commit may follow.

    Args:
        session: The transaction that publishes the version; its row and its requests' are there already.
        model_id: The model.
        sealed: What was signed.
        served: The requests that the publication completes.
        states: What else the log has to record of it.
        now: The time by the database's clock.

    Raises:
        ValueError: Something else was signed than is published.
    """
    if {part.request_id for part in sealed.parts} != set(served):
        raise ValueError("the signed certificates are not those of the requests that are completed")
    record_keys(session, sealed.signer, now)
    session.add(ModelSignature(model_id=model_id, version=sealed.version, bundle=sealed.model_signature))
    if sealed.frame is not None:
        session.add(CertificateFrame(model_id=model_id, version=sealed.version, text=sealed.frame))
    entries = [certificate_entry(model_id, sealed.version, part) for part in sealed.parts]
    first = append_leaves(session, [*entries, *states], now)
    if sealed.parts:
        session.execute(
            insert(Certificate),
            [
                {
                    "forget_request_id": part.request_id,
                    "model_id": model_id,
                    "version": sealed.version,
                    "own": part.own,
                    "key_id": sealed.signer.certificates.id,
                    "signature": part.signature,
                    "leaf": first + place,
                    "created_at": now,
                }
                for place, part in enumerate(sealed.parts)
            ],
        )


def certificate_entry(model_id: uuid.UUID, version: int, part: SignedPart) -> Entry:
    """Record a certificate by the digest of its envelope."""
    body = {
        "envelope_sha256": part.envelope_sha256,
        "model": str(model_id),
        "request": str(part.request_id),
        "version": version,
    }
    return Entry(CERTIFICATE_LEAF, body)


def _sign(frame_text: str, part: OwnPart, signer: Signer) -> SignedPart:
    own = own_part(part)
    payload = fill(frame_text, own)
    signature = signer.sign_certificate(pre_authentication_encoding(payload))
    digest = hashlib.sha256(envelope_bytes(payload, signer.certificates.id, signature)).hexdigest()
    return SignedPart(part.request_id, own, signature, digest)
