"""Activation distance: how far two models' predictions lie apart on the same records."""

import math

from torch import Tensor

from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.metrics.items import paired_logits


def activation_distance(logits: Tensor, reference: Tensor) -> Estimate:
    """Mean over records of ‖softmax(z) - softmax(z_ref)‖₂: 0 for equal predictions, at most √2.

    Golatkar et al., "Eternal Sunshine of the Spotless Net" (2020), and Chundawat et al., "Zero-Shot Machine
    Unlearning" (2023), compare the unlearned with the retrained model so on the forget set.

    Args:
        logits: z of the audited model, shape (n, classes), n ≥ 2. Log-probabilities serve as well.
        reference: z_ref of the other model, on the same records in the same order.

    Raises:
        MetricError: Logits that are not finite numbers, shapes that differ, or fewer than two records.

    >>> import torch
    >>> ours, theirs = torch.tensor([[0.5, 0.5], [0.2, 0.8]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> round(activation_distance(ours.log(), theirs.log()).value, 6)  # mean of 0 and √(2 · 0.3²)
    0.212132
    """
    values, others = paired_logits(logits, reference)
    distances = (values.softmax(dim=1) - others.softmax(dim=1)).norm(dim=1)
    return mean_estimate(distances, low=0.0, high=math.sqrt(2))
