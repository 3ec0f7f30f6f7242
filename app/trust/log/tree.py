"""The transparency log's tree in the database: appending to it, and reading roots and proofs from it.

Leaves are rows, and so are the hashes of complete subtrees above them: these never change once they are there. To
append k leaves reads and writes O(k + log n) rows; a root or a proof reads O(log n).

Appending happens last in its transaction (`app.locks`): from then on every other appender waits for the commit,
so that the leaves' numbers have no gaps and a leaf is there if and only if what it records is.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, tuple_
from sqlalchemy.orm import Session

from app.locks import lock_log
from app.tables import LogLeaf, LogSubtree
from app.trust.canonical import canonical_json
from app.trust.log.merkle import (
    Range,
    Subtree,
    consistency_ranges,
    grow,
    inclusion_ranges,
    leaf_hash,
    range_root,
    subtrees,
)


@dataclass(frozen=True)
class Entry:
    """What a leaf shall record. It is readable for good by everybody who may read the log: no personal data."""

    kind: str
    body: Mapping[str, Any]


def append_leaf(session: Session, kind: str, payload: Mapping[str, Any], now: dt.datetime) -> int:
    """Append one leaf, as the last thing a transaction does before its commit; return the leaf's index.

    Args:
        session: The transaction of what the leaf records.
        kind: What sort of thing that is.
        payload: JSON values, without personal data.
        now: The time by the database's clock.
    """
    return append_leaves(session, [Entry(kind, payload)], now)


def append_leaves(session: Session, entries: Sequence[Entry], now: dt.datetime) -> int:
    """Append leaves in their order; return the index of the first."""
    session.flush()  # what the leaves record takes its locks before the log's is taken
    lock_log(session)
    size = log_size(session)
    payloads = [leaf_payload(index, entry, now) for index, entry in enumerate(entries, start=size)]
    peaks = stored_hashes(session, subtrees((0, size)))
    made = grow(size, peaks, [leaf_hash(payload.encode()) for payload in payloads])
    if payloads:
        rows = [
            {"position": size + place, "kind": entry.kind, "payload": payload, "created_at": now}
            for place, (entry, payload) in enumerate(zip(entries, payloads, strict=True))
        ]
        session.execute(insert(LogLeaf), rows)
    if made:
        session.execute(
            insert(LogSubtree), [{"level": level, "place": place, "hash": h} for (level, place), h in made]
        )
    return size


def leaf_payload(index: int, entry: Entry, now: dt.datetime) -> str:
    """Return what the tree hashes of an entry: canonical JSON that names its own index."""
    time = now.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return canonical_json({"body": dict(entry.body), "index": index, "kind": entry.kind, "time": time})


def log_size(session: Session) -> int:
    """Return how many leaves there are."""
    last = session.execute(select(func.max(LogLeaf.position))).scalar_one()
    return 0 if last is None else last + 1


def log_root(session: Session, size: int) -> bytes:
    """Return the root of the first `size` leaves."""
    return _roots(session, [(0, size)])[0]


def inclusion_proof(session: Session, index: int, size: int) -> list[bytes]:
    """Return PATH(index, D[size]).

    Raises:
        ProofError: A tree of this size has no such leaf.
    """
    return _roots(session, inclusion_ranges(index, size))


def consistency_proof(session: Session, first: int, second: int) -> list[bytes]:
    """Return PROOF(first, D[second]).

    Raises:
        ProofError: The first tree is larger than the second.
    """
    return _roots(session, consistency_ranges(first, second))


def _roots(session: Session, ranges: Sequence[Range]) -> list[bytes]:
    known = stored_hashes(session, [subtree for wanted in ranges for subtree in subtrees(wanted)])
    return [range_root(wanted, known) for wanted in ranges]


def stored_hashes(session: Session, wanted: Sequence[Subtree]) -> dict[Subtree, bytes]:
    """Read the hashes of subtrees that there are; those of leaves are computed from what the leaves hold."""
    leaves = [place for level, place in wanted if level == 0]
    taller = [subtree for subtree in wanted if subtree[0] > 0]
    known: dict[Subtree, bytes] = {}
    if leaves:
        query = select(LogLeaf.position, LogLeaf.payload).where(LogLeaf.position.in_(leaves))
        for position, payload in session.execute(query):
            known[0, position] = leaf_hash(payload.encode())
    if taller:
        key = tuple_(LogSubtree.level, LogSubtree.place)
        rows = select(LogSubtree.level, LogSubtree.place, LogSubtree.hash).where(key.in_(taller))
        known |= {(level, place): value for level, place, value in session.execute(rows)}
    return known
