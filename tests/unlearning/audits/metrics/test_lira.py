import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from unlearning.audits.metrics.gaussians import fit_gaussians
from unlearning.audits.metrics.lira import lira_offline, lira_online
from unlearning.errors import MetricError

RECORDS, MODELS = 7, 8


def draw(seed):
    """Signals, and a membership with at least two models of each kind per record."""
    generator = torch.Generator().manual_seed(seed)
    observed = torch.randn(RECORDS, generator=generator, dtype=torch.float64)
    shadows = torch.randn(MODELS, RECORDS, generator=generator, dtype=torch.float64)
    learned = torch.rand(MODELS, RECORDS, generator=generator) < 0.5
    learned[:2], learned[2:4] = True, False
    return observed, shadows, learned


def slow_fit(shadows, chosen, variance):
    """Mean and standard deviation of each record, from Python's own statistics."""
    lists = [[float(shadows[m, x]) for m in range(MODELS) if chosen[m, x]] for x in range(RECORDS)]
    means = [statistics.fmean(one) for one in lists]
    if variance == "per_example":
        return means, [statistics.stdev(one) for one in lists]
    squares = sum((value - mean) ** 2 for one, mean in zip(lists, means, strict=True) for value in one)
    pooled = squares / sum(len(one) - 1 for one in lists)
    return means, [pooled**0.5] * RECORDS


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 200), variance=st.sampled_from(["global", "per_example"]))
def test_both_forms_are_scipys_normal_distributions_written_out(seed, variance):
    observed, shadows, learned = draw(seed)
    inside, outside = slow_fit(shadows, learned, variance), slow_fit(shadows, ~learned, variance)
    online = norm.logpdf(observed, *inside) - norm.logpdf(observed, *outside)
    assert lira_online(observed, shadows, learned, variance=variance).tolist() == pytest.approx(
        online, rel=1e-9, abs=1e-9
    )
    # The paper's offline score is 1 - P(Z > φ).
    score = lira_offline(observed, shadows, learned, variance=variance)
    assert norm.cdf(score).tolist() == pytest.approx(1 - norm.sf(observed, *outside), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 50))
def test_the_order_of_records_and_models_does_not_matter(seed):
    observed, shadows, learned = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    x, m = torch.randperm(RECORDS, generator=generator), torch.randperm(MODELS, generator=generator)
    for attack in (lira_online, lira_offline):
        plain, shuffled = (
            attack(observed, shadows, learned),
            attack(observed[x], shadows[m][:, x], learned[m][:, x]),
        )
        torch.testing.assert_close(shuffled, plain[x], rtol=1e-12, atol=1e-12)


def test_a_far_outlier_still_ranks_above_a_near_one_offline():
    # Φ(20) and Φ(40) are both 1.0 in float64.
    shadows = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    scores = lira_offline(torch.tensor([30.0, 60.0]), shadows, torch.zeros(2, 2, dtype=torch.bool))
    assert scores[0] < scores[1]


def test_members_score_higher():
    generator = torch.Generator().manual_seed(0)
    learned = torch.rand(16, 100, generator=generator) < 0.5
    learned[:2], learned[2:4] = True, False
    hardness = 3 * torch.randn(100, generator=generator)
    shadows = torch.randn(16, 100, generator=generator) + hardness + 4 * learned
    target_learned = torch.arange(100) < 50
    observed = torch.randn(100, generator=generator) + hardness + 4 * target_learned
    for attack in (lira_online, lira_offline):
        scores = attack(observed, shadows, learned)
        assert scores[:50].mean() > scores[50:].mean() + 2


def test_a_global_variance_needs_two_models_of_one_record_only():
    signals = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    chosen = torch.tensor([[True, True], [True, False]])
    assert fit_gaussians(signals.double(), chosen, "global", "").variance.tolist() == [2.0, 2.0]
    with pytest.raises(MetricError, match="1 of 2 records need at least 2 models"):
        fit_gaussians(signals.double(), chosen, "per_example", "of a kind")
    with pytest.raises(MetricError, match="their spread is unknown"):
        fit_gaussians(signals.double()[:1], chosen[:1], "global", "of a kind")


def test_models_that_agree_to_the_last_bit_have_no_distribution():
    observed, shadows, learned = draw(0)
    shadows[:, 0] = 1.0
    assert lira_online(observed, shadows, learned, variance="global").isfinite().all()
    with pytest.raises(MetricError, match="no distribution"):
        lira_online(observed, shadows, learned, variance="per_example")
    with pytest.raises(MetricError, match="no distribution"):
        lira_online(observed, torch.ones_like(shadows), learned, variance="global")


def test_models_of_one_kind_alone_serve_offline_only():
    observed, shadows, learned = draw(0)
    never = torch.zeros_like(learned)
    assert lira_offline(observed, shadows, never).isfinite().all()
    with pytest.raises(MetricError, match="7 of 7 records need at least 1 models that have learned them"):
        lira_online(observed, shadows, never)
    with pytest.raises(MetricError, match="that never saw them"):
        lira_offline(observed, shadows, ~never)
