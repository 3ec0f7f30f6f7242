"""Merkle trees by RFC 6962, section 2.1: pure functions on hashes, without a database.

Sections 2.1.3.2 and 2.1.4.2 of RFC 9162 say how proofs are verified. A *range* is the half-open interval of leaf
indices `(start, end)` that one hash of a proof stands for; it is cut into complete subtrees, each named by its
level (0 for leaves) and its place on that level. Whoever keeps the hashes of complete subtrees can therefore make
every proof of every size from O(log n) of them.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
"""MTH({}) = SHA-256()."""

Range = tuple[int, int]
Subtree = tuple[int, int]
"""Level and place: the leaves `place << level` to `(place + 1) << level`, the last one excluded."""


class ProofError(Exception):
    """A proof does not prove what it should; the message is a sentence."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf).

    >>> leaf_hash(b"").hex()[:16]
    '6e340b9cffb37a98'
    """
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(width: int) -> int:
    """Return k, the largest power of two smaller than `width`, which is at least 2.

    >>> [split(width) for width in (2, 3, 4, 5)]
    [1, 2, 2, 4]
    """
    return 1 << (width - 1).bit_length() - 1


def subtrees(wanted: Range) -> list[Subtree]:
    """Cut a range that a proof names into complete subtrees, left to right.

    >>> subtrees((0, 7))
    [(2, 0), (1, 2), (0, 6)]
    """
    start, end = wanted
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def range_root(wanted: Range, known: Mapping[Subtree, bytes]) -> bytes:
    """Return MTH of a range from the hashes of its complete subtrees."""
    hashes = [known[subtree] for subtree in subtrees(wanted)]
    if not hashes:
        return EMPTY_ROOT
    root = hashes.pop()
    while hashes:
        root = node_hash(hashes.pop(), root)
    return root


def merkle_root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return MTH of all leaves, given by their hashes in order, in one pass and O(log n) memory."""
    peaks: list[tuple[int, bytes]] = []  # complete subtrees from left to right, each of a lower level
    for leaf in leaf_hashes:
        level, right = 0, leaf
        while peaks and peaks[-1][0] == level:
            right = node_hash(peaks.pop()[1], right)
            level += 1
        peaks.append((level, right))
    if not peaks:
        return EMPTY_ROOT
    _, root = peaks.pop()
    while peaks:
        root = node_hash(peaks.pop()[1], root)
    return root


def grow(
    size: int, peaks: Mapping[Subtree, bytes], leaf_hashes: Sequence[bytes]
) -> list[tuple[Subtree, bytes]]:
    """Append leaves; return every subtree above them that is complete now, with its hash.

    Args:
        size: Leaves there were before.
        peaks: The hashes of `subtrees((0, size))`.
        leaf_hashes: Of the new leaves.
    """
    known = dict(peaks)
    made = []
    for index, leaf in enumerate(leaf_hashes, start=size):
        level, place, current = 0, index, leaf
        known[level, place] = current
        while place % 2 == 1:
            current = node_hash(known.pop((level, place - 1)), known.pop((level, place)))
            level, place = level + 1, place // 2
            known[level, place] = current
            made.append(((level, place), current))
    return made


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges whose roots are PATH(index, D[size]), the lowest first.

    Raises:
        ProofError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"A tree of {size} leaves has no leaf {index}.")
    start, end, ranges = 0, size, []
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """Return the ranges whose roots are PROOF(first, D[second]); none where `first` is 0 or `second`.

    Raises:
        ProofError: The first tree is larger than the second.
    """
    if not 0 <= first <= second:
        raise ProofError(f"A tree of {second} leaves has no earlier state of {first} leaves.")
    if first in {0, second}:
        return []
    start, end, ranges, whole = 0, second, [], True
    while end != first:
        middle = start + split(end - start)
        if first <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
            whole = False
    if not whole:
        ranges.append((start, end))
    return ranges[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with hash `leaf` is number `index` of the tree of `size` leaves under `root`.

    Raises:
        ProofError: It is not, or the proof is malformed.
    """
    expected = len(inclusion_ranges(index, size))
    _check_shape([leaf, root, *proof])
    if len(proof) != expected:
        raise ProofError(f"The inclusion proof has {len(proof)} hashes; this leaf's has {expected}.")
    place, last, current = index, size - 1, leaf
    for sibling in proof:
        if place % 2 == 1 or place == last:
            current = node_hash(sibling, current)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        place, last = place >> 1, last >> 1
    if current != root:
        raise ProofError("The inclusion proof does not lead from the leaf to the root of the tree head.")


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that the tree of `second` leaves begins with all of the tree of `first` leaves.

    Raises:
        ProofError: It does not, or the proof is malformed.
    """
    expected = len(consistency_ranges(first, second))
    _check_shape([first_root, second_root, *proof])
    if len(proof) != expected:
        raise ProofError(f"The consistency proof has {len(proof)} hashes; it needs {expected}.")
    if first == 0:
        _check_root(first_root, EMPTY_ROOT)
    elif first == second:
        _check_root(first_root, second_root)
    else:
        _check_growth(first, second, proof, first_root, second_root)


def _check_growth(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    # Where the first tree is one complete subtree, its root opens the proof and is left out of it.
    hashes = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    place, last = first - 1, second - 1
    while place % 2 == 1:
        place, last = place >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if place % 2 == 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    _check_root(old, first_root)
    _check_root(new, second_root)


def _check_root(computed: bytes, stated: bytes) -> None:
    if computed != stated:
        raise ProofError("The later tree does not begin with the earlier one: history was rewritten.")


def _check_shape(hashes: Iterable[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError(f"A hash of a proof must have {HASH_BYTES} bytes.")
