import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.losses.npo import npo_loss


def written_out(answers, reference, beta):
    """(2/β) · mean log(1 + (π/π_ref)^β), the paper's own form, from probabilities and without a care for overflow."""
    terms = [
        math.log(1 + (math.exp(-a) / math.exp(-r)) ** beta) for a, r in zip(answers, reference, strict=True)
    ]
    return 2 / beta * sum(terms) / len(terms)


NATS = st.lists(st.floats(0, 60), min_size=3, max_size=3)


@given(answers=NATS, reference=NATS, beta=st.floats(0.01, 5))
@settings(max_examples=100, deadline=None)
def test_it_is_the_papers_ratio_of_probabilities(answers, reference, beta):
    loss = npo_loss(
        torch.tensor(answers, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64), beta
    )
    # The written-out form rounds 1 + tiny to 1, so it is held to what a float64 near 1 can say.
    assert loss.item() == pytest.approx(written_out(answers, reference, beta), rel=1e-10, abs=1e-15 / beta)


@given(answers=NATS, reference=NATS, beta=st.floats(0.01, 5))
@settings(max_examples=100, deadline=None)
def test_its_gradient_is_ascents_times_a_weight_that_fades(answers, reference, beta):
    """-(1/n) · 2π^β / (π^β + π_ref^β) for every record."""
    summed = torch.tensor(answers, dtype=torch.float64, requires_grad=True)
    npo_loss(summed, torch.tensor(reference, dtype=torch.float64), beta).backward()
    for gradient, a, r in zip(summed.grad.tolist(), answers, reference, strict=True):
        own, before = math.exp(-a * beta), math.exp(-r * beta)
        assert gradient == pytest.approx(-2 * own / (own + before) / 3, rel=1e-9)


def test_the_limit_of_small_beta_is_ascent_on_summed_and_not_on_mean_token_losses():
    tokens = torch.linspace(0.1, 2.0, 12, dtype=torch.float64, requires_grad=True)
    lengths = (3, 9)

    def gradient(loss):
        return torch.autograd.grad(loss, tokens)[0]

    summed = torch.stack([part.sum() for part in tokens.split(lengths)])
    ascent = gradient(-summed.mean())
    summed = torch.stack([part.sum() for part in tokens.split(lengths)])
    npo = gradient(npo_loss(summed, torch.tensor([5.0, 1.0], dtype=torch.float64), 1e-7))
    torch.testing.assert_close(npo, ascent, rtol=1e-5, atol=0)
    means = torch.stack([part.mean() for part in tokens.split(lengths)])
    assert not torch.allclose(npo, gradient(-means.mean()), rtol=0.5, atol=0)


@pytest.mark.parametrize("beta", [1e-3, 1e-5])
def test_the_loss_itself_grows_like_two_ln_two_over_beta(beta):
    loss = npo_loss(torch.tensor([7.0], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64), beta)
    # Next in the series stands -(L - L_ref), here -5, and after it something of the order of β.
    assert loss.item() == pytest.approx(2 * math.log(2) / beta - 5, abs=10 * beta)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [1e5, -1e5])
def test_sums_over_long_answers_do_not_overflow(dtype, distance):
    summed = torch.tensor([1e5 + distance], dtype=dtype, requires_grad=True)
    loss = npo_loss(summed, torch.tensor([1e5], dtype=dtype), 10.0)
    loss.backward()
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(0.0 if distance > 0 else 2e5)
    assert summed.grad.item() == (0.0 if distance > 0 else -2.0)


def test_no_gradient_reaches_the_reference_and_at_it_the_weight_is_one():
    reference = torch.tensor([3.0, 1.0], requires_grad=True)
    answers = reference.detach().clone().requires_grad_()
    npo_loss(answers, reference, 0.1).backward()
    assert reference.grad is None
    assert answers.grad.tolist() == [-0.5, -0.5]
