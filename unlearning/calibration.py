"""Never-seen records as target and stopping rule of a classifier's forgetting, without any retraining.

After true forgetting a model treats a forgotten record as it treats one that it never trained on and that looks
alike. The calibration half of the held-out records has never been trained on; what makes one of them alike is
*support*: how many of the nearest records among those that remain bear the class in question. A forgotten record
that its neighbours agree with is compared with held-out records that theirs agree with. A mislabelled one, or one of
a class that is forgotten whole, is compared with held-out records under a class that nothing around them speaks for:
so chosen sets get a picture that fits them too, where held-out records under their own class would be none.

    calibration = Calibration.prepare(data, forget)
    while calibration.compare(model).remembered:
        model = one_more_step(model)

The audit uses the other half of the held-out records, and references that were really retrained.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.classifier.data import ClassifierData
from models.contracts import ForgetSet
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.errors import MethodUnsuitableError

NEIGHBOURS = 10
"""Nearest remaining records that are asked for their class."""
LEAST_PAIRS = 8
"""Never-seen pairs that make a picture of one kind of forgotten record."""
Z_95 = 1.96

_LEVELS = (0, 1, 4, 7, 10)
"""Least number of agreeing neighbours of each level of support."""
_DISTANCES = 1 << 22
"""Distances held at a time: 16 MiB of float32."""


@dataclass(frozen=True)
class Comparison:
    """How a model tells forgotten records from never-seen ones.

    Attributes:
        auc: Chance that a forgotten record has the greater margin; ½ where they cannot be told apart.
        error: Standard error of it, for records that are told apart by nothing.
    """

    auc: float
    error: float

    @property
    def remembered(self) -> bool:
        """Whether forgotten records still score higher than never-seen ones, be it by chance: not yet time to stop."""
        return self.auc > 0.5  # noqa: PLR2004 - where two alike samples meet

    @property
    def told_apart(self) -> bool:
        """Whether the two can be told apart at 95 %, in either direction."""
        return abs(self.auc - 0.5) > Z_95 * self.error

    @property
    def over_forgotten(self) -> bool:
        """Whether forgotten records score detectably lower than never-seen ones: as telling as too high a score."""
        return self.auc < 0.5 - Z_95 * self.error


@dataclass(frozen=True)
class Calibration:
    """Forgotten records, and pairs of a held-out record and a class that look like them.

    Attributes:
        forgotten: The forgotten records that had been learned.
        never_seen: One held-out record for each pair; a record may stand in several.
        weights: Shape (pairs,), float64, sum 1: the pairs then have the forgotten records' mix of support and class.
        effective: As many equally weighted held-out records would say as much; pairs of one record count as one.
    """

    forgotten: ClassifierData
    never_seen: ClassifierData
    weights: Tensor
    effective: float

    @classmethod
    def prepare(cls, data: ClassifierData, forget: ForgetSet) -> "Calibration":
        """Find never-seen pairs that look like the forgotten records.

        Args:
            data: What a method receives.
            forget: What is to be forgotten.

        Raises:
            MethodUnsuitableError: There is nothing to forget, nothing remains, or too few held-out records are alike.
        """
        forgotten = data.only(forget.record_ids).training()
        others = data.without(forget.record_ids).without_classes(forget.classes)
        remaining, held_out = others.training(), others.calibration()
        if not len(forgotten):
            raise MethodUnsuitableError("None of the records to forget was learned.")
        if len(remaining) < NEIGHBOURS or not len(held_out):
            raise MethodUnsuitableError(
                f"{len(remaining)} remaining and {len(held_out)} held-out records for calibration are too few."
            )
        support = _levels(_votes(forgotten.features, remaining).gather(1, forgotten.labels[:, None])[:, 0])
        pairs = _levels(_votes(held_out.features, remaining))  # (held out, classes)
        weights = _pair_weights(support, forgotten.labels, pairs)  # (held out, classes)
        records, labels = weights.nonzero(as_tuple=True)
        effective = 1.0 / float(weights.sum(dim=1).square().sum())
        return cls(forgotten, _paired(held_out, records, labels), weights[records, labels], effective)

    def compare(self, model: Any) -> Comparison:
        """Compare margins of forgotten records and never-seen pairs: a weighted Mann-Whitney test.

        Args:
            model: Has `classes` and `logits(features)`.

        Raises:
            MetricError: Its logits are not finite numbers.
        """
        ours, theirs = margins(model, self.forgotten), margins(model, self.never_seen)
        order = theirs.argsort()
        below = torch.cat([torch.zeros(1, dtype=torch.float64), self.weights[order].cumsum(0)])
        ranked = theirs[order]
        shares = (
            below[torch.searchsorted(ranked, ours)] + below[torch.searchsorted(ranked, ours, right=True)]
        ) / 2
        return Comparison(float(shares.mean()), math.sqrt((1 / len(ours) + 1 / self.effective) / 12))

    def targets(self, model: Any) -> Tensor:
        """Return the margin that each forgotten record should come to, shape (forgotten,), float64.

        The forgotten records' order is kept: the one with the q-th margin aims at the never-seen pairs' q-quantile.

        Raises:
            MetricError: The model's logits are not finite numbers.
        """
        theirs = margins(model, self.never_seen)
        order = theirs.argsort()
        reached = self.weights[order].cumsum(0)
        rank = margins(model, self.forgotten).argsort().argsort()
        quantiles = (rank + 0.5) / len(rank)
        places = torch.searchsorted(reached, quantiles.to(torch.float64)).clamp_(max=len(reached) - 1)
        return theirs[order][places]


def margins(model: Any, data: ClassifierData) -> Tensor:
    """Return φ = log p_y - log Σ_{k≠y} p_k of each record, shape (n,), float64.

    Args:
        model: Has `classes` and `logits(features)`.
        data: Records of the model's classes.

    Raises:
        MetricError: The logits are not finite numbers, or the model knows one class alone.
    """
    logits: Tensor = model.logits(data.features)
    return logit_margins(logits, data.labels_among(model.classes))


def _votes(features: Tensor, remaining: ClassifierData) -> Tensor:
    """Count the classes of each record's nearest remaining ones: shape (n, width) -> (n, classes), int64."""
    known = remaining.features.to(torch.float32)
    votes = torch.zeros(len(features), len(remaining.classes), dtype=torch.int64)
    rows = max(1, _DISTANCES // len(known))
    for start in range(0, len(features), rows):
        chunk = features[start : start + rows].to(torch.float32)
        nearest = torch.cdist(chunk, known).topk(NEIGHBOURS, largest=False).indices  # (rows, NEIGHBOURS)
        named = remaining.labels[nearest]
        votes[start : start + rows].scatter_add_(1, named, torch.ones_like(named))
    return votes


def _levels(votes: Tensor) -> Tensor:
    """Turn numbers of agreeing neighbours into levels of support, of the same shape."""
    return torch.bucketize(votes, torch.tensor(_LEVELS), right=True) - 1


def _pair_weights(support: Tensor, labels: Tensor, pairs: Tensor) -> Tensor:
    """Spread each forgotten record's weight over the pairs of its class and level, or of its level alone.

    Args:
        support: Levels of the forgotten records, shape (n,).
        labels: Their classes, shape (n,).
        pairs: Levels of every held-out record under every class, shape (held out, classes).

    Returns:
        Of the shape of `pairs`, float64, sum 1.
    """
    weights = torch.zeros(pairs.shape, dtype=torch.float64)
    left_out = 0
    for level in sorted(set(support.tolist())):
        at_level = pairs == level
        for label in sorted(set(labels[support == level].tolist())):
            count = int(((support == level) & (labels == label)).sum())
            own = torch.zeros_like(at_level)
            own[:, label] = at_level[:, label]
            alike = own if int(own.sum()) >= LEAST_PAIRS else at_level
            if int(alike.sum()) < LEAST_PAIRS:
                left_out += count
                continue
            weights[alike] += count / int(alike.sum())
    if 2 * left_out >= len(labels):
        raise MethodUnsuitableError(
            f"No held-out records look like {left_out} of the {len(labels)} records to forget."
        )
    return weights / weights.sum()


def _paired(held_out: ClassifierData, records: Tensor, labels: Tensor) -> ClassifierData:
    """Return held-out records, some of them several times, under the classes they are paired with."""
    return ClassifierData(
        ids=tuple(
            f"{held_out.ids[record]} as {label}"
            for record, label in zip(records.tolist(), labels.tolist(), strict=True)
        ),
        features=held_out.features[records],
        labels=labels,
        held_out=held_out.held_out[records],
        classes=held_out.classes,
    )
