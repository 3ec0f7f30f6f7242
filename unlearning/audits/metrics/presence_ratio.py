"""Presence-probability ratio: how much less probable a model finds it that deleted items were there."""

from torch import Tensor

from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError


def presence_ratio(before: Tensor, after: Tensor) -> float:
    """Mean p_before of deleted items over their mean p_after: above 1 where they are less probable than before.

    Cheng et al., "GNNDelete" (ICLR 2023), section 5.1, the membership-inference ratio of an attacker who believes the
    model's own probability. More is not better: a retrained model has a ratio of its own. The quotient is of means, not a
    mean of quotients, which one improbable item would rule.

    Args:
        before: Logits of p under the original model, shape (n,), n ≥ 1.
        after: Logits of the audited model, on the same items, shape (n,).

    Returns:
        Above 0.

    Raises:
        MetricError: A logit is not a finite number, other items, or probabilities so small that they are 0.

    >>> import torch
    >>> before, after = torch.tensor([1.0, 3.0]).log(), torch.tensor([1 / 3, 1 / 3]).log()  # odds
    >>> round(presence_ratio(before, after), 4)  # (½ + ¾) / (¼ + ¼)
    2.5
    """
    ours, theirs = floats(before, "logits of the original"), floats(after, "logits of the audited model")
    if ours.shape != theirs.shape:
        raise MetricError(f"Logits of {len(ours)} and {len(theirs)} items are not paired.")
    present = float(theirs.to(ours.device).sigmoid().mean())
    if not present > 0:
        raise MetricError("The audited model's probabilities are all 0: no ratio relates to them.")
    return float(ours.sigmoid().mean()) / present
