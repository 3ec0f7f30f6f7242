import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unlearning.audits.metrics import kolmogorov_smirnov as module
from unlearning.audits.metrics.kolmogorov_smirnov import kolmogorov_smirnov
from unlearning.errors import MetricError

samples = st.lists(st.integers(-5, 5), min_size=5, max_size=12)


def slow_statistic(sample, reference):
    def share(items, t):
        return sum(item <= t for item in items) / len(items)

    return max(abs(share(sample, t) - share(reference, t)) for t in {*sample, *reference})


@settings(max_examples=25, deadline=None)
@given(sample=samples, reference=samples)
def test_the_statistic_is_the_largest_gap_between_the_two_step_functions(sample, reference):
    if len({*sample, *reference}) == 1:
        return
    test = kolmogorov_smirnov(torch.tensor(sample), torch.tensor(reference))
    assert test.statistic == pytest.approx(slow_statistic(sample, reference), abs=1e-12)
    assert (test.n, test.reference_n) == (len(sample), len(reference))


def test_the_p_value_is_the_share_of_all_relabellings_that_are_as_extreme():
    sample, reference = [0.1, 0.5, 0.7, 1.4], [0.3, 1.1, 1.5, 1.7, 2.0]
    pooled = sorted(sample + reference)
    observed = slow_statistic(sample, reference)
    splits = [set(chosen) for chosen in itertools.combinations(pooled, 4)]
    extreme = sum(
        slow_statistic(list(chosen), [x for x in pooled if x not in chosen]) >= observed - 1e-12
        for chosen in splits
    )
    measured = kolmogorov_smirnov(torch.tensor(sample), torch.tensor(reference))
    assert measured.p_value == pytest.approx(extreme / len(splits), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(sample=samples, reference=samples, seed=st.integers(0, 9))
def test_it_is_symmetric_and_takes_no_notice_of_order(sample, reference, seed):
    if len({*sample, *reference}) == 1:
        return
    one, other = torch.tensor(sample), torch.tensor(reference)
    shuffled = one[torch.randperm(len(one), generator=torch.Generator().manual_seed(seed))]
    there, back = kolmogorov_smirnov(shuffled, other), kolmogorov_smirnov(other, one)
    assert (there.statistic, there.p_value) == pytest.approx((back.statistic, back.p_value), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "shift"), [(60, 60, 0.3), (50, 81, 2.0), (7, 300, 0.0), (40, 40, 9.0)])
def test_the_exact_p_is_scipys_down_to_the_smallest(n, m, shift):
    generator = torch.Generator().manual_seed(n)
    one, other = torch.randn(n, generator=generator) + shift, torch.randn(m, generator=generator)
    expected = stats.ks_2samp(one.numpy(), other.numpy(), method="exact")
    measured = kolmogorov_smirnov(one, other)
    assert measured.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert measured.p_value == pytest.approx(expected.pvalue, rel=1e-10)


def test_samples_that_interleave_as_evenly_as_they_can_have_a_p_of_one():
    # Here scipy's exact p is 1 + 2e-16, so it takes the asymptotic one instead.
    assert kolmogorov_smirnov(torch.arange(10) * 2, torch.arange(10) * 2 + 1).p_value == 1
    assert kolmogorov_smirnov(torch.arange(10), torch.arange(10)).p_value == 1


def test_the_p_of_large_samples_is_scipys_asymptotic_one_and_near_the_exact_one(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    one, other = torch.randn(400, generator=generator), torch.randn(300, generator=generator) + 0.1
    exact = kolmogorov_smirnov(one, other).p_value
    monkeypatch.setattr(module, "EXACT_UP_TO", 699)
    asymptotic = kolmogorov_smirnov(one, other).p_value
    assert asymptotic == pytest.approx(
        stats.ks_2samp(one.numpy(), other.numpy(), method="asymp").pvalue, rel=1e-12
    )
    assert asymptotic == pytest.approx(exact, abs=0.02)


def test_sizes_at_which_nothing_could_be_significant_are_refused():
    # 2 / C(6, 3) = 0.1, but 2 / C(7, 3) = 0.057 and 2 / C(8, 4) = 0.029.
    for sizes in ((3, 3), (3, 4), (1, 38)):
        with pytest.raises(MetricError, match="no outcome could be significant"):
            kolmogorov_smirnov(torch.arange(sizes[0]), torch.arange(sizes[1]))
    assert kolmogorov_smirnov(torch.arange(1), torch.arange(39)).reference_n == 39


def test_scores_that_are_all_the_same_are_refused():
    with pytest.raises(MetricError, match="All scores are the same"):
        kolmogorov_smirnov(torch.ones(9), torch.ones(9))
