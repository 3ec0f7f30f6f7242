"""Exact sums over pairs of items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from models.recommender.pair_sums import ForeignPairsError, PairSums

HISTORIES = arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.integers(0, 1))


def sums(histories, weights=None) -> PairSums:
    histories = np.asarray(histories)
    weights = np.ones(len(histories), np.int64) if weights is None else np.asarray(weights)
    return PairSums.of(csr_array(histories.astype(float)), weights)


@given(HISTORIES)
def test_they_are_the_gram_matrix(histories):
    weights = np.arange(1, len(histories) + 1)
    expected = (histories * weights[:, None]).T @ histories
    found = sums(histories, weights)
    assert np.array_equal(found.matrix().toarray(), expected)
    assert np.array_equal(found.diagonal(), expected.diagonal())
    assert (np.diff(found.keys) > 0).all()


@given(HISTORIES, st.randoms())
@settings(deadline=None)
def test_taking_users_away_in_any_order_leaves_the_bits_of_never_having_had_them(histories, random):
    order = list(range(len(histories)))
    random.shuffle(order)
    cut = random.randrange(len(order) + 1)
    whole, nothing = sums(histories), sums(histories[:0])
    for user in order[:cut]:
        whole = whole.changed(sums(histories[[user]]), nothing)
    assert whole.equal(sums(histories[sorted(order[cut:])]))


def test_adding_brings_new_pairs():
    before, more = sums([[1, 1, 0]]), sums([[0, 1, 1]])
    assert before.changed(sums(np.zeros((0, 3))), more).equal(sums([[1, 1, 0], [0, 1, 1]]))


def test_in_place_equals_afresh():
    histories = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 0, 0]])
    found = sums(histories, [3, 5, 7])
    found.subtract_(np.array([1, 2, 3]), 5)
    assert found.without_zeros().equal(sums(histories[[0, 2]], [3, 7]))


@pytest.mark.parametrize("items", [[0, 1], [2, 3], [3]])
def test_taking_away_what_was_never_added_is_refused(items):
    found = sums([[1, 0, 1, 0]])
    kept = found.clone()
    with pytest.raises(ForeignPairsError):
        found.subtract_(np.array(items), 1)
    assert found.equal(kept)
    history = np.zeros((1, 4))
    history[0, items] = 1
    with pytest.raises(ForeignPairsError):
        found.changed(sums(history), sums(np.zeros((0, 4))))


def test_another_table_of_items():
    found = sums([[1, 1, 0], [0, 1, 0]])
    assert found.placed(np.array([1, 3, -1]), 4).equal(sums([[0, 1, 0, 1], [0, 0, 0, 1]]))
    assert found.placed(np.arange(3), 3) is found


def test_differing_pairs_are_counted():
    assert sums([[1, 1, 0]]).differing(sums([[1, 1, 0]])) == 0
    assert sums([[1, 1, 0]]).differing(sums([[1, 0, 1]])) == 4
    assert sums([[1, 1]]).differing(sums([[1, 1, 0]])) == 3


@pytest.mark.parametrize(
    ("keys", "values", "fault"),
    [
        ([0, 3], [1], "ascending"),
        ([3, 0], [1, 1], "ascending"),
        ([0, 4], [1, 1], "not there"),
        ([0, 2, 3], [1, 1, 1], "below the diagonal"),
        ([0, 3], [1, -1], "not positive"),
        ([0], [1], "taken by nobody"),
        ([0, 1, 3], [1, 2, 3], "more often than one of its items"),
    ],
)
def test_impossible_sums_are_told(keys, values, fault):
    assert fault in PairSums(2, np.array(keys), np.array(values)).fault()


@given(HISTORIES)
def test_possible_sums_are_not(histories):
    taken = histories[:, histories.any(axis=0)]
    assert sums(taken).fault() is None
