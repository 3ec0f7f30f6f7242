import math

import pytest
import torch

from unlearning.losses.inverted_hinge import inverted_hinge_loss


def written_out(rows, tokens):
    total = 0.0
    for row, token in zip(rows, tokens, strict=True):
        scale = sum(math.exp(value) for value in row)
        probabilities = [math.exp(value) / scale for value in row]
        total += 1 + probabilities[token] - max(p for v, p in enumerate(probabilities) if v != token)
    return total / len(rows)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("vocabulary", [2, 3, 50])
def test_it_is_one_plus_the_answer_minus_its_strongest_rival(dtype, tolerance, vocabulary):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, vocabulary, generator=generator, dtype=dtype)
    tokens = torch.randint(vocabulary, (40,), generator=generator)
    tokens[:10] = logits[:10].argmax(dim=1)  # both cases: the answer is the first choice, or it is not
    expected = written_out(logits.tolist(), tokens.tolist())
    assert inverted_hinge_loss(logits, tokens).item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("answer_leads", [True, False])
def test_the_gradient_is_the_papers(answer_leads):
    """p_y (1 + p* - p_y) at the answer, -p* (1 + p_y - p*) at its rival, p_v (p* - p_y) elsewhere."""
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    answer, rival = (0, 1) if answer_leads else (2, 0)
    logits = p.log()[None].requires_grad_()
    inverted_hinge_loss(logits, torch.tensor([answer])).backward()
    expected = p * (p[rival] - p[answer])
    expected[answer] = p[answer] * (1 + p[rival] - p[answer])
    expected[rival] = -p[rival] * (1 + p[answer] - p[rival])
    torch.testing.assert_close(logits.grad[0], expected)


def test_equally_strong_rivals_count_once_and_one_of_them_may_be_the_answer():
    even = torch.zeros(1, 4)
    for token in range(4):
        assert inverted_hinge_loss(even, torch.tensor([token])).item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_reach_the_bounds_without_overflow(dtype):
    certain = torch.tensor([[1e4, 0.0, -1e4]], dtype=dtype, requires_grad=True)
    known, lost = (inverted_hinge_loss(certain, torch.tensor([token])) for token in (0, 2))
    (known + lost).backward()
    assert (known.item(), lost.item()) == (2.0, 0.0)
    assert certain.grad.isfinite().all()
