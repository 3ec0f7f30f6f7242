"""The tree against RFC 6962 written down recursively, and against the vectors of Certificate Transparency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.trust.log.merkle import (
    EMPTY_ROOT,
    ProofError,
    consistency_ranges,
    grow,
    inclusion_ranges,
    leaf_hash,
    merkle_root,
    range_root,
    subtrees,
    verify_consistency,
    verify_inclusion,
)
from tests.reference import merkle as slow

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""Leaves, roots and proofs that Certificate Transparency's implementations share (transparency-dev/merkle)."""
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
MANY = [f"leaf {number}".encode() for number in range(70)]


def hashes_of(leaves):
    """The hashes of all complete subtrees, leaves included, as the database holds them."""
    fresh = [leaf_hash(leaf) for leaf in leaves]
    return {(0, place): value for place, value in enumerate(fresh)} | dict(grow(0, {}, fresh))


def roots(ranges, leaves):
    known = hashes_of(leaves)
    return [range_root(wanted, known) for wanted in ranges]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size):
    [root] = roots([(0, size)], LEAVES)
    assert root.hex() == ROOTS[size]
    assert merkle_root(map(leaf_hash, LEAVES[:size])) == root


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_of_certificate_transparency(index, size):
    found = roots(inclusion_ranges(index, size), LEAVES)
    assert [value.hex() for value in found] == INCLUSION[index, size]


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency_proofs_are_those_of_certificate_transparency(first, second):
    found = roots(consistency_ranges(first, second), LEAVES)
    assert [value.hex() for value in found] == CONSISTENCY[first, second]


@pytest.mark.parametrize("size", range(71))
def test_every_proof_of_every_size_is_the_recursive_one_and_holds(size):
    leaves, known = MANY[:size], hashes_of(MANY[:size])
    root = slow.root(leaves)
    assert range_root((0, size), known) == root
    for index in range(0, size, 1 if size < 20 else 7):
        proof = [range_root(wanted, known) for wanted in inclusion_ranges(index, size)]
        assert proof == slow.path(index, leaves)
        verify_inclusion(leaf_hash(leaves[index]), index, size, proof, root)
    for first in range(0, size + 1, 1 if size < 20 else 5):
        proof = [range_root(wanted, known) for wanted in consistency_ranges(first, size)]
        assert proof == (slow.proof(first, leaves) if first else [])
        verify_consistency(first, size, proof, slow.root(leaves[:first]), root)


@given(st.integers(0, 40), st.lists(st.integers(0, 9), max_size=6))
def test_growing_in_portions_gives_the_tree_of_growing_at_once(begin, portions):
    known, size = hashes_of(MANY[:begin]), begin
    for count in portions:
        peaks = {subtree: known[subtree] for subtree in subtrees((0, size))}
        fresh = [leaf_hash(b"%d" % (size + step)) for step in range(count)]
        known |= {(0, size + step): value for step, value in enumerate(fresh)} | dict(
            grow(size, peaks, fresh)
        )
        size += count
    leaves = MANY[:begin] + [b"%d" % number for number in range(begin, size)]
    assert known == hashes_of(leaves)


@given(st.integers(1, 60), st.data())
def test_a_proof_with_a_flipped_bit_does_not_hold(size, data):
    index = data.draw(st.integers(0, size - 1))
    leaves = MANY[:size]
    parts = [leaf_hash(leaves[index]), slow.root(leaves), *slow.path(index, leaves)]
    place, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[place] = (int.from_bytes(parts[place]) ^ 1 << bit).to_bytes(32)
    with pytest.raises(ProofError):
        verify_inclusion(parts[0], index, size, parts[2:], parts[1])


@given(st.integers(2, 60), st.data())
def test_a_proof_is_of_one_leaf_only(size, data):
    index = data.draw(st.integers(0, size - 1))
    claimed = data.draw(st.integers(0, size - 1).filter(lambda other: other != index))
    leaves = MANY[:size]
    with pytest.raises(ProofError):
        verify_inclusion(leaf_hash(leaves[index]), claimed, size, slow.path(index, leaves), slow.root(leaves))


@given(st.integers(1, 50), st.integers(0, 20), st.data())
def test_a_consistency_proof_with_a_flipped_bit_does_not_hold(first, more, data):
    leaves = MANY[: first + more]
    parts = [slow.root(leaves[:first]), slow.root(leaves), *slow.proof(first, leaves)]
    place, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[place] = (int.from_bytes(parts[place]) ^ 1 << bit).to_bytes(32)
    with pytest.raises(ProofError):
        verify_consistency(first, first + more, parts[2:], parts[0], parts[1])


def test_rewritten_history_has_no_consistency_proof():
    old, new = MANY[:6], [*MANY[:3], b"rewritten", *MANY[4:11]]
    with pytest.raises(ProofError, match="history was rewritten"):
        verify_consistency(6, 11, slow.proof(6, new), slow.root(old), slow.root(new))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verify_inclusion(EMPTY_ROOT, 3, 3, [], EMPTY_ROOT), "has no leaf 3"),
        (lambda: verify_inclusion(EMPTY_ROOT, -1, 3, [], EMPTY_ROOT), "has no leaf -1"),
        (lambda: verify_inclusion(EMPTY_ROOT, 0, 3, [EMPTY_ROOT], EMPTY_ROOT), "has 1 hashes"),
        (lambda: verify_inclusion(EMPTY_ROOT, 0, 2, [b"short"], EMPTY_ROOT), "must have 32 bytes"),
        (lambda: verify_consistency(4, 3, [], EMPTY_ROOT, EMPTY_ROOT), "no earlier state of 4"),
        (lambda: verify_consistency(3, 4, [], EMPTY_ROOT, EMPTY_ROOT), "has 0 hashes; it needs 3"),
        (lambda: verify_consistency(0, 4, [], b"x" * 32, EMPTY_ROOT), "history was rewritten"),
        (lambda: verify_consistency(0, 4, [], b"x", EMPTY_ROOT), "must have 32 bytes"),
    ],
)
def test_malformed_proofs_give_a_sentence(call, message):
    with pytest.raises(ProofError, match=message):
        call()
