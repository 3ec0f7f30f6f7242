"""Strata: the most and the least memorised records of a set, for forgetting shows only where there was memory."""

import math
from dataclasses import dataclass

from torch import Tensor

from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError


@dataclass(frozen=True)
class Strata:
    """Two ends of a set of records.

    Attributes:
        bottom: Positions of the records with a score at or below `bottom_cut`, ascending, shape (k,).
        top: Positions of the records with a score at or above `top_cut`, ascending, shape (k,).
        bottom_cut: Largest score of the bottom.
        top_cut: Smallest score of the top.
    """

    bottom: Tensor
    top: Tensor
    bottom_cut: float
    top_cut: float


def strata(scores: Tensor, share: float = 0.25) -> Strata:
    """Split off the lowest and the highest ⌊share · n⌋ records; ties with a cut point belong to its stratum.

    Since ties are taken whole, a stratum does not depend on the order of the records, but may be larger than asked.

    Args:
        scores: Memorisation score of each record, shape (n,).
        share: Size of each stratum, above 0 and at most ½.

    Raises:
        MetricError: A score is not a finite number, a stratum would be empty, or the cut points meet, as when all
            scores are the same.

    >>> import torch
    >>> ends = strata(torch.tensor([0.9, 0.1, 0.5, 0.1, 0.6]), 0.2)  # one record each, but 0.1 is tied
    >>> ends.bottom.tolist(), ends.bottom_cut == ends.top_cut, ends.top.tolist()
    ([1, 3], False, [0])
    """
    if not 0 < share <= 0.5:  # noqa: PLR2004 - two halves are all there is
        raise MetricError(f"Strata of {share:.4g} of the records each are not possible.")
    values = floats(scores, "scores")
    size = math.floor(share * len(values) + 1e-9)
    if not size:
        raise MetricError(f"{len(values)} records have no stratum of {share:.2%}.")
    ordered = values.sort().values
    low, high = ordered[size - 1], ordered[-size]
    if not low < high:
        raise MetricError(f"The strata meet at a score of {float(low):.6g}: too many records are alike.")
    return Strata(
        bottom=(values <= low).nonzero()[:, 0],
        top=(values >= high).nonzero()[:, 0],
        bottom_cut=float(low),
        top_cut=float(high),
    )
