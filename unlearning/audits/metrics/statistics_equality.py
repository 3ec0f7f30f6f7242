"""Whether exact statistics are those of given records: recomputed, or checked at random in integer arithmetic."""

import math
import secrets
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.classifier.statistics import Statistics, SymmetricMatrix

ROUNDS = 6
ERROR_PROBABILITY = 2.0 ** (-11 * ROUNDS)
"""Bound on the chance that `gram_is_of` accepts a wrong matrix."""

_Words = npt.NDArray[np.uint64]


def differing_entries(statistics: Statistics, expected: Statistics) -> int:
    """Count entries of G, C and the class counts that differ; diagonal blocks of G are kept twice and count twice.

    >>> zeros = Statistics.zeros(2, 2)
    >>> other = zeros.clone()
    >>> other.cross[0, 1] = 2.0**-26
    >>> differing_entries(zeros, zeros), differing_entries(other, zeros)
    (0, 1)
    """
    pairs = (
        (statistics.gram.values, expected.gram.values),
        (statistics.cross, expected.cross),
        (statistics.counts, expected.counts),
    )
    # "not equal" is also true of NaN, which therefore counts as a difference.
    return sum(int((left != right).sum().item()) for left, right in pairs)


def gram_is_of(gram: SymmetricMatrix, rows: Iterable[Tensor], bits: int) -> bool:
    """Check G = XᵀX in O(nd + d²) instead of O(nd²), after Freivalds (1977): compare G v with Xᵀ(X v).

    In units of 2^-2·bits both sides are integers, and all arithmetic is modulo 2⁶⁴, where machine words wrap
    around without loss. Let D = G - XᵀX ≠ 0. Exact sums keep |D_ij| < 2⁵⁴, so some D_ij is 2^t times an odd number with
    t ≤ 53; whatever the other coordinates of v are, at most 2^t of the 2⁶⁴ values of v_j make row i vanish. One
    uniform v therefore misses D with probability at most 2^(53-64), and ROUNDS of them with at most 2⁻⁶⁶.
    The vectors come from the operating system's generator, so that nobody can build a matrix that passes. A
    right matrix always passes.

    Args:
        gram: G, of size d.
        rows: X in chunks of rows, each of shape (n_i, d), multiples of 2^-bits.
        bits: The feature grid's exponent.

    >>> gram = SymmetricMatrix.zeros(2)
    >>> rows = torch.tensor([[0.5, 1.0], [0.0, 1.5]], dtype=torch.float64)
    >>> gram.add_gram_(rows, 1)
    >>> gram_is_of(gram, [rows], bits=1)
    True
    >>> gram.values[0] += 0.25
    >>> gram_is_of(gram, [rows], bits=1)
    False
    """
    if not _is_exact(gram.values, 2 * bits) or not gram.is_symmetric():
        return False
    random = np.frombuffer(secrets.token_bytes(8 * gram.size * ROUNDS), dtype=np.uint64)
    vectors = random.reshape(gram.size, ROUNDS)
    expected = np.zeros_like(vectors)
    for chunk in rows:
        words = _words(chunk, bits)  # (n_i, d)
        # numpy multiplies integers several times faster along contiguous rows: the transpose is worth its copy.
        expected += np.ascontiguousarray(words.T) @ (words @ vectors)
    return bool(np.array_equal(_times(gram, vectors, 2 * bits), expected))


def _times(gram: SymmetricMatrix, vectors: _Words, bits: int) -> _Words:
    product = np.zeros_like(vectors)
    for start, stop, panel in gram.panels():
        words = _words(panel, bits)
        product[start:stop] += words @ vectors[:stop]
        product[:start] += np.ascontiguousarray(words[:, :start].T) @ vectors[start:stop]
    return product


def _is_exact(values: Tensor, bits: int) -> bool:
    """Tell whether every value is an integer below 2^53 in units of 2^-bits; false for NaN and infinity."""
    units = values * math.ldexp(1.0, bits)
    return bool(torch.equal(units, units.round()) and units.abs().max() < math.ldexp(1.0, 53))


def _words(values: Tensor, bits: int) -> _Words:
    """Return integers in units of 2^-bits as words modulo 2⁶⁴; a negative one becomes its two's complement."""
    return (values * math.ldexp(1.0, bits)).to(torch.int64).numpy().view(np.uint64)
