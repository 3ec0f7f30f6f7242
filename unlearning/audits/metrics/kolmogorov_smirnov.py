"""Forget quality: could two samples of scores stem from the same distribution?"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from unlearning.audits.metrics.items import floats, refuse_constant
from unlearning.errors import MetricError

SIGNIFICANCE = 0.05
"""Sizes at which no outcome at all reaches this p are refused: such a test could only ever pass."""
EXACT_UP_TO = 10_000
"""Largest number of scores, of both samples together, at which the exact p is computed: some tenths of a second."""


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """Outcome of the test.

    Attributes:
        statistic: Largest distance of the two empirical distribution functions.
        p_value: Chance of one so large if the distributions are the same.
        n: Size of the sample.
        reference_n: Size of the reference's sample.
    """

    statistic: float
    p_value: float
    n: int
    reference_n: int


def kolmogorov_smirnov(sample: Tensor, reference: Tensor) -> KolmogorovSmirnov:
    """D = sup_t |F(t) - F_ref(t)| and its two-sided p.

    TOFU's forget quality (Maini et al., 2024, section 2.2.2) is this p; above 0.05 the samples cannot be told
    apart. The p supposes independent scores from a continuous distribution; with ties it is too large, never too
    small. Scores of one record under two models are not independent of each other, which makes p too large as
    well: calibrate a bound on retrained models where it matters.

    Args:
        sample: Scores of the audited model, shape (n,).
        reference: Scores of the retrained model, shape (m,).

    Raises:
        MetricError: A score is not a finite number, all are the same, or so few that even the most extreme
            outcome has p = 2 / C(n+m, n) > 0.05.

    >>> import torch
    >>> test = kolmogorov_smirnov(torch.arange(4.0), torch.arange(4.0) + 10)  # apart: D = 1, p = 2 / 70
    >>> test.statistic, round(test.p_value, 6)
    (1.0, 0.028571)
    """
    values, others = floats(sample, "scores"), floats(reference, "scores of the reference")
    n, m = len(values), len(others)
    if 2 / math.comb(n + m, n) > SIGNIFICANCE:
        raise MetricError(f"{n} and {m} scores are too few: no outcome could be significant.")
    refuse_constant(values, others, name="scores")
    gap = _largest_gap(values, others.to(values.device))
    p_value = _exact_p(n, m, gap) if n + m <= EXACT_UP_TO else _asymptotic_p(n, m, gap)
    return KolmogorovSmirnov(gap / (n * m), p_value, n, m)


def _largest_gap(values: Tensor, others: Tensor) -> int:
    """D in units of 1 / nm, so that it is compared as the integer it is."""
    points = torch.cat([values, others])
    below, others_below = (
        torch.searchsorted(sample.sort().values, points, right=True) for sample in (values, others)
    )
    return int((below * len(others) - others_below * len(values)).abs().max().item())


def _exact_p(n: int, m: int, gap: int) -> float:
    """Share of all orders of n and m scores in which the step functions are somewhere at least so far apart.

    An order is a path from (0, 0) to (n, m), and its last step came along the first axis with the chance
    i / (i + j) (Hodges, 1958). Hence u(i, j) = (i u(i-1, j) + j u(i, j-1)) / (i + j), with u = 1 where the gap
    |i m - j n| is reached. Only positive terms are added, so that the smallest p keeps its digits; scipy's exact
    way gives up when its result rounds to more than 1.
    """
    reached = np.zeros(n + 2)  # u(i, s - i) stands at i + 1
    steps = np.arange(n + 1)
    for s in range(1, n + m + 1):
        low, high = max(0, s - m), min(s, n)
        i = steps[low : high + 1]
        j = s - i
        u = (i * reached[low : high + 1] + j * reached[low + 1 : high + 2]) / s
        u[np.abs(i * m - j * n) >= gap] = 1.0
        reached[low + 1 : high + 2] = u
    return float(reached[n + 1])


def _asymptotic_p(n: int, m: int, gap: int) -> float:
    """Smirnov's limit, by the distribution of one sample of nm / (n + m) scores."""
    return float(stats.kstwo.sf(gap / (n * m), round(n * m / (n + m))))
