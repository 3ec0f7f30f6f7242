"""A measured figure with its 95 % interval, and the interval of a plain mean."""

import math
from dataclasses import dataclass

from scipy import stats
from torch import Tensor

from unlearning.audits.metrics.items import floats

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution: two-sided 95 % intervals."""


@dataclass(frozen=True)
class Estimate:
    """A measured share, mean or difference with its 95 % interval."""

    value: float
    interval: tuple[float, float]
    n: int


def mean_estimate(items: Tensor, *, low: float = -math.inf, high: float = math.inf) -> Estimate:
    """Mean of independent items with Student's interval: m ± t(0.975, n-1) s / √n.

    Args:
        items: Shape (n,), n ≥ 2.
        low: Least possible value; the interval is cut there.
        high: Largest possible value.

    Raises:
        MetricError: Fewer than two items, or one that is not a finite number.

    >>> import torch
    >>> measured = mean_estimate(torch.tensor([1.0, 2.0, 3.0]))  # s = 1, t = 4.303
    >>> measured.value, [round(end, 3) for end in measured.interval]
    (2.0, [-0.484, 4.484])
    """
    values = floats(items, "items", at_least=2)
    n, mean = len(values), float(values.mean())
    spread = float(stats.t.ppf(0.975, n - 1)) * float(values.std()) / math.sqrt(n)
    return Estimate(mean, (max(low, mean - spread), min(high, mean + spread)), n)


def share_estimate(successes: int, n: int) -> Estimate:
    """Share of successes with Clopper and Pearson's (1934) interval, whose coverage is never below 95 %.

    The ends are the 2.5 % quantile of Beta(s, n-s+1) and the 97.5 % quantile of Beta(s+1, n-s).

    Args:
        successes: s, at most n.
        n: Number of items, at least 1.

    >>> measured = share_estimate(0, 10)  # the upper end is 1 - 0.025^(1/10)
    >>> measured.value, [round(end, 4) for end in measured.interval]
    (0.0, [0.0, 0.3085])
    """
    low = float(stats.beta.ppf(0.025, successes, n - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(0.975, successes + 1, n - successes)) if successes < n else 1.0
    return Estimate(successes / n, (low, high), n)
