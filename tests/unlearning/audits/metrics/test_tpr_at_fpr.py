import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from unlearning.audits.metrics.tpr_at_fpr import tpr_at_fpr
from unlearning.errors import MetricError

scores = st.lists(st.integers(-9, 9), min_size=4, max_size=30)


@settings(max_examples=25, deadline=None)
@given(members=scores, others=scores, rate=st.sampled_from([0.25, 0.3, 0.5]))
def test_it_is_the_best_point_of_scikit_learns_curve_within_the_rate(members, others, rate):
    assume(len({*members, *others}) > 1)
    fpr, tpr, _ = roc_curve([1] * len(members) + [0] * len(others), members + others, drop_intermediate=False)
    point = tpr_at_fpr(torch.tensor(members), torch.tensor(others), rate)
    assert point.true_positives.value == pytest.approx(tpr[fpr <= rate + 1e-12].max(), abs=1e-12)
    assert point.false_positives.value <= rate
    assert (point.true_positives.n, point.false_positives.n) == (len(members), len(others))


def test_the_intervals_are_clopper_and_pearsons():
    members, others = torch.arange(40) + 30, torch.arange(100)
    point = tpr_at_fpr(members, others, 0.5)  # above 49: 20 of 40 members, 50 of 100 others
    assert point.true_positives.interval == pytest.approx(tuple(binomtest(20, 40).proportion_ci()), abs=1e-9)
    assert point.false_positives.interval == pytest.approx(
        tuple(binomtest(50, 100).proportion_ci()), abs=1e-9
    )


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 100), (0.001, 1000)])
def test_a_rate_needs_as_many_never_seen_items_as_it_takes_to_see_one_false_alarm(rate, needed):
    members = torch.arange(50) + needed - 20
    with pytest.raises(MetricError, match=f"at least {needed} never-seen items, but there are {needed - 1}"):
        tpr_at_fpr(members, torch.arange(needed - 1), rate)
    point = tpr_at_fpr(members, torch.arange(needed), rate)
    assert point.false_positives.value == rate
    # One false alarm among so few: the rate itself may be five times higher.
    assert point.false_positives.interval[1] > 5 * rate
    assert point.true_positives.value == 31 / 50  # those above needed - 2


def test_a_rate_that_rounding_puts_just_below_a_count_is_not_lost():
    assert 0.29 * 100 < 29
    assert tpr_at_fpr(torch.arange(100), torch.arange(100), 0.29).false_positives.value == 0.29


def test_ties_at_the_threshold_alarm_less_often_than_allowed_rather_than_more():
    point = tpr_at_fpr(torch.tensor([1.0, 2.0]), torch.tensor([1.0] * 10), 0.5)
    assert (point.false_positives.value, point.true_positives.value) == (0.0, 0.5)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(MetricError, match="not between 0 and 1"):
        tpr_at_fpr(torch.arange(9), torch.arange(9), rate)


def test_scores_that_are_all_the_same_are_refused():
    with pytest.raises(MetricError, match="All scores are the same"):
        tpr_at_fpr(torch.ones(9), torch.ones(9), 0.5)
