"""The in-toto statement of a certificate: who forgot what by which means, what was measured, and what follows.

All certificates of one version say the same but for one part, the request's own. It is therefore written once as a
*frame*, with a gap, and only the gap is filled for each request: one job serves up to 10,000 of them.

docs/certificate.md describes each member, docs/certificate.schema.json holds their types.
"""

import datetime as dt
import hashlib
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.trust.canonical import canonical_json
from models.checkpoint import FileEntry

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://expunge.dev/unlearning/v0.1"

ATTESTS = (
    "It attests that the service ran this process on these files and measured these values. It is not a proof: "
    "a measurement can miss what it does not look for, an exact guarantee is as good as the code that gives it, and "
    "copies of the earlier model elsewhere are not reached."
)
GAP_SEPARATOR = "\n"
"""Canonical JSON never holds a newline, so a frame is cut in two by one."""


@dataclass(frozen=True)
class DirectoryState:
    """A numbered directory and the SHA-256 of its manifest."""

    number: int
    digest: str

    def named(self, name: str) -> dict[str, Any]:
        """Return it as JSON values, with `name` for what is numbered."""
        return {"manifest_sha256": self.digest, name: self.number}


@dataclass(frozen=True)
class Retained:
    """The records that the new version has learned: all but the forgotten ones."""

    snapshot: DirectoryState
    records: int
    root: bytes


@dataclass(frozen=True)
class Acceptance:
    """Why a version was published whose audit did not pass."""

    by: str
    """`person` or `policy`."""
    reason: str
    reviewer: str | None = None


@dataclass(frozen=True)
class Facts:
    """What all certificates of a version say."""

    model_id: uuid.UUID
    model_name: str
    family: str
    version: int
    digest: str
    """SHA-256 of its manifest, in hexadecimal."""
    files: Sequence[FileEntry]
    """Every file of its directory, the manifest included."""
    parent: DirectoryState
    dataset_id: uuid.UUID
    learned: DirectoryState
    """The snapshot that the parent had learned."""
    retained: Retained
    method: str
    configuration: Mapping[str, Any]
    seed: int
    guarantee: str
    """What the method gives: exact, certified or empirical."""
    asked: Mapping[str, Any]
    """Guarantee, method and parameters that the requests ask for."""
    audit: Mapping[str, Any] | None
    acceptance: Acceptance | None
    making: Mapping[str, Any] | None
    """What the job's process says of its software and of the checkpoint's architecture."""
    predecessors: Sequence[int]
    """Versions that the publication quarantines."""
    retention_days: int
    started_at: dt.datetime | None
    signed_at: dt.datetime


@dataclass(frozen=True)
class OwnPart:
    """What one request's certificate alone says."""

    request_id: uuid.UUID
    received_at: dt.datetime
    target_kind: str
    target_count: int
    records: int
    """How many records the target came to."""
    root: bytes
    """Their commitment."""


def frame(facts: Facts) -> str:
    """Return the statement with a gap."""
    gap = secrets.token_hex(16)
    text = canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "predicate": {**_predicate(facts), "request": gap},
            "predicateType": PREDICATE_TYPE,
            "subject": [
                {"digest": {"sha256": entry.sha256}, "name": entry.path}
                for entry in sorted(facts.files, key=lambda entry: entry.path)
            ],
        }
    )
    return text.replace(f'"{gap}"', GAP_SEPARATOR, 1)


def fill(frame_text: str, own: str) -> bytes:
    """Return the whole statement of one request."""
    before, _, after = frame_text.partition(GAP_SEPARATOR)
    return f"{before}{own}{after}".encode()


def own_part(own: OwnPart) -> str:
    """Return a request's own part as canonical JSON."""
    return canonical_json(
        {
            "forgotten": {"records": own.records, "root": own.root.hex()},
            "id": str(own.request_id),
            "received_at": _time(own.received_at),
            "target": {"count": own.target_count, "kind": own.target_kind},
        }
    )


def _predicate(facts: Facts) -> dict[str, Any]:
    audit = facts.audit
    return {
        "asked": dict(facts.asked),
        "attests": ATTESTS,
        "audit": _audit(audit) if audit is not None else None,
        "data": {
            "dataset": str(facts.dataset_id),
            "learned_before": facts.learned.named("snapshot"),
            "retained": {
                **facts.retained.snapshot.named("snapshot"),
                "records": facts.retained.records,
                "root": facts.retained.root.hex(),
            },
        },
        "making": dict(facts.making) if facts.making is not None else None,
        "method": {
            "configuration": dict(facts.configuration),
            "guarantee": facts.guarantee,
            "name": facts.method,
            "seed": facts.seed,
        },
        "model": {
            "family": facts.family,
            "id": str(facts.model_id),
            "manifest_sha256": facts.digest,
            "name": facts.model_name,
            "version": facts.version,
        },
        "parent": facts.parent.named("version"),
        "predecessors": {
            "destroyed_after_days": facts.retention_days,
            "quarantined": "at publication",
            "versions": sorted(facts.predecessors),
        },
        "timings": {
            "audit_seconds": audit["seconds"] if audit is not None else None,
            "signed_at": _time(facts.signed_at),
            "started_at": _time(facts.started_at) if facts.started_at is not None else None,
            "unlearning_seconds": audit["unlearning_seconds"] if audit is not None else None,
        },
        "verdict": _verdict(facts),
    }


def _audit(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of an audit what the verdict stands on; its digest names the rest, which the version's audit shows."""
    return {
        "checks": audit["checks"],
        "sha256": canonical_digest(audit),
        "summary": audit["summary"],
        "verdict": audit["verdict"],
    }


def _verdict(facts: Facts) -> dict[str, Any]:
    outcome = facts.audit["verdict"] if facts.audit is not None else "not audited"
    measured = facts.audit["summary"] if facts.audit is not None else "There was no audit."
    accepted = facts.acceptance
    if accepted is None:
        return {"accepted_by": None, "outcome": outcome, "reason": None, "reviewer": None, "words": measured}
    who = accepted.reviewer if accepted.reviewer is not None else "The policy"
    return {
        "accepted_by": accepted.by,
        "outcome": outcome,
        "reason": accepted.reason,
        "reviewer": accepted.reviewer,
        "words": f"{who} accepted it although its audit did not pass: {accepted.reason.rstrip('.')}. {measured}",
    }


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
