"""Logit-scaled confidence: how far a record's own class stands above all others together."""

import torch
from torch import Tensor

from unlearning.audits.metrics.items import labelled_logits


def logit_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """φ = log p_y - log Σ_{k≠y} p_k, per record, in nats.

    Carlini et al., "Membership Inference Attacks From First Principles" (2022), section IV-C: unlike p_y, φ is
    near normally distributed over models. The softmax's denominator cancels, so φ = z_y - logsumexp_{k≠y} z_k
    of the logits z, which neither overflows nor loses a confident model's digits to 1 - p_y = 0.

    Args:
        logits: z, shape (n, classes), n ≥ 1, at least two classes. Log-probabilities serve as well.
        labels: y, shape (n,).

    Returns:
        Shape (n,), float64.

    Raises:
        MetricError: Logits that are not finite numbers, one class alone, or labels that do not fit.

    >>> probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], dtype=torch.float64)
    >>> logit_margins(probabilities.log(), torch.tensor([0, 2])).exp().numpy().round(6)  # the odds of y
    array([1., 4.])
    """
    values, known = labelled_logits(logits, labels)
    own = values.gather(1, known[:, None])  # (n, 1)
    others = values.scatter(1, known[:, None], -torch.inf)
    return own[:, 0] - others.logsumexp(dim=1)
