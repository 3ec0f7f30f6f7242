"""Forget quality: could two samples of scores stem from the same distribution?"""

import math
from dataclasses import dataclass

from scipy import stats
from torch import Tensor

from unlearning.audits.metrics.items import floats, refuse_constant
from unlearning.errors import MetricError

SIGNIFICANCE = 0.05
"""Sizes at which no outcome at all reaches this p are refused: such a test could only ever pass."""
EXACT_UP_TO = 1_000_000
"""Largest product of the sizes at which the exact p, whose cost grows with it, is computed."""


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
    method = "exact" if n * m <= EXACT_UP_TO else "asymp"
    result = stats.ks_2samp(values.cpu().numpy(), others.cpu().numpy(), method=method)
    return KolmogorovSmirnov(float(result.statistic), float(result.pvalue), n, m)
