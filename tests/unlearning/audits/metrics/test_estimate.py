import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unlearning.audits.metrics.estimate import mean_estimate, share_estimate


def test_the_interval_of_a_mean_is_students():
    items = np.random.default_rng(0).normal(size=20)
    expected = stats.t.interval(0.95, 19, items.mean(), stats.sem(items))
    assert mean_estimate(torch.tensor(items)).interval == pytest.approx(expected, rel=1e-12)


def test_the_interval_of_a_mean_stays_among_possible_values():
    assert mean_estimate(torch.tensor([0.0, 1.0]), low=0.0, high=1.0).interval == (0.0, 1.0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 300), share=st.floats(0, 1))
def test_the_interval_of_a_share_is_scipys_exact_one(n, share):
    successes = round(share * n)
    expected = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    assert share_estimate(successes, n).interval == pytest.approx(tuple(expected), abs=1e-9)
