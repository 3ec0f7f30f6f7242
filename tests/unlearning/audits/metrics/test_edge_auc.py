import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from unlearning.audits.metrics.edge_auc import auc_difference, deleted_auc, held_out_auc
from unlearning.audits.metrics.retained_privacy import membership_change
from unlearning.errors import MetricError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(torch.float64)


def scikit(positive, negative):
    truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return roc_auc_score(truth, np.r_[positive, negative])


def test_et_counts_held_out_edges_as_ones_and_ed_deleted_edges_as_zeros():
    one, other = normal(40, seed=1) + 0.4, normal(60, seed=2)
    assert held_out_auc(one, other).value == pytest.approx(scikit(one, other), abs=1e-12)
    assert deleted_auc(one, other).value == pytest.approx(scikit(one, other), abs=1e-12)
    assert deleted_auc(other, one).value == pytest.approx(1 - deleted_auc(one, other).value, abs=1e-12)


def pairs(edges, negatives):
    """Every pair of an edge and a negative: 1 where the edge is above, ½ where they are equal."""
    return [[float(one > other) + 0.5 * float(one == other) for other in negatives] for one in edges]


def test_the_difference_and_its_interval_are_those_of_the_table_of_all_pairs():
    edges, negatives = normal(9, seed=1) + 1, normal(7, seed=2)
    others, other_negatives = normal(3, 9, seed=3), normal(3, 7, seed=4)
    tables = [np.array(pairs(*models)) for models in zip(others, other_negatives, strict=True)]
    gap = np.array(pairs(edges, negatives)) - sum(tables) / 3  # (edges, negatives)
    by_edge, by_negative = gap.mean(axis=1), gap.mean(axis=0)
    variance = by_edge.var(ddof=1) / 9 + by_negative.var(ddof=1) / 7
    found = auc_difference(edges, negatives, others, other_negatives)
    assert found.value == pytest.approx(gap.mean(), abs=1e-12)
    assert found.interval[1] - found.value == pytest.approx(1.959964 * variance**0.5, rel=1e-5)
    assert found.n == 16


def test_against_one_model_it_is_the_paired_change_of_the_auc():
    edges, negatives, before, before_negatives = (normal(30, seed=seed) for seed in range(4))
    assert auc_difference(edges, negatives, before[None], before_negatives[None]) == membership_change(
        before, before_negatives, edges, negatives
    )


@given(st.permutations(range(4)))
def test_the_order_of_the_other_models_does_not_matter(order):
    edges, negatives, others, other_negatives = (
        normal(8),
        normal(8, seed=1),
        normal(4, 8, seed=2),
        normal(4, 8, seed=3),
    )
    one = auc_difference(edges, negatives, others, other_negatives)
    other = auc_difference(edges, negatives, others[list(order)], other_negatives[list(order)])
    assert one.value == pytest.approx(other.value, abs=1e-12)
    assert one.interval == pytest.approx(other.interval, abs=1e-12)


def test_models_that_rank_alike_do_not_yield_a_point():
    edges, negatives = torch.arange(10.0, 20.0), torch.arange(10.0)
    found = auc_difference(edges, negatives, edges[None] + 5, negatives[None])
    assert found.value == 0
    assert found.interval[0] < 0 < found.interval[1]


def test_the_interval_covers_the_true_difference():
    """Two models with AUCs of Φ(1/√2) and Φ(½/√2) on independent items."""
    normal_cdf = torch.distributions.Normal(0.0, 1.0).cdf
    truth = float(normal_cdf(torch.tensor(1 / 2**0.5)) - normal_cdf(torch.tensor(0.5 / 2**0.5)))
    covered = 0
    for seed in range(400):
        noise = normal(4, 60, seed=seed)
        found = auc_difference(noise[0] + 1, noise[1], noise[2][None] + 0.5, noise[3][None])
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(
    ("others", "other_negatives"),
    list(itertools.pairwise([normal(2, 5), normal(2, 4), normal(3, 4), normal(2, 5)])),
)
def test_other_items_are_refused(others, other_negatives):
    with pytest.raises(MetricError, match="not asked about the same"):
        auc_difference(normal(4), normal(5), others, other_negatives)
