import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning.audits.metrics.accuracy import accuracy, accuracy_change, wilson_interval
from unlearning.errors import MetricError


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


@pytest.mark.parametrize(("predictions", "labels"), [([], []), ([1], [1, 0]), ([[1, 0]], [[1, 0]])])
def test_predictions_that_do_not_fit_their_labels_are_refused(predictions, labels):
    with pytest.raises(MetricError):
        accuracy(torch.tensor(predictions), torch.tensor(labels))
    with pytest.raises(MetricError):
        accuracy_change(torch.tensor(labels), torch.tensor(predictions), torch.tensor(labels))
