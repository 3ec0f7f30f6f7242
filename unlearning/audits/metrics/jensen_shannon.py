"""Jensen-Shannon divergence of two models' predictions on the same records."""

import math

import torch
from torch import Tensor

from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.metrics.items import paired_logits


def jensen_shannon(logits: Tensor, reference: Tensor) -> Estimate:
    """Mean over records of ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, in nats: 0 for equal models, at most ln 2.

    Lin, "Divergence measures based on the Shannon entropy" (1991). Each KL(p ‖ m) = Σ_k p_k log(p_k / m_k) sums over the
    classes; only records are averaged. Published unlearning code calls `kl_div(p.log(), m)`, which is KL(m ‖ p), the
    arguments the other way round, and averages over classes too, so a divergence looks several times smaller
    (its 1 - JS of 0.972 is in truth 0.822).

    Args:
        logits: Of the audited model, shape (n, classes), n ≥ 2. Log-probabilities serve as well.
        reference: Of the other model, on the same records in the same order.

    Raises:
        MetricError: Logits that are not finite numbers, shapes that differ, or fewer than two records.

    >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    >>> round(jensen_shannon(p.log().expand(2, 2), q.log().expand(2, 2)).value, 6)
    0.033822
    """
    values, others = paired_logits(logits, reference)
    return mean_estimate(divergences(values, others), low=0.0, high=math.log(2))


def divergences(logits: Tensor, reference: Tensor) -> Tensor:
    """Jensen-Shannon divergence per record, in nats; see `jensen_shannon`.

    Args:
        logits: Shape (n, classes), n ≥ 1.
        reference: Of the same shape.

    Returns:
        Shape (n,), float64, between 0 and ln 2.

    >>> alike = torch.tensor([[1.0, 2.0]])
    >>> divergences(alike, alike + 5)  # softmax takes no notice of a shift
    tensor([0.], dtype=torch.float64)
    """
    values, others = paired_logits(logits, reference)
    log_p, log_q = values.log_softmax(dim=1), others.log_softmax(dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    # Rounding can carry the sum of the two past either end by a few units in the last place.
    return (0.5 * (_kl(log_p, log_m) + _kl(log_q, log_m))).clamp(0.0, math.log(2))


def _kl(log_p: Tensor, log_m: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_m)).sum(dim=1)
