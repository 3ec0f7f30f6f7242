"""Checking the log in a database against itself and against tree heads that were kept elsewhere.

Triggers stop mistakes, not an administrator, who can drop them. What he changes is found here: everything is hashed
anew from the leaves, certificates are compared with what the leaves say of them, and versions with the last state
that the log knows. One who rewrites leaves and hashes alike is found by a tree head that somebody else has kept.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.tables import Certificate, CertificateFrame, LogLeaf, LogSubtree, SigningKey, Version
from app.trust.canonical import parse_canonical
from app.trust.certificates.dsse import envelope_bytes, pre_authentication_encoding
from app.trust.certificates.statement import fill
from app.trust.log.merkle import Subtree, grow, leaf_hash, range_root, subtrees
from app.trust.log.notes import TreeHead
from app.trust.log.tree import stored_hashes
from app.trust.log.versions import VERSION_LEAF
from app.trust.signing import PublicKeyError, read_public_keys

BATCH = 1000
MOST_FAULTS = 100
"""Told of; a log that was rewritten has one per row."""


@dataclass
class LogCheck:
    """What was found."""

    size: int = 0
    root: bytes = b""
    certificates: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, sentence: str) -> None:
        """Note a fault."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(sentence)


@dataclass
class _Recorded:
    """What the leaves say, for comparison with the tables."""

    certificates: dict[int, str] = field(default_factory=dict)
    """Leaf -> digest of an envelope."""
    states: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """Model and version -> last state, and digest of the manifest."""


def check_log(session: Session, kept: Sequence[TreeHead] = ()) -> LogCheck:
    """Check the whole log.

    Args:
        session: A transaction that sees one state of the database.
        kept: Tree heads of this log from elsewhere; their signatures are verified already.
    """
    check, recorded = LogCheck(), _Recorded()
    _check_tree(session, check, recorded, kept)
    _check_certificates(session, check, recorded)
    _check_versions(session, check, recorded)
    return check


def _check_tree(session: Session, check: LogCheck, recorded: _Recorded, kept: Sequence[TreeHead]) -> None:
    heads = {size: [head.root for head in kept if head.size == size] for size in {head.size for head in kept}}
    peaks: dict[Subtree, bytes] = {}
    complete = 0
    _compare_heads(check, heads, peaks)
    for leaves in _batches(session):
        made: list[tuple[Subtree, bytes]] = []
        for leaf in leaves:
            if leaf.position != check.size:
                check.fault(f"Entry {check.size} is missing.")
                return
            _record(check, recorded, leaf)
            fresh = leaf_hash(leaf.payload.encode())
            grown = grow(check.size, peaks, [fresh])
            known = {**peaks, (0, check.size): fresh, **dict(grown)}
            check.size += 1
            peaks = {subtree: known[subtree] for subtree in subtrees((0, check.size))}
            made += grown
            _compare_heads(check, heads, peaks, at=check.size)
        complete += len(made)
        _compare_subtrees(session, check, made)
    check.root = range_root((0, check.size), peaks)
    if session.execute(select(func.count()).select_from(LogSubtree)).scalar_one() != complete:
        check.fault("There are stored hashes of subtrees that the log does not have.")
    for size in heads:
        if size > check.size:
            check.fault(f"A tree head of {size} entries was signed, and there are {check.size} now.")


def _batches(session: Session) -> Iterator[Sequence[LogLeaf]]:
    after = -1
    while rows := session.scalars(
        select(LogLeaf).where(LogLeaf.position > after).order_by(LogLeaf.position).limit(BATCH)
    ).all():
        yield rows
        after = rows[-1].position
        session.expunge_all()


def _record(check: LogCheck, recorded: _Recorded, leaf: LogLeaf) -> None:
    try:
        value = parse_canonical(leaf.payload.encode())
        if value["index"] != leaf.position or value["kind"] != leaf.kind:
            check.fault(f"Entry {leaf.position} does not name its own place.")
        body = value["body"]
        if leaf.kind == VERSION_LEAF:
            recorded.states[body["model"], body["version"]] = (body["state"], body["manifest_sha256"])
        elif leaf.kind == "certificate":
            recorded.certificates[leaf.position] = body["envelope_sha256"]
    except (ValueError, KeyError, TypeError):
        check.fault(f"Entry {leaf.position} is malformed.")


def _compare_heads(
    check: LogCheck, heads: Mapping[int, Sequence[bytes]], peaks: Mapping[Subtree, bytes], at: int = 0
) -> None:
    for root in heads.get(at, ()):
        if root != range_root((0, at), peaks):
            check.fault(
                f"The first {at} entries are not those of a tree head that was signed: history was rewritten."
            )


def _compare_subtrees(session: Session, check: LogCheck, made: Sequence[tuple[Subtree, bytes]]) -> None:
    stored = stored_hashes(session, [subtree for subtree, _ in made])
    for (level, place), value in made:
        if stored.get((level, place)) != value:
            first, last = place << level, ((place + 1) << level) - 1
            check.fault(f"The stored hash of entries {first} to {last} is not theirs: they were changed.")


def _check_certificates(session: Session, check: LogCheck, recorded: _Recorded) -> None:
    keys = _public_keys(session, check)
    frames: dict[tuple[uuid.UUID, int], str] = {}
    seen = set()
    for row in session.scalars(select(Certificate).order_by(Certificate.leaf)):
        check.certificates += 1
        seen.add(row.leaf)
        place = (row.model_id, row.version)
        if place not in frames:
            frames = {place: session.get_one(CertificateFrame, place).text}
        payload = fill(frames[place], row.own)
        digest = hashlib.sha256(envelope_bytes(payload, row.key_id, row.signature)).hexdigest()
        if recorded.certificates.get(row.leaf) != digest:
            check.fault(
                f"The certificate of forget request {row.forget_request_id} is not the one in the log."
            )
        try:
            keys[row.key_id].verify(row.signature, pre_authentication_encoding(payload))
        except (KeyError, InvalidSignature):
            check.fault(f"The certificate of forget request {row.forget_request_id} has no good signature.")
    for leaf in sorted(recorded.certificates.keys() - seen):
        check.fault(f"The certificate of entry {leaf} is gone.")


def _public_keys(session: Session, check: LogCheck) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for row in session.scalars(select(SigningKey).where(SigningKey.purpose == "certificates")):
        try:
            [(key_id, key)] = read_public_keys(row.public_key.encode())
        except (PublicKeyError, ValueError):
            check.fault(f"The stored public key {row.id} cannot be read.")
            continue
        keys[key_id] = key
    return keys


def _check_versions(session: Session, check: LogCheck, recorded: _Recorded) -> None:
    """Compare versions with the log; those from before the log have no entry."""
    began = session.execute(select(LogLeaf.created_at).where(LogLeaf.position == 0)).scalar_one_or_none()
    states = dict(recorded.states)
    query = select(Version.model_id, Version.number, Version.state, Version.digest, Version.created_at)
    for model_id, number, state, digest, created_at in session.execute(query):
        said = states.pop((str(model_id), number), None)
        if said is None and began is not None and created_at < began:
            continue
        if said != (state.value, digest):
            known = "nothing" if said is None else f"{said[0]} with the digest {said[1][:12]}…"
            check.fault(
                f"Version {number} of model {model_id} is {state.value} with the digest {digest[:12]}…; the log says "
                f"{known}."
            )
    for model, number in sorted(states):
        check.fault(f"Version {number} of model {model} is in the log and nowhere else.")
