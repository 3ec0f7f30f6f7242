"""Normal distributions of each record's signal over models, as LiRA and U-LiRA fit them."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unlearning.audits.metrics.items import refuse_fewer_models
from unlearning.errors import MetricError

Variance = Literal["global", "per_example"]
"""`global` pools the variance over records, for few models; the LiRA paper turns to `per_example` from 64 models on."""


@dataclass(frozen=True)
class Gaussians:
    """One normal distribution per record.

    Attributes:
        mean: Shape (n,).
        variance: Shape (n,), above 0.
    """

    mean: Tensor
    variance: Tensor

    def log_density(self, values: Tensor) -> Tensor:
        """Logarithm of each record's density at its value, shape (n,)."""
        square = (values - self.mean) ** 2 / self.variance
        return -0.5 * (square + self.variance.log() + math.log(2 * math.pi))

    def standardised(self, values: Tensor) -> Tensor:
        """(value - mean) / standard deviation, shape (n,)."""
        return (values - self.mean) / self.variance.sqrt()


def fit_gaussians(signals: Tensor, chosen: Tensor, variance: Variance, kind: str) -> Gaussians:
    """Mean and unbiased variance of each record's signal over the chosen models.

    The global variance is Σ (s - mean of its record)² / Σ (models of a record - 1): the spread over models, pooled over
    records. The LiRA authors' code takes the spread of all signals around one mean instead, which counts the
    differences between records as if they were noise.

    Args:
        signals: Shape (models, n), float64.
        chosen: Which of them count, booleans of shape (models, n).
        variance: Pooled, or of each record by itself.
        kind: Of the models, for messages, such as "that never saw them".

    Raises:
        MetricError: Too few models for a mean and a variance, or a variance of zero.

    >>> import torch
    >>> signals = torch.tensor([[0.0, 5.0], [2.0, 9.0]], dtype=torch.float64)
    >>> fit_gaussians(signals, torch.ones(2, 2, dtype=torch.bool), "global", "").variance  # (2 + 8) / 2
    tensor([5., 5.], dtype=torch.float64)
    """
    refuse_fewer_models(chosen, 2 if variance == "per_example" else 1, kind)
    counts = chosen.sum(dim=0)  # (n,)
    mean = (signals * chosen).sum(dim=0) / counts
    squares = (((signals - mean) ** 2) * chosen).sum(dim=0)
    if variance == "per_example":
        spread = squares / (counts - 1)
    else:
        degrees = int((counts - 1).sum().item())
        if not degrees:
            raise MetricError(f"No record has two models {kind}, so their spread is unknown.")
        spread = (squares.sum() / degrees).expand_as(mean)
    if not spread.min() > 0:
        raise MetricError(f"Models {kind} all give some record the same signal: it has no distribution.")
    return Gaussians(mean, spread)
