import torch
from torch.nn.functional import cross_entropy

from unlearning.audits.metrics.cross_entropy import cross_entropies


def test_it_is_torchs_cross_entropy_without_the_mean():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(20) % 5
    torch.testing.assert_close(
        cross_entropies(logits, labels), cross_entropy(logits, labels, reduction="none")
    )


def test_a_loss_beyond_the_softmaxs_range_is_finite():
    # p_y = e^-900 is 0 in float64.
    assert cross_entropies(torch.tensor([[900.0, 0.0]]), torch.tensor([1])).item() == 900
