"""Bounds that a retrained model keeps: two-sided, calibrated on the references' own spread.

K references are retrained by K seeds on what remains, and any statistic T of a model is measured on all of them, over
the same records. A genuinely retrained candidate is one more draw from the same distribution, so

    |T(candidate) - mean T| ≤ t(1 - α/2, K - 1) · s · √(1 + 1/K)

with probability 1 - α where T is normal over seeds: Student's prediction interval, which knows how little K models tell
of their spread s. Everything is conditional on the records: those of the forget set and the never-seen ones are the
same for every model, so that which records happened to be drawn adds no noise to the comparison. With m gating
checks each gets α = rate / m (Bonferroni), so that all of them together raise false alarms at most at `rate`,
however they depend on each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

from unlearning.audits.policy import LEAST_REFERENCES
from unlearning.errors import MetricError


@dataclass(frozen=True)
class Limits:
    """Where a retrained model's figure lies.

    Attributes:
        low: Least value; minus infinity where that side is free.
        high: Greatest value; infinity where that side is free.
        centre: The references' mean.
    """

    low: float
    high: float
    centre: float

    def hold(self, value: float) -> bool:
        """Tell whether a value lies within; NaN never does."""
        return self.low <= value <= self.high

    def reach(self, value: float) -> float:
        """How far a value lies from the centre, as a multiple of the way to the limit on its side: above 1 is beyond."""
        way = (self.high - self.centre) if value >= self.centre else (self.centre - self.low)
        distance = abs(value - self.centre)
        if way == 0.0:
            return 0.0 if distance == 0.0 else math.inf
        return distance / way

    @property
    def finite(self) -> tuple[float | None, float | None]:
        """Both ends, None where a side is free: infinity cannot stand in JSON."""
        return (
            self.low if math.isfinite(self.low) else None,
            self.high if math.isfinite(self.high) else None,
        )


def two_sided(references: Sequence[float], rate: float, *, tolerance: float = 0.0) -> Limits:
    """Student's prediction interval of one more reference.

    Args:
        references: One figure for each retrained model.
        rate: Chance that a retrained model falls outside.
        tolerance: The interval reaches at least so far to either side. For figures that may be the same for all
            references because a scale ends there, as an AUC of 0.

    Raises:
        MetricError: Too few references, a figure that is not a number, or no spread at all and no tolerance.

    >>> limits = two_sided([1.0, 2.0, 3.0], 0.05)  # 2 ± 4.303 · 1 · √(4/3)
    >>> round(limits.low, 3), round(limits.high, 3)
    (-2.968, 6.968)
    >>> two_sided([0.0, 0.0, 0.0], 0.05, tolerance=0.01).high
    0.01
    """
    centre, width = _prediction(references, rate / 2, tolerance)
    return Limits(centre - width, centre + width, centre)


def upper(references: Sequence[float], rate: float) -> Limits:
    """As `two_sided`, but free below: for distances, of which none can be too small.

    Raises:
        MetricError: As `two_sided`.

    >>> round(upper([1.0, 2.0, 3.0], 0.05).high, 3)  # 2 + 2.920 · √(4/3)
    5.372
    """
    centre, width = _prediction(references, rate, 0.0)
    return Limits(-math.inf, centre + width, centre)


def _prediction(references: Sequence[float], tail: float, tolerance: float) -> tuple[float, float]:
    count = len(references)
    if count < LEAST_REFERENCES:
        raise MetricError(
            f"{count} retrained references are too few for a bound; {LEAST_REFERENCES} are needed."
        )
    if not all(map(math.isfinite, references)):
        raise MetricError("A retrained reference's figure is not a finite number.")
    spread = stdev(references)
    if spread == 0.0 and tolerance == 0.0:
        raise MetricError("All retrained references give the same figure, so there is no spread to judge by.")
    width = float(stats.t.ppf(1 - tail, count - 1)) * spread * math.sqrt(1 + 1 / count)
    return fmean(references), max(width, tolerance)
