"""Membership, population: how well one score tells members from items that the model has never seen."""

import math

import torch
from scipy import optimize
from torch import Tensor

from unlearning.audits.metrics.estimate import Z_95, Estimate
from unlearning.audits.metrics.items import floats, refuse_constant


def membership_auc(members: Tensor, others: Tensor) -> Estimate:
    """AUC = P(s_member > s_other) + ½ P(s_member = s_other), with its 95 % interval.

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988), equations 3 to 5: with placements (see
    `placements`) it is var(V_members)/m + var(V_others)/n. The interval is taken on the log-odds scale, where it stays
    inside (0, 1) and covers better near the ends (Qin and Hotilovac, 2008). At an AUC of exactly 0 or 1 that
    variance is zero; the interval is then Newcombe's (2006, method 5), which does not collapse.

    Args:
        members: Scores of the items that may have been learned, larger meaning more like a member (the loss with
            its sign turned, the logit margin), shape (m,), m ≥ 2.
        others: Scores of items never seen, shape (n,), n ≥ 2.

    Returns:
        The AUC; its n counts members and others together.

    Raises:
        MetricError: Only one of the two kinds is there, fewer than two of either, a score is not a finite number, or
            all scores are the same.

    >>> auc = membership_auc(torch.tensor([1.0, 3.0, 4.0]), torch.tensor([0.0, 1.0, 2.0]))
    >>> round(auc.value, 4)  # 7 of 9 pairs right, one a tie: 7.5 / 9
    0.8333
    """
    of_members, of_others = placements(members, others)
    m, n = len(of_members), len(of_others)
    auc = float(of_members.mean())
    variance = float(of_members.var() / m + of_others.var() / n)
    interval = _on_log_odds(auc, variance) if variance else _newcombe(auc, m, n)
    return Estimate(auc, interval, m + n)


def placements(members: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each member the share of others below it, for each other the share of members above; ties count half.

    Both have the AUC as their mean. They come from midranks in O(N log N) (Sun and Xu, 2014) rather than from
    all pairs.

    Args:
        members: Shape (m,), m ≥ 2.
        others: Shape (n,), n ≥ 2.

    Returns:
        Shapes (m,) and (n,), float64.

    Raises:
        MetricError: As `membership_auc`.

    >>> placements(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))
    (tensor([0.7500, 1.0000], dtype=torch.float64), tensor([1.0000, 0.7500], dtype=torch.float64))
    """
    inside = floats(members, "scores of members", at_least=2)
    outside = floats(others, "scores of never-seen items", at_least=2).to(inside.device)
    refuse_constant(inside, outside, name="scores")
    return _share_below(inside, outside), 1 - _share_below(outside, inside)


def _share_below(items: Tensor, among: Tensor) -> Tensor:
    ordered = among.sort().values
    below = torch.searchsorted(ordered, items)
    not_above = torch.searchsorted(ordered, items, right=True)
    return (below + not_above).to(torch.float64) / (2 * len(among))


def _on_log_odds(auc: float, variance: float) -> tuple[float, float]:
    spread = Z_95 * math.sqrt(variance) / (auc * (1 - auc))
    odds = math.log(auc / (1 - auc))
    return _logistic(odds - spread), _logistic(odds + spread)


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def _newcombe(auc: float, m: int, n: int) -> tuple[float, float]:
    """Solve |AUC - θ| = z √V(θ), V(θ) = θ(1-θ) (1 + (N-1) ((1-θ)/(2-θ) + θ/(1+θ))) / mn with N = (m+n)/2."""
    half = (m + n) / 2 - 1

    def excess(theta: float) -> float:
        shape = (1 - theta) / (2 - theta) + theta / (1 + theta)
        return (auc - theta) ** 2 - Z_95**2 * theta * (1 - theta) * (1 + half * shape) / (m * n)

    def end(outer: float) -> float:
        tiny = 1e-12  # away from the root that the equation has at the end where the AUC itself is
        start = auc + math.copysign(tiny, outer - auc)
        return auc if outer == auc else float(optimize.brentq(excess, start, outer))

    return end(0.0), end(1.0)
