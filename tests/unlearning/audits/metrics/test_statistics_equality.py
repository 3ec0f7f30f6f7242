import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.classifier.statistics import PANEL_ROWS, Statistics, SymmetricMatrix
from unlearning.audits.metrics.statistics_equality import differing_entries, gram_is_of


def on_grid(records, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**12, (records, size), generator=generator).to(torch.float64) * 2.0**-10


def gram(rows) -> SymmetricMatrix:
    matrix = SymmetricMatrix.zeros(rows.shape[1])
    matrix.add_gram_(rows, 1)
    return matrix


@pytest.mark.parametrize("size", [3, PANEL_ROWS + 20])
def test_the_right_matrix_passes_the_random_check_in_any_chunks(size):
    rows = on_grid(30, size)
    assert gram_is_of(gram(rows), [rows], bits=10)
    assert gram_is_of(gram(rows), rows.split(7), bits=10)


@given(position=st.integers(0, 35), bits=st.integers(-20, 30), sign=st.sampled_from([1, -1]))
def test_a_single_wrong_entry_fails_the_random_check_whatever_its_size(position, bits, sign):
    rows = on_grid(30, 6)
    matrix = gram(rows)
    row, column = divmod(position, 6)
    matrix.values.view(6, 6)[row, column] += sign * 2.0**bits
    if row != column:
        matrix.values.view(6, 6)[column, row] += sign * 2.0**bits
    assert not gram_is_of(matrix, [rows], bits=10)


def test_one_record_too_few_or_too_many_fails_the_random_check():
    rows = on_grid(30, 6)
    assert not gram_is_of(gram(rows[1:]), [rows], bits=10)
    assert not gram_is_of(gram(rows), [rows[1:]], bits=10)


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**-21, 2.0**40])
def test_a_value_off_the_grid_fails_the_random_check(value):
    rows = on_grid(30, 1)
    matrix = gram(rows)
    matrix.values[0] = value
    assert not gram_is_of(matrix, [rows], bits=10)


def test_an_asymmetric_matrix_fails_the_random_check():
    rows = on_grid(30, 6)
    matrix = gram(rows)
    matrix.values[1] += 1.0
    assert not gram_is_of(matrix, [rows], bits=10)


def test_nan_counts_as_a_difference():
    zeros = Statistics.zeros(2, 2)
    other = zeros.clone()
    other.cross[0, 0] = math.nan
    assert differing_entries(other, zeros) == differing_entries(other, other) == 1
