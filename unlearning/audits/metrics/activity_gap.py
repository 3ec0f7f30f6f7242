"""The active/inactive gap: whether a recommender serves those who take little as well as those who take much."""

import math

import torch
from torch import Tensor

from unlearning.audits.metrics.estimate import Z_95, Estimate
from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError

ACTIVE_SHARE = 0.2
"""Users with the most interactions who count as active (Li et al., "User-oriented Fairness in Recommendation", WWW 2021, take 5 %)."""


def activity_gap(quality: Tensor, activity: Tensor) -> Estimate:
    """Mean quality of the most active fifth of users less that of all others; interval by Welch's variance.

    Args:
        quality: Each user's recall or the like, shape (users,).
        activity: Each user's number of interactions, shape (users,); at ties, earlier users are the active ones.

    Raises:
        MetricError: Either side has fewer than two users.

    >>> gap = activity_gap(torch.arange(10.0), torch.arange(10))  # (8 + 9)/2 - (0 + … + 7)/8
    >>> gap.value
    5.0
    """
    values = floats(quality, "qualities of users", at_least=2)
    active = activity.argsort(descending=True, stable=True)[: int(ACTIVE_SHARE * len(values))]
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[active] = True
    few, many = values[chosen], values[~chosen]
    if len(few) < 2 or len(many) < 2:  # noqa: PLR2004 - a spread needs two
        raise MetricError("there are too few users to tell active from inactive ones")
    gap = float(few.mean() - many.mean())
    spread = Z_95 * math.sqrt(float(few.var() / len(few) + many.var() / len(many)))
    return Estimate(gap, (gap - spread, gap + spread), len(values))
