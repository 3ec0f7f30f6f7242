"""Reading the transparency log; tree heads are signed when they are asked for."""

import base64
from collections.abc import Sequence

from app.call import Work
from app.log import repository
from app.log.errors import NoSuchTreeError
from app.log.schemas import (
    ConsistencyProofRead,
    EntryList,
    EntryRead,
    InclusionProofRead,
    KeysRead,
    PublicKeyRead,
)
from app.trust.log.merkle import ProofError, leaf_hash
from app.trust.log.tree import consistency_proof, inclusion_proof, log_root, log_size

MOST_ENTRIES = 1000
"""In one answer."""


def tree_head(work: Work) -> str:
    """Return the log as it is now as a signed note.

    Raises:
        SigningKeyError: There is no key to sign it with.
        LogRewrittenError: It is not what was signed before.
    """
    return sign_tree_head(work, log_size(work.session))


def sign_tree_head(work: Work, size: int) -> str:
    """Return the log of its first `size` entries as a signed note; raises what `tree_head` raises."""
    signer = work.runtime.signing.require()
    root = work.runtime.signed_heads.remember(size, lambda size: log_root(work.session, size))
    return signer.sign_tree_head(size, root)


def entries(work: Work, start: int, end: int | None) -> EntryList:
    """Return entries from `start` up to `end`, the last one excluded.

    Raises:
        NoSuchTreeError: The range is none, or goes beyond the log.
    """
    size = log_size(work.session)
    last = end if end is not None else min(size, start + MOST_ENTRIES)
    if not start <= last <= size:
        raise NoSuchTreeError(f"There are no entries from {start} up to {last}.", size)
    rows = repository.leaves(work.session, start, min(last, start + MOST_ENTRIES))
    items = [EntryRead(index=row.position, leaf=row.payload) for row in rows]
    return EntryList(items=items, size=size)


def prove_inclusion(work: Work, index: int, size: int) -> InclusionProofRead:
    """Prove that the tree of `size` leaves has leaf `index`.

    Raises:
        NoSuchTreeError: The log was never so large, or the tree has no such leaf.
    """
    _require_size(work, size)
    try:
        proof = inclusion_proof(work.session, index, size)
    except ProofError as error:
        raise NoSuchTreeError(str(error), log_size(work.session)) from None
    [leaf] = repository.leaves(work.session, index, index + 1)
    return InclusionProofRead(
        index=index, size=size, leaf_hash=_base64(leaf_hash(leaf.payload.encode())), hashes=_all_base64(proof)
    )


def prove_consistency(work: Work, first: int, second: int) -> ConsistencyProofRead:
    """Prove that the tree of `second` leaves begins with that of `first`.

    Raises:
        NoSuchTreeError: The log was never so large, or the first tree is the larger one.
    """
    _require_size(work, second)
    try:
        proof = consistency_proof(work.session, first, second)
    except ProofError as error:
        raise NoSuchTreeError(str(error), log_size(work.session)) from None
    return ConsistencyProofRead(first=first, second=second, hashes=_all_base64(proof))


def keys(work: Work) -> KeysRead:
    """Return the public keys, old ones included.

    Raises:
        SigningKeyError: The service has none to sign with.
    """
    signer = work.runtime.signing.require()
    pems = {row.id: (row.purpose.value, row.public_key) for row in repository.signing_keys(work.session)}
    current = {key.id: (key.purpose.value, key.pem) for key in (signer.certificates, signer.checkpoints)}
    return KeysRead(
        origin=signer.origin,
        vkey=str(signer.verifier_key),
        public_key=signer.certificates.pem,
        keys=[
            PublicKeyRead(id=key_id, purpose=purpose, public_key=pem, current=key_id in current)
            for key_id, (purpose, pem) in {**pems, **current}.items()
        ],
    )


def _require_size(work: Work, size: int) -> None:
    now = log_size(work.session)
    if size > now:
        raise NoSuchTreeError(f"There is no tree of {size} entries.", now)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _all_base64(values: Sequence[bytes]) -> list[str]:
    return [_base64(value) for value in values]
