"""The gating checks of approximate forgetting, and whether they could have caught anything.

Three figures of a model, each compared with where retrained models lie (`bounds`):

- *margins*: do the forgotten records score higher (remembered) or lower (over-forgotten) than under retraining?
- *single records*: is the pattern right, or is half the set remembered and the other half destroyed?
- *membership*: does the model rank forgotten records among never-seen ones as retraining does?

A pass means something only where a model that forgot nothing would have failed. So the original is audited by the
same bounds, and so are scores on the way from the retrained models' to the original's: unless those half-way are
caught, half of what the original remembers could be left without anybody noticing, and the audit cannot decide.

A family may look at the forgotten records in several views (`Evidence.view`), such as a deleted edge with the graph as it
now is and with the edge put back. Then each view has its three figures, and power is that of all of them together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

import torch
from torch import Tensor

from unlearning.audits.bounds import Limits, two_sided, upper
from unlearning.audits.evidence import Evidence, Records, Scored
from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.report import Check, Outcome, Power
from unlearning.audits.standardised import left_out
from unlearning.errors import MetricError, MissingReferenceError

AUC_TOLERANCE = 0.01
"""Membership AUCs that differ by less are the same: where retrained models all have 0, there is no spread to go by."""
MOST_UNNOTICED = 0.5
"""Share of what the original remembers that must be noticed for an audit to have power."""
SHARES = tuple(step / 20 for step in range(1, 21))
"""Points on the way from the retrained models' scores to the original's."""

MARGINS = "forget quality (margins)"
SINGLE = "forget quality (single records)"
MEMBERSHIP = "membership AUC"
POWER = "power"

_FORMULAS = {
    MARGINS: "mean over forgotten records of (φ - mean of the retrained models) / their spread on the record, {score}",
    SINGLE: "mean over forgotten records of |φ - mean of the retrained models| / their spread on the record",
    MEMBERSHIP: "P(φ of a forgotten record > φ of a never-seen one) + ½ P(equal); interval by DeLong (1988)",
    POWER: (
        "least share s, in twentieths, from which on scores m + s (φ - m) of the original are caught, m the mean of the "
        "retrained models"
    ),
}


@dataclass(frozen=True)
class _Scores:
    """One model's scores.

    Attributes:
        forgotten: Of the forgotten records, shape (n,).
        never_seen: Of the never-seen ones, shape (m,).
    """

    forgotten: Tensor
    never_seen: Tensor

    def towards(self, other: "_Scores", share: float) -> "_Scores":
        """Return the scores a share of the way to another model's."""
        return _Scores(
            self.forgotten + share * (other.forgotten - self.forgotten),
            self.never_seen + share * (other.never_seen - self.never_seen),
        )


@dataclass(frozen=True)
class _Figures:
    """The three gating figures of one model."""

    shift: float
    distance: float
    auc: Estimate

    @property
    def by_check(self) -> dict[str, float]:
        """The figures alone, under their checks' names."""
        return {MARGINS: self.shift, SINGLE: self.distance, MEMBERSHIP: self.auc.value}


class _Yardstick:
    """What retrained models allow: three bounds, and the means that the way to the original begins at."""

    def __init__(self, evidence: Evidence[Any]) -> None:
        gauged = [
            _gauged(evidence, *scores)
            for scores in zip(
                evidence.retrained_scores(Records.FORGOTTEN),
                evidence.retrained_scores(Records.NEVER_SEEN),
                strict=True,
            )
        ]
        self._references = torch.stack([scores.forgotten for scores in gauged])  # (models, n)
        elsewhere = torch.stack([scores.never_seen for scores in gauged])  # (models, m)
        self.mean = _Scores(self._references.mean(dim=0), elsewhere.mean(dim=0))
        rate = evidence.rate
        own = left_out(self.mean.forgotten, self._references)
        count, records = self._references.shape
        # Distances are positive and skewed: their logarithms are nearer to normal.
        logs = upper([math.log(distance) for distance in own.reference_distances], rate)
        aucs = [membership_auc(*pair).value for pair in zip(self._references, elsewhere, strict=True)]
        self.limits = {
            MARGINS: two_sided(own.reference_shifts, rate, tolerance=_least_width(records, count, rate)),
            SINGLE: Limits(-math.inf, math.exp(logs.high), fmean(own.reference_distances)),
            MEMBERSHIP: auc_limits(aucs, rate, pairs=records * elsewhere.shape[1]),
        }

    def measure(self, scores: _Scores) -> _Figures:
        """Take the three figures of one model."""
        compared = left_out(scores.forgotten, self._references)
        return _Figures(
            compared.shift, compared.distance, membership_auc(scores.forgotten, scores.never_seen)
        )

    def caught_by(self, scores: _Scores) -> tuple[str, ...]:
        """Name the checks that a model with these scores fails."""
        figures = self.measure(scores).by_check
        return tuple(name for name, value in figures.items() if not self.limits[name].hold(value))


class _View:
    """One way of looking at the forgotten records: its yardstick, and what original and candidate score in it."""

    def __init__(self, evidence: Evidence[Any]) -> None:
        evidence.check_sizes()
        self.evidence = evidence
        self.yardstick = _Yardstick(evidence)
        self.original = _scores(evidence, evidence.original)
        self.candidate = _scores(evidence, evidence.candidate)

    def caught_at(self, share: float) -> tuple[str, ...]:
        """Name the checks that scores a share of the way to the original's fail."""
        scores = self.yardstick.mean.towards(self.original, share)
        return tuple(_named(name, self.evidence) for name in self.yardstick.caught_by(scores))

    def checks(self) -> list[Check]:
        """Judge the candidate."""
        figures, before = (self.yardstick.measure(one) for one in (self.candidate, self.original))
        return [
            _judged(self, name, value, before.by_check[name], figures.auc)
            for name, value in figures.by_check.items()
        ]


def forgetting_checks(*views: Evidence[Any]) -> tuple[list[Check], Power | None]:
    """Judge how the candidate treats the forgotten records, and say what such a judgement is worth.

    Whatever is missing, too small or not a number makes every check inconclusive, with the reason.

    Args:
        views: The case's evidence; several where the family looks at the forgotten records in several ways.
    """
    views[0].case.progress("comparing with retrained models", 0, 1)
    try:
        seen = [_View(evidence) for evidence in views]
        checks = [check for view in seen for check in view.checks()]
        power = _power(seen)
    except (MetricError, MissingReferenceError) as error:
        return [
            _undecided(name, evidence, str(error))
            for evidence in views
            for name in (MARGINS, SINGLE, MEMBERSHIP)
        ], None
    return [*checks, _power_check(power, len(seen[0].original.forgotten))], power


def _scores(evidence: Evidence[Any], outputs: Callable[[Records], Scored]) -> _Scores:
    return _gauged(evidence, outputs(Records.FORGOTTEN).scores, outputs(Records.NEVER_SEEN).scores)


def _gauged(evidence: Evidence[Any], forgotten: Tensor, never_seen: Tensor) -> _Scores:
    return _Scores(evidence.gauged(forgotten, never_seen), evidence.gauged(never_seen, never_seen))


def _named(name: str, evidence: Evidence[Any]) -> str:
    return f"{name}, {evidence.view}" if evidence.view else name


def _least_width(records: int, references: int, rate: float) -> float:
    """Return how far a mean of standardised margins reaches if records deviate independently of each other.

    In truth they deviate together, which only widens it: references that by chance lie closer together than this, as
    five of them sometimes do, say nothing of how close retrained models are.
    """
    return NormalDist().inv_cdf(1 - rate / 2) * math.sqrt((1 + 1 / references) / records)


def auc_limits(references: list[float], rate: float, *, pairs: int) -> Limits:
    """Bound an AUC by those of the references, computed on the normal scale, where its spread is even.

    Args:
        references: One AUC for each retrained model.
        rate: Chance that a retrained model falls outside.
        pairs: Number of pairs that an AUC is a share of; one of 0 or 1 is taken for half a pair inside.

    Raises:
        MetricError: As `two_sided`.

    >>> limits = auc_limits([0.5, 0.5, 0.5], 0.05, pairs=1000)
    >>> round(limits.low, 6), round(limits.high, 6)
    (0.49, 0.51)
    """
    normal = NormalDist()
    inside = [normal.inv_cdf(min(1 - 0.5 / pairs, max(0.5 / pairs, value))) for value in references]
    limits = two_sided(inside, rate, tolerance=1e-9)
    centre = fmean(references)
    return Limits(
        max(0.0, min(normal.cdf(limits.low), centre - AUC_TOLERANCE)),
        min(1.0, max(normal.cdf(limits.high), centre + AUC_TOLERANCE)),
        centre,
    )


def _judged(view: _View, name: str, value: float, original: float, auc: Estimate) -> Check:
    limits = view.yardstick.limits[name]
    low, high = limits.finite
    is_auc = name == MEMBERSHIP
    return Check(
        name=_named(name, view.evidence),
        formula=_formula(name, view.evidence),
        group="membership" if is_auc else "forgetting",
        value=value,
        reference=limits.centre,
        reference_name="retrained",
        anchors={"original": original},
        interval=auc.interval if is_auc else None,
        n=auc.n if is_auc else len(view.original.forgotten),
        bound=f"≤ {high:.4g}" if low is None else f"{low:.4g} to {high:.4g}, where retrained models lie",
        limits=(low, high),
        gating=True,
        outcome=Outcome.PASS if limits.hold(value) else Outcome.FAIL,
        reason=_reason(value, original, limits),
    )


def _formula(name: str, evidence: Evidence[Any]) -> str:
    return _FORMULAS[name].format(score=evidence.score_formula)


def _reason(value: float, original: float, limits: Limits) -> str:
    if limits.hold(value):
        return "A retrained model could well have given this figure."
    if math.isinf(limits.low):
        return "Single records lie further from the retrained models than those lie from each other."
    if value > limits.high:
        return f"The forgotten records are still remembered{_left(value, original, limits)}."
    return "More was forgotten than by retraining, which is as detectable as too little."


def _left(value: float, original: float, limits: Limits) -> str:
    """Say how much of the original's distance is left, where the original lies on the same side."""
    before = original - limits.centre
    return (
        f": {(value - limits.centre) / before:.0%} of the original's distance is left" if before > 0 else ""
    )


def _power(views: Sequence[_View]) -> Power:
    caught = tuple(name for view in views for name in view.caught_at(1.0))
    noticed = None
    for share in reversed(SHARES):
        if not any(view.caught_at(share) for view in views):
            break
        noticed = share
    detects = noticed is not None and noticed <= MOST_UNNOTICED
    if noticed is None:
        reason = (
            "The original itself could pass for retrained: nobody memorised this set, or it is too small, so a pass would "
            "say nothing."
        )
    elif detects:
        reason = f"A model in which {noticed:.0%} of the original's distance from retraining is left would be caught."
    else:
        reason = (
            f"Only a model in which {noticed:.0%} of the original's distance from retraining is left would be caught. The set "
            "was hardly memorised, or it is too small."
        )
    return Power(detects=detects, caught_by=caught, unnoticed=noticed, reason=reason)


def _power_check(power: Power, records: int) -> Check:
    return Check(
        name=POWER,
        formula=_FORMULAS[POWER],
        group="forgetting",
        value=power.unnoticed,
        reference=1.0,
        reference_name="original",
        n=records,
        bound=f"≤ {MOST_UNNOTICED:g}",
        limits=(None, MOST_UNNOTICED),
        gating=True,
        outcome=Outcome.PASS if power.detects else Outcome.INCONCLUSIVE,
        reason=power.reason,
    )


def _undecided(name: str, evidence: Evidence[Any], reason: str) -> Check:
    return Check(
        name=_named(name, evidence),
        formula=_formula(name, evidence),
        group="membership" if name == MEMBERSHIP else "forgetting",
        value=None,
        reference_name="retrained",
        gating=True,
        outcome=Outcome.INCONCLUSIVE,
        reason=reason,
    )
