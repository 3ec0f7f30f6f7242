import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.classifier.statistics import PANEL_ROWS, Statistics, SymmetricMatrix
from unlearning.audits.accuracy import accuracy, accuracy_change, wilson_interval
from unlearning.audits.head_distance import relative_distance
from unlearning.audits.report import Check, Outcome
from unlearning.audits.statistics_equality import differing_entries, gram_is_of
from unlearning.audits.verdict import explain, judge


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilsons_interval_holds_the_share_and_solves_its_equation(n, share):
    right = round(share * n)
    low, high = wilson_interval(right, n)
    assert 0 <= low <= right / n <= high <= 1
    for end in (low, high):
        if 0 < end < 1:  # The ends are where the score statistic is z: |p - π| = z √(π(1 - π)/n).
            assert abs(right / n - end) == pytest.approx(
                1.959963984540054 * math.sqrt(end * (1 - end) / n), abs=1e-9
            )


def test_accuracy_counts_right_predictions():
    measured = accuracy(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0]))
    assert (measured.value, measured.n) == (2 / 3, 3)
    assert measured.interval == wilson_interval(2, 3)


def test_equal_predictions_are_no_change_with_an_interval_that_shrinks():
    for n in (10, 1000):
        labels = torch.zeros(n, dtype=torch.int64)
        change = accuracy_change(labels, labels, labels)
        # One half record each way: √1 / (n + 2).
        assert change.value == 0
        assert change.interval[1] == pytest.approx(1.959963984540054 / (n + 2))
        assert change.interval[0] == -change.interval[1]


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


def test_distance_of_heads():
    zeros = torch.zeros(2, 2)
    assert relative_distance(zeros, zeros) == 0
    assert relative_distance(torch.ones(2, 2), zeros) == math.inf
    assert math.isnan(relative_distance(torch.full((2, 2), math.nan), torch.ones(2, 2)))


def check(outcome, *, gating=True, name="check", reason="because"):
    return Check(name=name, formula="", value=None, gating=gating, outcome=outcome, reason=reason)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], Outcome.INCONCLUSIVE),
        ([Outcome.PASS], Outcome.PASS),
        ([Outcome.PASS, Outcome.INCONCLUSIVE], Outcome.INCONCLUSIVE),
        ([Outcome.INCONCLUSIVE, Outcome.FAIL, Outcome.PASS], Outcome.FAIL),
    ],
)
def test_failing_is_stronger_than_not_knowing_and_that_than_passing(outcomes, verdict):
    assert judge([check(outcome) for outcome in outcomes]) is verdict


def test_checks_that_do_not_gate_do_not_decide():
    informative = check(Outcome.FAIL, gating=False)
    assert judge([informative, check(Outcome.PASS)]) is Outcome.PASS
    assert judge([informative]) is Outcome.INCONCLUSIVE


def test_the_sentence_names_what_decided():
    checks = [check(Outcome.PASS, name="first"), check(Outcome.FAIL, name="second", reason="It is wrong.")]
    assert explain(Outcome.FAIL, checks) == "Failed. second: It is wrong."
    assert explain(Outcome.PASS, checks[:1]) == "Passed every gating check (first)."
    assert "No gating check applies" in explain(Outcome.INCONCLUSIVE, [])
