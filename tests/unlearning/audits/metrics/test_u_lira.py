import statistics

import pytest
import torch
from scipy.stats import norm, ttest_ind

from unlearning.audits.metrics.accuracy import wilson_interval
from unlearning.audits.metrics.u_lira import u_lira, u_lira_scores
from unlearning.errors import MetricError


def draw(m, k, shift, seed=0, records=20):
    generator = torch.Generator().manual_seed(seed)
    hardness = 3 * torch.randn(records, generator=generator, dtype=torch.float64)
    return (
        torch.randn(m, records, generator=generator, dtype=torch.float64) + hardness + shift,
        torch.randn(k, records, generator=generator, dtype=torch.float64) + hardness,
    )


def slow_guesses(models, own, other):
    """One row of right guesses per model, with a variance per record."""
    rows = []
    for model in models.tolist():
        row = []
        for x, value in enumerate(model):
            fits = [
                (statistics.fmean(one), statistics.stdev(one))
                for one in (own[:, x].tolist(), other[:, x].tolist())
            ]
            densities = [norm.pdf(value, *fit) for fit in fits]
            row.append(1.0 if densities[0] > densities[1] else 0.0)
        rows.append(row)
    return rows


def test_it_is_the_share_of_right_guesses_written_out():
    unlearned, never = draw(9, 7, 1.0)
    result = u_lira(unlearned, never, variance="per_example")
    fitted = unlearned[[0, 2, 4, 6, 8]], never[[0, 2, 4, 6]]
    guesses = [
        slow_guesses(unlearned[[1, 3, 5, 7]], *fitted),
        slow_guesses(never[[1, 3, 5]], *reversed(fitted)),
    ]
    per_model = [[statistics.fmean(row) for row in rows] for rows in guesses]
    expected = statistics.fmean(statistics.fmean(kind) for kind in per_model)
    assert result.accuracy.value == pytest.approx(expected, abs=1e-12)
    assert result.accuracy.n == 7
    per_record = [
        statistics.fmean(statistics.fmean(row[x] for row in rows) for rows in guesses) for x in range(20)
    ]
    assert result.per_record.tolist() == pytest.approx(per_record, abs=1e-12)
    # The mean of two kinds is half of a difference from the other kind turned round, so scipy's Welch interval serves.
    welch = ttest_ind(per_model[0], [-share for share in per_model[1]], equal_var=False).confidence_interval(
        0.95
    )
    assert result.accuracy.interval == pytest.approx(
        [max(0.0, welch.low / 2), min(1.0, welch.high / 2)], abs=1e-9
    )


def test_models_that_truly_forgot_cannot_be_told_apart():
    accuracies = [u_lira(*draw(8, 8, 0.0, seed)).accuracy for seed in range(100)]
    assert statistics.fmean(one.value for one in accuracies) == pytest.approx(0.5, abs=0.02)
    # 95 of 100 are promised; fewer than 88 has a chance of 1 in 500.
    assert sum(one.interval[0] <= 0.5 <= one.interval[1] for one in accuracies) >= 88


def test_models_that_still_remember_are_caught():
    caught = u_lira(*draw(16, 16, 2.0)).accuracy
    assert caught.interval[0] > 0.6


def test_models_that_are_always_told_apart_leave_an_interval():
    accuracy = u_lira(*draw(8, 8, 50.0)).accuracy
    assert accuracy.value == 1
    assert accuracy.interval == wilson_interval(8, 8)


def test_the_kinds_are_on_equal_terms():
    unlearned, never = draw(5, 5, 1.0)
    assert u_lira(unlearned, never).accuracy.value == pytest.approx(
        u_lira(never, unlearned).accuracy.value, abs=1e-12
    )
    observed = unlearned[0]
    there, back = u_lira_scores(observed, unlearned, never), u_lira_scores(observed, never, unlearned)
    torch.testing.assert_close(there, -back)


def test_the_score_of_one_model_is_scipys_log_likelihood_ratio():
    unlearned, never = draw(4, 6, 1.0)
    observed = torch.linspace(-3, 3, 20, dtype=torch.float64)
    expected = [
        norm.logpdf(float(observed[x]), statistics.fmean(u), statistics.stdev(u))
        - norm.logpdf(float(observed[x]), statistics.fmean(v), statistics.stdev(v))
        for x, (u, v) in enumerate(zip(unlearned.T.tolist(), never.T.tolist(), strict=True))
    ]
    measured = u_lira_scores(observed, unlearned, never, variance="per_example")
    assert measured.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_tie_is_half_right():
    # Both kinds are fitted on the same two signals, -1 and 1, so every guess is a toss.
    models = torch.tensor([[-1.0], [5.0], [1.0], [-7.0]])
    result = u_lira(models, models.clone())
    assert (result.accuracy.value, result.per_record.tolist()) == (0.5, [0.5])


def test_three_models_of_a_kind_are_too_few():
    unlearned, never = draw(4, 3, 0.0)
    with pytest.raises(MetricError, match="3 never-trained models are too few: at least 4"):
        u_lira(unlearned, never)
    with pytest.raises(MetricError, match="3 unlearned models are too few"):
        u_lira(never, unlearned)


def test_models_asked_about_other_records_are_refused():
    unlearned, never = draw(4, 4, 0.0)
    with pytest.raises(MetricError, match="19 records instead of 20"):
        u_lira(unlearned, never[:, 1:])


def test_models_that_all_agree_are_refused():
    with pytest.raises(MetricError, match="no distribution"):
        u_lira(torch.ones(4, 5), torch.zeros(4, 5))
