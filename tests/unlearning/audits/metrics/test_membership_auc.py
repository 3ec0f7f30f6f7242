import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from unlearning.audits.metrics.membership_auc import membership_auc, placements
from unlearning.errors import MetricError

scores = st.lists(st.integers(-6, 6), min_size=2, max_size=15)
Z = 1.959963984540054


def beats(one, other):
    return 1.0 if one > other else 0.5 if one == other else 0.0


def slow_placements(members, others):
    return (
        [sum(beats(m, o) for o in others) / len(others) for m in members],
        [sum(beats(m, o) for m in members) / len(members) for o in others],
    )


def slow_variance(values):
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def measured(members, others):
    return membership_auc(torch.tensor(members), torch.tensor(others))


@settings(max_examples=25, deadline=None)
@given(members=scores, others=scores)
def test_it_is_scikit_learns_area_ties_included(members, others):
    if len({*members, *others}) == 1:
        return
    labels = [1] * len(members) + [0] * len(others)
    auc = measured(members, others)
    assert auc.value == pytest.approx(roc_auc_score(labels, members + others), abs=1e-12)
    assert auc.n == len(members) + len(others)
    assert 0 <= auc.interval[0] <= auc.value + 1e-12
    assert auc.value - 1e-12 <= auc.interval[1] <= 1


@settings(max_examples=25, deadline=None)
@given(members=scores, others=scores)
def test_placements_are_those_of_all_pairs(members, others):
    if len({*members, *others}) == 1:
        return
    fast = placements(torch.tensor(members), torch.tensor(others))
    for ranked, paired in zip(fast, slow_placements(members, others), strict=True):
        assert ranked.tolist() == pytest.approx(paired, abs=1e-12)


def test_the_interval_is_delongs_on_the_log_odds_scale():
    members, others = [0.8, 1.9, 2.2, 3.1, 0.4], [0.1, 0.9, 1.2, 0.4]
    of_members, of_others = slow_placements(members, others)
    auc = sum(of_members) / 5
    error = math.sqrt(slow_variance(of_members) / 5 + slow_variance(of_others) / 4)
    ends = [math.log(auc / (1 - auc)) + sign * Z * error / (auc * (1 - auc)) for sign in (-1, 1)]
    assert measured(members, others).interval == pytest.approx(
        [1 / (1 + math.exp(-end)) for end in ends], abs=1e-12
    )


@pytest.mark.parametrize(("m", "n"), [(5, 5), (40, 7), (300, 200)])
def test_perfect_separation_has_an_interval_that_solves_newcombes_equation(m, n):
    auc = measured(list(range(1000, 1000 + m)), list(range(n)))
    low, high = auc.interval
    assert (auc.value, high) == (1.0, 1.0)
    shape = (1 - low) / (2 - low) + low / (1 + low)
    variance = low * (1 - low) * (1 + ((m + n) / 2 - 1) * shape) / (m * n)
    assert 1 - low == pytest.approx(Z * math.sqrt(variance), abs=1e-8)
    assert 0 < low < 1


def test_more_items_narrow_the_interval_of_perfect_separation():
    widths = [1 - measured(list(range(100, 100 + n)), list(range(n))).interval[0] for n in (3, 10, 50)]
    assert widths == sorted(widths, reverse=True)


@settings(max_examples=25, deadline=None)
@given(members=scores, others=scores)
def test_turning_the_scores_round_turns_the_figure_round(members, others):
    if len({*members, *others}) == 1:
        return
    auc, turned = measured(members, others), measured([-s for s in members], [-s for s in others])
    assert turned.value == pytest.approx(1 - auc.value, abs=1e-12)
    assert turned.interval == pytest.approx([1 - auc.interval[1], 1 - auc.interval[0]], abs=1e-7)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # Scores of members lie 1 higher: the true AUC is Φ(1 / √2).
    truth = 0.5 * (1 + math.erf(0.5))
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(400):
        low, high = membership_auc(
            torch.randn(25, generator=generator) + 1, torch.randn(35, generator=generator)
        ).interval
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("members", "others"), [([1.0], [0.0, 2.0]), ([1.0, 2.0], [0.0]), ([1.0, 2.0], [])])
def test_one_kind_alone_or_single_items_are_refused(members, others):
    with pytest.raises(MetricError, match="too few"):
        measured(members, others)


def test_scores_that_are_all_the_same_are_refused():
    with pytest.raises(MetricError, match="All scores are the same"):
        measured([1.0, 1.0], [1.0, 1.0])
