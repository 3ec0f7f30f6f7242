"""True-positive rate at a given false-positive rate: what the attack knows where it is nearly sure."""

import math
from dataclasses import dataclass

from torch import Tensor

from unlearning.audits.metrics.estimate import Estimate, share_estimate
from unlearning.audits.metrics.items import floats, refuse_constant
from unlearning.errors import MetricError


@dataclass(frozen=True)
class TprAtFpr:
    """One point of the attack's curve.

    Attributes:
        true_positives: Share of members found, with Clopper and Pearson's interval; its n counts members.
        false_positives: The rate that the threshold reaches on the never-seen items, with its interval: at most the
            asked one, less where scores are tied.
        threshold: A score above it is called a member.
    """

    true_positives: Estimate
    false_positives: Estimate
    threshold: float


def tpr_at_fpr(members: Tensor, others: Tensor, rate: float) -> TprAtFpr:
    """TPR = P(s_member > t) at the lowest threshold t with P(s_other > t) ≤ rate.

    Carlini et al. (2022), section III, ask for it at 0.1 % and 1 %: an average over all thresholds hides an attack
    that is certain of few people. The threshold is the (⌊rate · n⌋ + 1)-th largest score of the never-seen items. With
    fewer than 1/rate of them no threshold shows such a rate, and nothing is returned. The interval of the TPR holds
    for the threshold as found; how well that meets the rate is what the interval of the false positives says.

    Args:
        members: Scores of items that may have been learned, larger meaning more like a member, shape (m,).
        others: Scores of items never seen, shape (n,), n ≥ 1/rate.
        rate: Between 0 and 1, both excluded.

    Raises:
        MetricError: A score is not a finite number, all are the same, there is none of a kind, or there are too few
            never-seen items for the rate.

    >>> import torch
    >>> point = tpr_at_fpr(torch.tensor([3.0, 4.0, 5.0, 1.0]), torch.arange(4.0), 0.25)  # one of 0, 1, 2, 3 may pass
    >>> point.threshold, point.true_positives.value, point.false_positives.value
    (2.0, 0.75, 0.25)
    """
    if not 0 < rate < 1:
        raise MetricError(f"A false-positive rate of {rate} is not between 0 and 1.")
    inside, outside = floats(members, "scores of members"), floats(others, "scores of never-seen items")
    # The product of a decimal rate and a count may fall short of the whole number that it is meant to be.
    allowed = math.floor(rate * len(outside) + 1e-9)
    if not allowed:
        raise MetricError(
            f"A false-positive rate of {rate:.2%} needs at least {math.ceil(1 / rate - 1e-9)} never-seen items, "
            f"but there are {len(outside)}."
        )
    refuse_constant(inside, outside, name="scores")
    threshold = float(outside.sort(descending=True).values[allowed])
    found, alarms = (int((scores > threshold).sum().item()) for scores in (inside, outside))
    return TprAtFpr(share_estimate(found, len(inside)), share_estimate(alarms, len(outside)), threshold)
