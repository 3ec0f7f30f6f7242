"""Et and Ed: how well a link predictor tells edges from other pairs, and retained edges from deleted ones."""

import math

import torch
from torch import Tensor

from unlearning.audits.metrics.estimate import Z_95, Estimate
from unlearning.audits.metrics.items import floats
from unlearning.audits.metrics.membership_auc import membership_auc, placements
from unlearning.errors import MetricError


def held_out_auc(edges: Tensor, negatives: Tensor) -> Estimate:
    """Et = P(s_edge > s_negative) + ½ P(equal), over edges held out from training; interval as `membership_auc`.

    Cheng et al., "GNNDelete" (ICLR 2023), section 5.1, where they are the test edges.

    Args:
        edges: Scores of held-out edges, shape (m,), m ≥ 2.
        negatives: Scores of pairs without an edge, shape (n,), n ≥ 2.

    Raises:
        MetricError: As `membership_auc`.

    >>> held_out_auc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])).value  # 3 of 4 pairs
    0.75
    """
    return membership_auc(edges, negatives)


def deleted_auc(retained: Tensor, deleted: Tensor) -> Estimate:
    """Ed = P(s_retained > s_deleted) + ½ P(equal): retained edges count as 1, deleted ones as 0.

    GNNDelete, section 5.1, reads a higher one as better forgetting. It is not: a retrained model knows deleted edges
    as it knows any pair of related nodes, and has an Ed of its own; what is above that was forgotten too much. It says
    nothing, either, of where deleted edges lie among pairs without an edge: look at that AUC beside it.

    Args:
        retained: Scores of retained training edges, shape (m,), m ≥ 2.
        deleted: Scores of deleted edges, shape (n,), n ≥ 2.

    Raises:
        MetricError: As `membership_auc`.

    >>> deleted_auc(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])).value  # 3 of 4 pairs, and a tie
    0.875
    """
    return membership_auc(retained, deleted)


def auc_difference(edges: Tensor, negatives: Tensor, others: Tensor, other_negatives: Tensor) -> Estimate:
    """AUC of one model less the mean AUC of K others, on the same items, with a paired 95 % interval.

    With the placements V of `placements`, averaged over the K others, the variance is that of each item's difference,
    var(V_edges - V̄_edges)/m + var(V_negatives - V̄_negatives)/n (DeLong et al. 1988, equations 6 to 9), but at least that
    of half an item moving each way, 1/(min(m, n) + 2)², so that models that rank alike do not yield a point.

    Args:
        edges: Scores of edges, shape (m,), m ≥ 2.
        negatives: Scores of pairs without an edge, shape (n,), n ≥ 2.
        others: The K models' scores of the same edges, shape (K, m), K ≥ 1.
        other_negatives: And of the same pairs, shape (K, n).

    Returns:
        The difference, between -1 and 1; its n counts both kinds of items together.

    Raises:
        MetricError: As `membership_auc` for any of the models, or other items.

    >>> edges, negatives = torch.tensor([1.5, 2.5]), torch.tensor([0.0, 1.0, 2.0])
    >>> round(auc_difference(edges + 1, negatives, edges[None], negatives[None]).value, 6)  # 6/6 - 5/6
    0.166667
    """
    rows, columns = (floats(one, "models' rows of scores", dims=2) for one in (others, other_negatives))
    if rows.shape[1:] != edges.shape or columns.shape[1:] != negatives.shape or len(rows) != len(columns):
        raise MetricError("The models were not asked about the same items.")
    ours = placements(edges, negatives)
    theirs = [placements(*pair) for pair in zip(rows, columns, strict=True)]
    of_edges, of_negatives = (
        own - torch.stack([one[side] for one in theirs]).mean(dim=0) for side, own in enumerate(ours)
    )
    m, n = len(of_edges), len(of_negatives)
    value = float(of_edges.mean())
    variance = max(float(of_edges.var() / m + of_negatives.var() / n), 1 / (min(m, n) + 2) ** 2)
    spread = Z_95 * math.sqrt(variance)
    return Estimate(value, (max(-1.0, value - spread), min(1.0, value + spread)), m + n)
