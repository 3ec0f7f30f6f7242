import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.language.batches import by_budget, by_length, packed, padded
from models.language.tokens import TokenRow
from tests.reference.small_language import random_rows

ROWS = random_rows()


@pytest.mark.parametrize("layout", [padded, packed])
def test_each_answer_token_is_read_where_it_is_predicted_one_place_before_it(layout):
    batch = layout(ROWS, [5, 0, 3])
    flat = batch.tokens.flatten()
    assert torch.equal(flat[batch.sources + 1], batch.targets)
    places = batch.positions.flatten()
    for owner, index in enumerate([5, 0, 3]):
        row, mine = ROWS[index], batch.owners == owner
        answer = [place for place, mark in enumerate(row.answer) if mark]
        assert places[batch.sources[mine]].tolist() == [place - 1 for place in answer]
        assert batch.targets[mine].tolist() == [row.tokens[place] for place in answer]
    assert batch.answer_counts.tolist() == [ROWS[index].answer_count for index in (5, 0, 3)]


def test_a_packed_batch_holds_nothing_but_the_records_and_each_begins_at_position_zero():
    batch = packed(ROWS, range(len(ROWS)))
    assert batch.tokens[0].tolist() == [token for row in ROWS for token in row.tokens]
    assert batch.positions[0].tolist() == [place for row in ROWS for place in range(len(row))]


def test_a_padded_batch_is_as_wide_as_its_longest_record():
    batch = padded(ROWS, [1, 2])
    assert batch.tokens.shape == (2, max(len(ROWS[1]), len(ROWS[2])))


@pytest.mark.parametrize("layout", [padded, packed])
def test_an_empty_batch_is_refused(layout):
    with pytest.raises(ValueError, match=r"empty|at least one"):
        layout(ROWS, [])


@given(lengths=st.lists(st.integers(2, 30), max_size=20), size=st.integers(1, 6), budget=st.integers(30, 60))
@settings(max_examples=50, deadline=None)
def test_groups_hold_every_row_once_and_keep_to_their_limits(lengths, size, budget):
    rows = [TokenRow((1,) * n, (False,) * (n - 1) + (True,)) for n in lengths]
    for groups in (by_length(rows, size), by_budget(rows, budget)):
        assert sorted(index for group in groups for index in group) == list(range(len(rows)))
        assert all(groups)
    assert all(len(group) <= size for group in by_length(rows, size))
    assert all(sum(lengths[index] for index in group) <= budget for group in by_budget(rows, budget))
    flat = [lengths[index] for group in by_length(rows, size) for index in group]
    assert flat == sorted(lengths, reverse=True)


def test_a_row_beyond_the_budget_is_refused():
    with pytest.raises(ValueError, match="does not fit into 3"):
        by_budget([TokenRow((1,) * 4, (False, True, True, True))], 3)
