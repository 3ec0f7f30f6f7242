"""Commitments to record ids: they bind to the ids and tell nothing of them to whoever lacks the key.

A commitment is HMAC-SHA256(key, id). A set of ids is committed to by the RFC 6962 root over its commitments,
sorted as bytes. Once the key is erased, the root says of nobody whether he was among them.
"""

import hmac
from collections.abc import Iterable

from app.trust.log.merkle import leaf_hash, merkle_root


def record_commitment(key: bytes, record_id: str) -> bytes:
    """Return HMAC-SHA256(key, id in UTF-8)."""
    return hmac.digest(key, record_id.encode(), "sha256")


def commitment_root(key: bytes, record_ids: Iterable[str]) -> bytes:
    """Return the Merkle root over the sorted commitments of some records; their order does not matter.

    >>> commitment_root(b"k", ["a", "b"]) == commitment_root(b"k", ["b", "a"])
    True
    """
    commitments = sorted(record_commitment(key, record_id) for record_id in record_ids)
    return merkle_root(map(leaf_hash, commitments))
