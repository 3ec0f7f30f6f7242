"""Flipped predictions: the share of items on which two models decide differently."""

from torch import Tensor

from unlearning.audits.metrics.estimate import Estimate, share_estimate
from unlearning.errors import MetricError


def flipped(predictions: Tensor, reference: Tensor) -> Estimate:
    """Share of items whose predicted class differs, with Clopper and Pearson's interval.

    Milani Fard et al., "Launch and Iterate: Reducing Prediction Churn" (2016), section 2, call it churn. Two models that
    are retrained by other seeds flip some predictions too: that share is the figure to compare with.

    Args:
        predictions: Classes that one model predicts, integers or booleans, shape (n,), n ≥ 1.
        reference: Classes that the other one predicts, on the same items, shape (n,).

    Raises:
        MetricError: No items, other items, or predictions that are no classes.

    >>> import torch
    >>> flipped(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])).value
    0.25
    """
    if predictions.shape != reference.shape or predictions.dim() != 1:
        raise MetricError(
            f"Predictions of shape {tuple(predictions.shape)} and {tuple(reference.shape)} are not paired."
        )
    if predictions.is_floating_point() or reference.is_floating_point():
        raise MetricError("Predictions are classes, not scores.")
    if not len(predictions):
        raise MetricError("There are no other items whose predictions could be compared.")
    return share_estimate(int((predictions != reference).sum().item()), len(predictions))
