import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.losses.npo import npo_loss
from unlearning.losses.simnpo import simnpo_loss


def written_out(answers, lengths, beta, gamma):
    """The paper's form with its margin γ: -(2/β) · mean log σ(-(β/|y|) log π - γ)."""
    scores = [-(beta / n) * -total - gamma for total, n in zip(answers, lengths, strict=True)]
    return -2 / beta * sum(math.log(1 / (1 + math.exp(-score))) for score in scores) / len(scores)


@given(
    answers=st.lists(st.floats(0, 60), min_size=3, max_size=3),
    lengths=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    beta=st.floats(0.1, 5),
    gamma=st.floats(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_it_is_the_papers_form_with_the_margin_counted_in_nats(answers, lengths, beta, gamma):
    loss = simnpo_loss(torch.tensor(answers, dtype=torch.float64), torch.tensor(lengths), beta, gamma / beta)
    assert loss.item() == pytest.approx(written_out(answers, lengths, beta, gamma), rel=1e-10, abs=1e-14)


def test_answers_of_one_mean_weigh_the_same_whatever_their_length():
    summed = torch.tensor([2.0, 20.0], requires_grad=True)
    lengths = torch.tensor([1, 10])
    simnpo_loss(summed, lengths, 4.5).backward()
    per_mean = summed.grad * lengths
    torch.testing.assert_close(per_mean[0], per_mean[1])
    assert per_mean[0].item() == pytest.approx(-2 / (1 + math.exp(4.5 * 2.0)) / 2)


def test_an_answer_of_one_token_is_npo_against_a_reference_of_delta():
    summed = torch.tensor([0.3, 4.0], dtype=torch.float64)
    expected = npo_loss(summed, torch.full_like(summed, 0.7), 2.5)
    torch.testing.assert_close(simnpo_loss(summed, torch.ones(2, dtype=torch.int64), 2.5, 0.7), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("total", "expected"), [(1e6, 0.0), (0.0, 2 * math.log(2) / 4.5)])
def test_losses_at_either_end_are_finite_with_their_gradients(dtype, total, expected):
    summed = torch.tensor([total], dtype=dtype, requires_grad=True)
    loss = simnpo_loss(summed, torch.tensor([10]), 4.5)
    loss.backward()
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(expected)
    assert summed.grad.isfinite().all()
