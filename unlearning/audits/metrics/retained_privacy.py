"""Privacy of retained samples: forgetting some people must not expose the others."""

import math

from torch import Tensor

from unlearning.audits.metrics.estimate import Z_95, Estimate
from unlearning.audits.metrics.membership_auc import placements
from unlearning.errors import MetricError


def membership_change(
    members_before: Tensor, others_before: Tensor, members_after: Tensor, others_after: Tensor
) -> Estimate:
    """AUC after - AUC before, on the same records under two models, with a paired 95 % interval.

    Unlearning can make the remaining records easier to tell from never-seen ones; above 0, it did. The variance
    is DeLong's for correlated curves (1988, equations 6 to 9): that of each record's change of placement,
    var(ΔV_members)/m + var(ΔV_others)/n. Where it is smaller than that of half a record moving each way, 1/(min(m, n) + 2)²
    as in `accuracy_change`, the latter is taken, so that two models that rank alike do not yield a point.

    Args:
        members_before: The original's scores of retained records, larger meaning more like a member, shape (m,).
        others_before: The original's scores of never-seen records, shape (n,).
        members_after: The audited model's scores of the same retained records in the same order, shape (m,).
        others_after: Its scores of the same never-seen records in the same order, shape (n,).

    Returns:
        The change, between -1 and 1; its n counts both kinds of records together.

    Raises:
        MetricError: As `membership_auc`, for either model, or records that are not the same in number.

    >>> import torch
    >>> others = torch.tensor([0.0, 1.0, 2.0])
    >>> change = membership_change(torch.tensor([1.5, 2.5]), others, torch.tensor([2.5, 2.5]), others)
    >>> round(change.value, 6)  # 6/6 - 5/6
    0.166667
    """
    if members_before.shape != members_after.shape or others_before.shape != others_after.shape:
        raise MetricError("The two models were not asked about the same records.")
    before = placements(members_before, others_before)
    after = placements(members_after, others_after)
    of_members, of_others = (new - old.to(new.device) for new, old in zip(after, before, strict=True))
    m, n = len(of_members), len(of_others)
    value = float(of_members.mean())
    variance = max(float(of_members.var() / m + of_others.var() / n), 1 / (min(m, n) + 2) ** 2)
    spread = Z_95 * math.sqrt(variance)
    return Estimate(value, (max(-1.0, value - spread), min(1.0, value + spread)), m + n)
