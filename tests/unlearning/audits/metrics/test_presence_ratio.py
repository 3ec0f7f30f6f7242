import math

import pytest
import torch
from scipy.special import expit

from unlearning.audits.metrics.presence_ratio import presence_ratio
from unlearning.errors import MetricError


def test_it_is_the_ratio_of_the_mean_probabilities():
    before, after = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).to(torch.float64)
    expected = expit(before.numpy()).mean() / expit(after.numpy()).mean()
    assert presence_ratio(before, after) == pytest.approx(expected, rel=1e-12)
    assert presence_ratio(after, before) == pytest.approx(1 / expected, rel=1e-12)


def test_one_improbable_item_does_not_rule_it():
    before = torch.zeros(10)
    after = torch.zeros(10)
    after[0] = -60.0  # the ratio of this item alone is e^60 / 2
    assert presence_ratio(before, after) == pytest.approx(10 / 9, rel=1e-12)


def test_probabilities_of_nothing_at_all_are_refused():
    with pytest.raises(MetricError, match="all 0"):
        presence_ratio(torch.zeros(2), torch.full((2,), -1e4))


def test_items_that_are_not_paired_are_refused():
    with pytest.raises(MetricError, match="3 and 2 items"):
        presence_ratio(torch.zeros(3), torch.zeros(2))
    with pytest.raises(MetricError, match="not finite"):
        presence_ratio(torch.tensor([math.nan]), torch.zeros(1))
