"""Margins of single records, measured in the spread that retraining itself leaves on each of them.

A record's margin φ differs from one retrained model to the next, and more so for hard records than for easy ones. In
units of its own spread, every record speaks with the weight it deserves: a mean over standardised margins notices a
small common shift that a Kolmogorov-Smirnov test of the bare margins does not, for that test forgets which
record is which.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError

PRIOR_MODELS = 4
"""As many models' worth of the mean variance is mixed into each record's own, which few models tell only roughly."""


@dataclass(frozen=True)
class LeftOut:
    """Figures of one model and of every reference, each against references that it is not one of.

    Attributes:
        shift: Mean over records of the standardised margin: above 0 more confident than the references, below 0 less.
        reference_shifts: The same of each reference, on the scale of a prediction from all of them.
        distance: Mean over records of its magnitude: large wherever single records lie off, in either direction.
        reference_distances: The same of each reference.
    """

    shift: float
    reference_shifts: list[float]
    distance: float
    reference_distances: list[float]


def left_out(margins: Tensor, references: Tensor) -> LeftOut:
    """Compare a model, and each of K references, with K - 1 references at a time.

    z_i = (φ_i - m_i) / s_i, where m_i is the mean and s_i² = (4 s̄² + (K-2) v_i) / (K + 2) the variance of record i over
    K - 1 references, v_i, drawn towards its mean over records, s̄². A reference is measured against the others; the
    model is measured against each choice of K - 1, and the figures are averaged, so that it has no advantage.
    Left out, a reference's shift spreads K/(K-1) times as wide as its distance from the mean of all; it is brought
    back to that scale.

    Args:
        margins: φ of the model, shape (n,).
        references: φ of the references, shape (K, n), K ≥ 3.

    Raises:
        MetricError: A margin is not a finite number, too few references, or references that are all alike.

    >>> one_record = torch.tensor([[0.0], [1.0], [2.0]])  # left out: (3-1.5)/√½, (3-1)/√2 and (3-0.5)/√½
    >>> round(left_out(torch.tensor([3.0]), one_record).shift, 4)
    2.357
    """
    values = floats(margins, "margins")
    others = floats(references, "retrained models", dims=2, at_least=3)
    if others.shape[1] != len(values):
        raise MetricError("The retrained models were not asked about the same records.")
    count = len(others)
    shifts, distances, reference_shifts, reference_distances = [], [], [], []
    for place in range(count):
        rest = torch.cat([others[:place], others[place + 1 :]])
        ours, theirs = _standardise(values, rest), _standardise(others[place], rest)
        shifts.append(float(ours.mean()))
        distances.append(float(ours.abs().mean()))
        reference_shifts.append(float(theirs.mean()) * (count - 1) / count)
        reference_distances.append(float(theirs.abs().mean()))
    return LeftOut(sum(shifts) / count, reference_shifts, sum(distances) / count, reference_distances)


def _standardise(margins: Tensor, references: Tensor) -> Tensor:
    own = references.var(dim=0)  # (n,)
    degrees = len(references) - 1
    variance = (PRIOR_MODELS * own.mean() + degrees * own) / (PRIOR_MODELS + degrees)
    if not bool((variance > 0).all()):
        raise MetricError(
            "The retrained references give the same scores: their recipe leaves nothing to chance, so what spread is "
            "normal cannot be told."
        )
    return (margins - references.mean(dim=0)) / variance.sqrt()
