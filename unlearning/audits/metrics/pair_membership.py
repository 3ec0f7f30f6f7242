"""MI-BF and MI-NG: how present forgotten pairs are, against before and against pairs that nobody took."""

import torch
from torch import Tensor

from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError


def mi_bf(before: Tensor, after: Tensor) -> float:
    """MI-BF = mean p before / mean p after over forgotten pairs, p the logistic of a score: above 1, they have become less likely.

    UnlearnRec (arXiv 2505.22649), section 4, after the presence-probability ratio of GNNDelete.

    Args:
        before: The original's scores of forgotten pairs, shape (n,).
        after: The new version's, shape (n,).

    Raises:
        MetricError: There are none, not as many, one is not finite, or all have vanished afterwards.

    >>> round(mi_bf(torch.tensor([0.0, 0.0]), torch.tensor([-1.0986, -1.0986])), 3)  # ½ / ¼
    2.0
    """
    if before.shape != after.shape:
        raise MetricError("scores before and after must be of the same pairs")
    return _ratio(before, after)


def mi_ng(negatives: Tensor, forgotten: Tensor) -> float:
    """MI-NG = mean p of negative pairs / mean p of forgotten pairs, p the logistic of a score: 1 where they are alike.

    UnlearnRec (arXiv 2505.22649), section 4.

    Args:
        negatives: Scores of pairs that nobody took, shape (m,).
        forgotten: Scores of forgotten pairs, shape (n,).

    Raises:
        MetricError: There are none of either, one is not finite, or all forgotten ones have vanished.

    >>> round(mi_ng(torch.tensor([0.0]), torch.tensor([0.0, 0.0])), 3)
    1.0
    """
    return _ratio(negatives, forgotten)


def _ratio(above: Tensor, below: Tensor) -> float:
    upper = torch.sigmoid(floats(above, "scores of pairs", at_least=1)).mean()
    lower = torch.sigmoid(floats(below, "scores of pairs", at_least=1)).mean()
    if float(lower) == 0.0:
        raise MetricError("the pairs below the line have no probability left, so no ratio can be taken")
    return float(upper / lower)
