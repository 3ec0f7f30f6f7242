import math

import pytest
import torch
from scipy import stats

from unlearning.audits.bounds import Limits, two_sided, upper
from unlearning.audits.forgetting import auc_limits
from unlearning.errors import MetricError


def share_inside(bound, count, draws=1500):
    """How often one more draw from a normal distribution keeps a bound that was set on `count` others."""
    values = torch.randn(draws, count + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return sum(bound(row[:-1]).hold(row[-1]) for row in values.tolist()) / draws


@pytest.mark.parametrize("count", [3, 5, 12])
@pytest.mark.parametrize("rate", [0.2, 0.025])
def test_one_more_retrained_model_keeps_the_bounds_as_often_as_promised(count, rate):
    error = 4 * math.sqrt(rate * (1 - rate) / 1500)
    assert share_inside(lambda references: two_sided(references, rate), count) == pytest.approx(
        1 - rate, abs=error
    )
    assert share_inside(lambda references: upper(references, rate), count) == pytest.approx(
        1 - rate, abs=error
    )


def test_the_interval_is_students_prediction_interval():
    references = [1.0, 4.0, 2.0, 7.0]
    spread = torch.tensor(references).std().item()
    expected = stats.t(3, loc=3.5, scale=spread * math.sqrt(1.25)).interval(0.95)
    limits = two_sided(references, 0.05)
    assert (limits.low, limits.high) == pytest.approx(expected)
    assert limits.centre == 3.5
    assert upper(references, 0.025).high == pytest.approx(expected[1])


def test_a_tolerance_widens_and_never_narrows():
    assert two_sided([1.0, 1.0, 1.0], 0.05, tolerance=0.5).high == 1.5
    wide = two_sided([1.0, 5.0, 9.0], 0.05)
    assert two_sided([1.0, 5.0, 9.0], 0.05, tolerance=0.5) == wide


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        ([1.0, 2.0], "2 retrained references are too few"),
        ([1.0, 2.0, math.nan], "not a finite number"),
        ([1.0, 2.0, math.inf], "not a finite number"),
        ([2.0, 2.0, 2.0], "no spread"),
    ],
)
@pytest.mark.parametrize("bound", [two_sided, upper])
def test_references_that_bound_nothing_are_refused(bound, references, reason):
    with pytest.raises(MetricError, match=reason):
        bound(references, 0.05)


def test_nan_keeps_no_bound():
    assert not Limits(-1.0, 1.0, 0.0).hold(math.nan)


def test_reach_is_counted_in_ways_to_the_bound_on_the_same_side():
    limits = Limits(-1.0, 4.0, 0.0)
    assert limits.reach(-2.0) == limits.reach(8.0) == 2.0
    assert Limits(0.0, 0.0, 0.0).reach(1.0) == math.inf
    assert Limits(0.0, 0.0, 0.0).reach(0.0) == 0.0
    assert Limits(-math.inf, 4.0, 0.0).finite == (None, 4.0)


def test_aucs_at_the_end_of_their_scale_keep_a_tolerance_and_stay_on_it():
    limits = auc_limits([0.0] * 5, 0.025, pairs=1000)
    assert limits.hold(0.0)
    assert limits.hold(0.01)
    assert not limits.hold(0.02)
    assert auc_limits([0.9, 0.95, 0.99], 0.025, pairs=1000).high == pytest.approx(1.0)
