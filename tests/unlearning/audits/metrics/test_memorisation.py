import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.audits.metrics.memorisation import memorisation_proxy, memorisation_scores
from unlearning.errors import MetricError


def draw(seed, models=6, records=8):
    generator = torch.Generator().manual_seed(seed)
    right = (torch.rand(models, records, generator=generator) < 0.6).to(torch.float64)
    learned = torch.rand(models, records, generator=generator) < 0.5
    learned[0], learned[1] = True, False
    return right, learned


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 200))
def test_it_is_the_difference_of_the_two_shares_of_right_answers(seed):
    right, learned = draw(seed)
    expected = [
        statistics.fmean(float(right[m, x]) for m in range(6) if learned[m, x])
        - statistics.fmean(float(right[m, x]) for m in range(6) if not learned[m, x])
        for x in range(8)
    ]
    assert memorisation_scores(right, learned).tolist() == pytest.approx(expected, abs=1e-12)


def test_with_one_model_inside_the_proxy_is_the_score():
    right, _ = draw(1)
    learned = torch.zeros(6, 8, dtype=torch.bool)
    learned[0] = True
    torch.testing.assert_close(memorisation_proxy(right[0], right[1:]), memorisation_scores(right, learned))


def test_a_mislabelled_record_is_memorised_and_a_typical_one_is_not():
    # Right on the odd label only where it was learned; right on the typical record always.
    learned = torch.tensor([[True, True], [False, False], [True, False], [False, True]])
    right = torch.stack([learned[:, 0].double(), torch.ones(4, dtype=torch.float64)], dim=1)
    assert memorisation_scores(right, learned).tolist() == [1.0, 0.0]


def test_records_without_models_of_both_kinds_are_refused():
    right, learned = draw(0)
    learned[:, 2] = True
    with pytest.raises(MetricError, match="that never saw them"):
        memorisation_scores(right, learned)
    with pytest.raises(MetricError, match="that have learned them"):
        memorisation_scores(right, torch.zeros_like(learned))


def test_logits_in_the_place_of_probabilities_are_refused():
    right, learned = draw(0)
    for values in (right * 5, right - 1):
        with pytest.raises(MetricError, match="between 0 and 1"):
            memorisation_scores(values, learned)
        with pytest.raises(MetricError, match="between 0 and 1"):
            memorisation_proxy(values[0], right)
        with pytest.raises(MetricError, match="between 0 and 1"):
            memorisation_proxy(right[0], values)


def test_retrained_models_asked_about_other_records_are_refused():
    with pytest.raises(MetricError, match="7 records instead of 8"):
        memorisation_proxy(torch.ones(8), torch.ones(3, 7))
