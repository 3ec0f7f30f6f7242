"""Accuracy with Wilson's interval, and the paired change of accuracy between two models on the same records."""

import math

from torch import Tensor

from unlearning.audits.metrics.estimate import Z_95, Estimate
from unlearning.errors import MetricError


def accuracy(predictions: Tensor, labels: Tensor) -> Estimate:
    """Share of right predictions.

    Args:
        predictions: Shape (n,), n ≥ 1.
        labels: Shape (n,).

    Raises:
        MetricError: No records, or not as many predictions as labels.

    >>> import torch
    >>> accuracy(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 1, 1])).value
    0.75
    """
    _refuse_unpaired(predictions, labels)
    right = int((predictions == labels).sum().item())
    return Estimate(right / len(labels), wilson_interval(right, len(labels)), len(labels))


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share, at 95 %.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). Unlike the textbook interval it does not collapse to a
    point at 0 or 1.

    >>> [round(end, 4) for end in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    >>> [round(end, 4) for end in wilson_interval(10, 10)]
    [0.7225, 1.0]
    """
    share, square = successes / n, Z_95**2
    centre = share + square / (2 * n)
    spread = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    scale = 1 + square / n
    # At shares of 0 and 1 one end is the share itself, but for rounding.
    return max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))


def accuracy_change(before: Tensor, after: Tensor, labels: Tensor) -> Estimate:
    """Change of accuracy from one model to another, measured on the same records.

    With b records that only `before` got right and c that only `after` did, the change is (c - b)/n. Its interval
    is Agresti and Min's (2005): half a record is added to each of b and c, two to n, and the normal interval is
    taken. Pairing makes it far narrower than two separate intervals, and it does not collapse at b = c = 0.

    Args:
        before: Predictions, shape (n,), n ≥ 1.
        after: Predictions, shape (n,).
        labels: Shape (n,).

    Raises:
        MetricError: No records, or not as many predictions as labels.

    >>> import torch
    >>> labels = torch.zeros(100, dtype=torch.int64)
    >>> worse = labels.clone()
    >>> worse[:10] = 1
    >>> change = accuracy_change(labels, worse, labels)
    >>> change.value, [round(end, 3) for end in change.interval]
    (-0.1, [-0.159, -0.037])
    """
    _refuse_unpaired(before, labels)
    _refuse_unpaired(after, labels)
    n = len(labels)
    lost = int(((before == labels) & (after != labels)).sum().item())
    won = int(((before != labels) & (after == labels)).sum().item())
    lost_more, won_more, more = lost + 0.5, won + 0.5, n + 2
    centre = (won_more - lost_more) / more
    spread = Z_95 * math.sqrt(lost_more + won_more - (won_more - lost_more) ** 2 / more) / more
    return Estimate((won - lost) / n, (max(-1.0, centre - spread), min(1.0, centre + spread)), n)


def _refuse_unpaired(predictions: Tensor, labels: Tensor) -> None:
    # Shapes that differ would broadcast, and the share would be of pairs that nobody asked about.
    if predictions.shape != labels.shape or labels.dim() != 1:
        raise MetricError(
            f"Predictions of shape {tuple(predictions.shape)} do not fit labels of shape {tuple(labels.shape)}."
        )
    if not len(labels):
        raise MetricError("There are no records to measure accuracy on.")
