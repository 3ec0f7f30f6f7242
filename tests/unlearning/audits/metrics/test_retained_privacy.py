import math
import statistics

import pytest
import torch
from sklearn.metrics import roc_auc_score

from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.metrics.retained_privacy import membership_change
from unlearning.errors import MetricError

Z = 1.959963984540054


def draw(seed, m, n, *, rise, noise):
    """Scores under two models that agree but for noise, members rising by `rise` under the second."""
    generator = torch.Generator().manual_seed(seed)
    members, others = torch.randn(m, generator=generator) + 0.5, torch.randn(n, generator=generator)
    return (
        members,
        others,
        members + rise + noise * torch.randn(m, generator=generator),
        others + noise * torch.randn(n, generator=generator),
    )


def slow_placements(members, others):
    def beats(one, other):
        return 1.0 if one > other else 0.5 if one == other else 0.0

    return (
        [statistics.fmean(beats(m, o) for o in others) for m in members],
        [statistics.fmean(beats(m, o) for m in members) for o in others],
    )


def test_it_is_the_difference_of_two_areas_with_delongs_variance():
    before_m, before_o, after_m, after_o = draw(0, 40, 30, rise=0.5, noise=1.0)
    change = membership_change(before_m, before_o, after_m, after_o)
    labels = [1] * 40 + [0] * 30
    areas = [roc_auc_score(labels, torch.cat(pair)) for pair in ((before_m, before_o), (after_m, after_o))]
    assert change.value == pytest.approx(areas[1] - areas[0], abs=1e-12)
    assert change.n == 70
    # DeLong's matrix: var + var - 2 cov of each kind's placements, over the kind's size.
    variance = 0.0
    before, after = (
        slow_placements(before_m.tolist(), before_o.tolist()),
        slow_placements(after_m.tolist(), after_o.tolist()),
    )
    for one, other in zip(before, after, strict=True):
        spread = statistics.variance(one) + statistics.variance(other) - 2 * statistics.covariance(one, other)
        variance += spread / len(one)
    assert variance > 1 / 32**2  # the floor is not what is tested here
    error = Z * math.sqrt(variance)
    assert change.interval == pytest.approx((change.value - error, change.value + error), abs=1e-9)


def test_pairing_narrows_the_interval_below_that_of_two_separate_areas():
    inputs = draw(1, 400, 300, rise=0.1, noise=0.2)
    change = membership_change(*inputs)
    separate = [membership_auc(*inputs[:2]), membership_auc(*inputs[2:])]
    widths = [one.interval[1] - one.interval[0] for one in separate]
    assert change.interval[1] - change.interval[0] < 0.5 * min(widths)
    assert change.interval[0] > 0  # seen thanks to the pairing


def test_turning_the_models_round_turns_the_change_round():
    inputs = draw(2, 30, 20, rise=0.3, noise=0.5)
    there, back = membership_change(*inputs), membership_change(*inputs[2:], *inputs[:2])
    assert back.value == pytest.approx(-there.value, abs=1e-12)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]), abs=1e-12)


def test_the_same_scores_are_no_change_with_an_interval_that_shrinks():
    widths = []
    for n in (10, 1000):
        members, others, *_ = draw(3, n, n, rise=0.0, noise=0.0)
        change = membership_change(members, others, members, others)
        assert change.value == 0
        assert change.interval == pytest.approx((-Z / (n + 2), Z / (n + 2)))
        widths.append(change.interval[1])
    assert widths[0] > widths[1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # Scores under the two models are N(½, 1) and N(½, 1 + ½²) plus the rise; others N(0, 1) and N(0, 1 + ½²).
    def area(gap, variance):
        return 0.5 * (1 + math.erf(gap / math.sqrt(2 * variance) / math.sqrt(2)))

    truth = area(0.8, 1.25) - area(0.5, 1.0)
    covered = 0
    for seed in range(300):
        low, high = membership_change(*draw(seed, 60, 60, rise=0.3, noise=0.5)).interval
        covered += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.98


def test_other_records_under_the_second_model_are_refused():
    inputs = draw(0, 9, 9, rise=0.0, noise=0.1)
    with pytest.raises(MetricError, match="not asked about the same records"):
        membership_change(inputs[0], inputs[1], inputs[2][:8], inputs[3])


def test_one_kind_of_records_alone_is_refused():
    members = torch.arange(5.0)
    with pytest.raises(MetricError, match="never-seen items are too few"):
        membership_change(members, members[:0], members, members[:0])
