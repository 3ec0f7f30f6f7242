import math

import pytest
import torch

from unlearning.audits.metrics.logit_margin import logit_margins


def test_the_margin_is_the_log_odds_of_the_own_class():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(20, 5, generator=generator, dtype=torch.float64)
    probabilities /= probabilities.sum(dim=1, keepdim=True)
    labels = torch.arange(20) % 5
    slow = [
        math.log(row[y] / (sum(row) - row[y]))
        for row, y in zip(probabilities.tolist(), labels.tolist(), strict=True)
    ]
    assert logit_margins(probabilities.log(), labels).tolist() == pytest.approx(slow, abs=1e-12)


def test_a_shift_of_all_logits_changes_nothing():
    logits = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    shifted = logit_margins(logits + 64, torch.tensor([1]))
    torch.testing.assert_close(shifted, logit_margins(logits, torch.tensor([1])), rtol=0, atol=1e-12)


def test_a_confidence_that_rounds_to_one_keeps_its_digits():
    # p_y = 1 - 2 e^-900 is 1 in float64, and log(1 - p_y) would be minus infinity. By hand: 900 - log 2.
    logits = torch.tensor([[900.0, 0.0, 0.0]])
    assert logit_margins(logits, torch.tensor([0])).item() == pytest.approx(900 - math.log(2), abs=1e-12)
    assert logit_margins(logits, torch.tensor([1])).item() == pytest.approx(-900, abs=1e-12)
