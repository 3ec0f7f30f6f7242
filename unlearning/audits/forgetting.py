"""The gating checks of approximate forgetting, and whether they could have caught anything.

Three figures of a model, each compared with where retrained models lie (`bounds`):

- *margins*: do the forgotten records score higher (remembered) or lower (over-forgotten) than under retraining?
- *single records*: is the pattern right, or is half the set remembered and the other half destroyed?
- *membership*: does the model rank forgotten records among never-seen ones as retraining does?

A pass means something only where a model that forgot nothing would have failed. So the original is audited
by the same figures: unless its margins lie at least twice as far out as their bound, half of what it remembers could
be left without anybody noticing, and the audit cannot decide. (Margins, for they alone are even along the way from
remembered to forgotten; an AUC may say nothing for most of it.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist, fmean

from torch import Tensor

from unlearning.audits.bounds import Limits, two_sided, upper
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.report import Check, Outcome, Power
from unlearning.audits.standardised import left_out
from unlearning.errors import MetricError, MissingReferenceError

GATING_CHECKS = 4
"""The three here and utility: what the false alarm rate is divided among."""
AUC_TOLERANCE = 0.01
"""Membership AUCs that differ by less are the same: where retrained models all have 0, there is no spread to go by."""
LEAST_REACH = 2.0
"""How many times as far as the bound the original must lie: then half of its memory would still be noticed."""

MARGINS = "forget quality (margins)"
SINGLE = "forget quality (single records)"
MEMBERSHIP = "membership AUC"
POWER = "power"

_FORMULAS = {
    MARGINS: (
        "mean over forgotten records of (φ - mean of the retrained models) / their spread on the record, "
        "φ = log p_y - log Σ_{k≠y} p_k"
    ),
    SINGLE: "mean over forgotten records of |φ - mean of the retrained models| / their spread on the record",
    MEMBERSHIP: "P(φ of a forgotten record > φ of a never-seen one) + ½ P(equal); interval by DeLong (1988)",
    POWER: "distance of the original's margins from the retrained models', in multiples of the bound's",
}


@dataclass(frozen=True)
class _Figure:
    """One gating figure of candidate and original, with what retrained models allow."""

    name: str
    value: float
    original: float
    limits: Limits
    n: int
    interval: tuple[float, float] | None = None

    @property
    def is_signed(self) -> bool:
        """Whether its two sides mean remembered and over-forgotten."""
        return math.isfinite(self.limits.low)


def forgetting_checks(evidence: Evidence) -> tuple[list[Check], Power | None]:
    """Judge how the candidate treats the forgotten records, and say what such a judgement is worth.

    Whatever is missing, too small or not a number makes every check inconclusive, with the reason.
    """
    evidence.case.progress("comparing with retrained models", 0, 1)
    try:
        evidence.check_sizes()
        figures = list(_figures(evidence))
    except (MetricError, MissingReferenceError) as error:
        return [_undecided(name, str(error)) for name in (MARGINS, SINGLE, MEMBERSHIP)], None
    power = _power(figures)
    return [*map(_judged, figures), _power_check(figures, power)], power


def _figures(evidence: Evidence) -> Iterator[_Figure]:
    rate = evidence.case.policy.false_alarm_rate / GATING_CHECKS
    candidate, original = evidence.candidate(Records.FORGOTTEN), evidence.original(Records.FORGOTTEN)
    references = evidence.retrained_margins(Records.FORGOTTEN)  # (models, n)
    ours, before = left_out(candidate.margins, references), left_out(original.margins, references)
    n = references.shape[1]
    limits = two_sided(ours.reference_shifts, rate, tolerance=_least_width(n, len(references), rate))
    yield _Figure(MARGINS, ours.shift, before.shift, limits, n)
    # Distances are positive and skewed: their logarithms are nearer to normal.
    logs = upper([math.log(distance) for distance in ours.reference_distances], rate)
    limits = Limits(-math.inf, math.exp(logs.high), fmean(ours.reference_distances))
    yield _Figure(SINGLE, ours.distance, before.distance, limits, n)
    yield _membership(evidence, references, rate)


def _least_width(records: int, references: int, rate: float) -> float:
    """Return how far a mean of standardised margins reaches if records deviate independently of each other.

    In truth they deviate together, which only widens it: references that by chance lie closer together than this, as
    five of them sometimes do, say nothing of how close retrained models are.
    """
    return NormalDist().inv_cdf(1 - rate / 2) * math.sqrt((1 + 1 / references) / records)


def _membership(evidence: Evidence, references: Tensor, rate: float) -> _Figure:
    elsewhere = evidence.retrained_margins(Records.NEVER_SEEN)  # (models, never seen)
    measured = membership_auc(
        evidence.candidate(Records.FORGOTTEN).margins, evidence.candidate(Records.NEVER_SEEN).margins
    )
    original = membership_auc(
        evidence.original(Records.FORGOTTEN).margins, evidence.original(Records.NEVER_SEEN).margins
    )
    others = [membership_auc(*pair).value for pair in zip(references, elsewhere, strict=True)]
    limits = auc_limits(others, rate, pairs=references.shape[1] * elsewhere.shape[1])
    return _Figure(MEMBERSHIP, measured.value, original.value, limits, measured.n, measured.interval)


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


def _judged(figure: _Figure) -> Check:
    passed = figure.limits.hold(figure.value)
    low, high = figure.limits.finite
    return Check(
        name=figure.name,
        formula=_FORMULAS[figure.name],
        group="membership" if figure.name == MEMBERSHIP else "forgetting",
        value=figure.value,
        reference=figure.limits.centre,
        reference_name="retrained",
        anchors={"original": figure.original},
        interval=figure.interval,
        n=figure.n,
        bound=f"≤ {high:.4g}" if low is None else f"{low:.4g} to {high:.4g}, where retrained models lie",
        limits=(low, high),
        gating=True,
        outcome=Outcome.PASS if passed else Outcome.FAIL,
        reason=_reason(figure),
    )


def _reason(figure: _Figure) -> str:
    if figure.limits.hold(figure.value):
        return "A retrained model could well have given this figure."
    if not figure.is_signed:
        return "Single records lie further from the retrained models than those lie from each other."
    if figure.value > figure.limits.high:
        return f"The forgotten records are still remembered{_left(figure)}."
    return "More was forgotten than by retraining, which is as detectable as too little."


def _left(figure: _Figure) -> str:
    """Say how much of the original's distance is left, where the original lies on the same side."""
    before = figure.original - figure.limits.centre
    if before <= 0:
        return ""
    return f": {(figure.value - figure.limits.centre) / before:.0%} of the original's distance is left"


def _power(figures: list[_Figure]) -> Power:
    margins = _margins_of(figures)
    caught = tuple(figure.name for figure in figures if not figure.limits.hold(figure.original))
    reach = margins.limits.reach(margins.original)
    measured = f"original {margins.original:.3g}, retrained {margins.limits.centre:.3g}"
    if reach >= LEAST_REACH:
        reason = (
            f"A model that forgot nothing lies {reach:.3g} times as far out as the bound ({measured}), so "
            f"{1 / reach:.1%} of that distance would be noticed."
        )
    elif caught:
        reason = (
            f"The original lies only {reach:.3g} times as far out as the bound ({measured}): half of what it remembers "
            "could be left unnoticed. The set was hardly memorised, or it is too small."
        )
    else:
        reason = (
            f"The original itself could pass for retrained ({measured}): nobody memorised this set, or it is too small, "
            "so a pass would say nothing."
        )
    return Power(
        detects=reach >= LEAST_REACH, caught_by=caught, unnoticed=1 / reach if reach else None, reason=reason
    )


def _margins_of(figures: list[_Figure]) -> _Figure:
    return next(figure for figure in figures if figure.name == MARGINS)


def _power_check(figures: list[_Figure], power: Power) -> Check:
    margins = _margins_of(figures)
    return Check(
        name=POWER,
        formula=_FORMULAS[POWER],
        group="forgetting",
        value=margins.limits.reach(margins.original),
        reference=1.0,
        reference_name="the bound",
        n=margins.n,
        bound=f"≥ {LEAST_REACH:g}",
        limits=(LEAST_REACH, None),
        gating=True,
        outcome=Outcome.PASS if power.detects else Outcome.INCONCLUSIVE,
        reason=power.reason,
    )


def _undecided(name: str, reason: str) -> Check:
    return Check(
        name=name,
        formula=_FORMULAS[name],
        group="membership" if name == MEMBERSHIP else "forgetting",
        value=None,
        reference_name="retrained",
        gating=True,
        outcome=Outcome.INCONCLUSIVE,
        reason=reason,
    )
