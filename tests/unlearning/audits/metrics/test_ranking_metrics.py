"""Ranking and pair metrics against their formulas written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning.audits.metrics.activity_gap import activity_gap
from unlearning.audits.metrics.pair_membership import mi_bf, mi_ng
from unlearning.audits.metrics.ranking import ndcg_at_k, overlap_at_k, recall_at_k
from unlearning.errors import MetricError


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 30))
def test_recall_and_ndcg_are_their_formulas(hits, more):
    wanted = max(sum(hits), 1) + more
    row = torch.tensor([hits])
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(hits), wanted) + 1))
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, 1) if hit)
    assert recall_at_k(row, torch.tensor([wanted])).item() == pytest.approx(sum(hits) / wanted)
    assert ndcg_at_k(row, torch.tensor([wanted])).item() == pytest.approx(gain / ideal)


def test_a_perfect_list_has_an_ndcg_of_one():
    hits = torch.tensor([[True, True, False], [True, True, True]])
    assert ndcg_at_k(hits, torch.tensor([2, 9])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k])
def test_who_wants_nothing_is_refused(metric):
    with pytest.raises(MetricError, match="must want something"):
        metric(torch.tensor([[True]]), torch.tensor([0]))


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_overlap_is_a_share_of_sets(some, others):
    lists, theirs = torch.tensor([some[:5]]), torch.tensor([others[:5]])
    assert overlap_at_k(lists, theirs).item() == len(set(some[:5]) & set(others[:5])) / 5


def test_nothing_in_a_list_is_not_common():
    assert overlap_at_k(torch.tensor([[3, -1]]), torch.tensor([[3, -1]])).tolist() == [1.0]
    with pytest.raises(MetricError, match="equally long and not empty"):
        overlap_at_k(torch.tensor([[-1, -1]]), torch.tensor([[3, -1]]))
    with pytest.raises(MetricError, match="equally long and not empty"):
        overlap_at_k(torch.tensor([[1, 2]]), torch.tensor([[3]]))


def test_mi_bf_and_mi_ng_by_hand():
    # sigma(0) = 1/2, sigma(ln 3) = 3/4, sigma(-ln 3) = 1/4
    log3 = math.log(3)
    before, after = torch.tensor([log3, log3]), torch.tensor([0.0, -log3])
    assert mi_bf(before, after) == pytest.approx(0.75 / 0.375)
    assert mi_ng(torch.tensor([0.0]), before) == pytest.approx(0.5 / 0.75)


def test_ratios_that_mean_nothing_are_refused():
    with pytest.raises(MetricError, match="of the same pairs"):
        mi_bf(torch.zeros(2), torch.zeros(3))
    with pytest.raises(MetricError, match="no probability left"):
        mi_bf(torch.zeros(1), torch.full((1,), -1e4))
    with pytest.raises(MetricError):
        mi_ng(torch.zeros(0), torch.zeros(1))
    with pytest.raises(MetricError):
        mi_ng(torch.tensor([math.nan]), torch.zeros(1))


def test_the_gap_is_between_the_most_active_fifth_and_the_rest():
    quality, activity = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0, 1.0, 1.0]), torch.tensor([9, *[1] * 8, 8])
    gap = activity_gap(quality, activity)
    assert gap.value == pytest.approx(1 - 1 / 8)
    # Variances: none among the active, 1/8 among the others.
    spread = 1.959963984540054 * math.sqrt((1 / 8) / 8)
    assert gap.interval == pytest.approx((gap.value - spread, gap.value + spread))
    with pytest.raises(MetricError, match="too few users"):
        activity_gap(quality[:9], activity[:9])
