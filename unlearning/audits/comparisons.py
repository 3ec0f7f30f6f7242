"""Checks that inform: the field's customary figures, each beside the same figure of the retrained references.

Here is what any family's scores give; a family adds entries of its own for what needs more than scores.

None of them decides. They look at the same scores as the gating checks do, with less power or from further away, and
every one that decided too would widen the bounds of all the others. Each says whether a retrained model could have
given its figure, at the same rate as one gating check.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from unlearning.audits.bounds import Limits, upper
from unlearning.audits.evidence import Evidence, OutputsT, Records, Scored
from unlearning.audits.forgetting import auc_limits
from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.metrics.kolmogorov_smirnov import kolmogorov_smirnov
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.metrics.retained_privacy import membership_change
from unlearning.audits.metrics.rmia import rmia_offline
from unlearning.audits.report import Check, Outcome
from unlearning.errors import MetricError, MissingReferenceError

EvidenceT = TypeVar("EvidenceT", bound=Evidence[Any])
"""A family's evidence."""


@dataclass(frozen=True)
class Measured:
    """One figure, its anchors and what retrained models allow.

    Attributes:
        value: Of the candidate.
        reference: The same of the anchor that the check names.
        n: Items that it was measured on.
        interval: 95 % interval of the value.
        limits: Where a retrained model's figure lies; they say whether the candidate's does.
        anchors: The same figure of other models.
        passed: Where there are no limits: what the check says.
        bound: What the value must satisfy, where the limits do not say it.
        reason: In a sentence; what the limits say, where it is empty.
    """

    value: float
    reference: float
    n: int
    interval: tuple[float, float] | None = None
    limits: Limits | None = None
    anchors: dict[str, float] | None = None
    passed: bool | None = None
    bound: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison(Generic[EvidenceT]):
    """One figure that informs: what it is called and made of, and how it is measured."""

    name: str
    group: str
    formula: str
    measure: Callable[[EvidenceT], Measured]
    """Raises `MetricError` or `MissingReferenceError` where there is no figure."""
    reference_name: str = "retrained"


def informing_checks(evidence: EvidenceT, comparisons: Sequence[Comparison[EvidenceT]]) -> Iterator[Check]:
    """Yield every figure; one that cannot be measured says why."""
    for step, comparison in enumerate(comparisons):
        evidence.case.progress("measuring for information", step, len(comparisons))
        yield _check(evidence, comparison)


def _check(evidence: EvidenceT, comparison: Comparison[EvidenceT]) -> Check:
    try:
        evidence.check_sizes()
        measured = comparison.measure(evidence)
    except (MetricError, MissingReferenceError) as error:
        return Check(
            name=comparison.name,
            formula=comparison.formula,
            group=comparison.group,
            value=None,
            reference_name=comparison.reference_name,
            gating=False,
            outcome=Outcome.INCONCLUSIVE,
            reason=str(error),
        )
    limits = measured.limits
    passed = measured.passed if limits is None else limits.hold(measured.value)
    return Check(
        name=comparison.name,
        formula=comparison.formula,
        group=comparison.group,
        value=measured.value,
        reference=measured.reference,
        reference_name=comparison.reference_name,
        anchors=measured.anchors or {},
        interval=measured.interval,
        n=measured.n,
        bound=measured.bound or _bound(limits),
        limits=None if limits is None else limits.finite,
        gating=False,
        outcome=Outcome.PASS if passed else Outcome.FAIL,
        reason=f"For information: {measured.reason or _reason(passed=bool(passed))}",
    )


def _bound(limits: Limits | None) -> str | None:
    if limits is None:
        return None
    low, high = limits.finite
    return f"≤ {high:.4g}" if low is None else f"{low:.4g} to {high:.4g}"


def _reason(*, passed: bool) -> str:
    if passed:
        return "a retrained model could well have given this figure."
    return "a retrained model would hardly have given this figure."


def forget_quality_p(evidence: Evidence[Any]) -> Measured:
    """TOFU's forget quality; see `kolmogorov_smirnov`."""
    scores = evidence.retrained_scores(Records.FORGOTTEN)  # (models, n)
    test = kolmogorov_smirnov(evidence.candidate(Records.FORGOTTEN).scores, scores.flatten())
    others = [
        kolmogorov_smirnov(scores[place], torch.cat([scores[:place], scores[place + 1 :]]).flatten())
        for place in range(len(scores))
    ]
    original = kolmogorov_smirnov(evidence.original(Records.FORGOTTEN).scores, scores.flatten())
    # Scores of one record under several models depend on each other, so that p > 0.05 would fail many a retrained
    # model or none, as the set happens to be: the distance is compared with the references' own instead.
    limits = upper([other.statistic for other in others], evidence.rate)
    return Measured(
        value=test.p_value,
        reference=fmean(other.p_value for other in others),
        n=test.n,
        anchors={"original": original.p_value},
        passed=limits.hold(test.statistic),
        bound=f"D = {test.statistic:.3g} ≤ {limits.high:.3g}, the retrained models' own",
    )


def rmia_auc(evidence: Evidence[Any]) -> Measured:
    """How well RMIA tells forgotten records from never-seen ones; see `rmia_offline`."""
    attack = _RmiaScores(evidence)
    references = list(evidence.retrained(Records.FORGOTTEN))
    elsewhere = list(evidence.retrained(Records.NEVER_SEEN))
    measured = attack.auc(
        evidence.candidate(Records.FORGOTTEN), evidence.candidate(Records.NEVER_SEEN), references, elsewhere
    )
    original = attack.auc(
        evidence.original(Records.FORGOTTEN), evidence.original(Records.NEVER_SEEN), references, elsewhere
    )
    others = [
        attack.auc(
            references[place],
            elsewhere[place],
            references[:place] + references[place + 1 :],
            elsewhere[:place] + elsewhere[place + 1 :],
        ).value
        for place in range(len(references))
    ]
    pairs = len(evidence.sets[Records.FORGOTTEN]) * len(attack.negatives)
    return Measured(
        value=measured.value,
        reference=fmean(others),
        n=measured.n,
        interval=measured.interval,
        limits=auc_limits(others, evidence.rate, pairs=pairs),
        anchors={"original": original.value},
    )


class _RmiaScores:
    """RMIA scores of forgotten and of never-seen records, relative to a population of other never-seen ones."""

    def __init__(self, evidence: Evidence[Any]) -> None:
        count = len(evidence.sets[Records.NEVER_SEEN])
        self.population, self.negatives = torch.arange(0, count, 2), torch.arange(1, count, 2)

    def auc(
        self, forgotten: Scored, never_seen: Scored, references: list[Scored], elsewhere: list[Scored]
    ) -> Estimate:
        """Tell how well one model's forgotten records are told from never-seen ones by these references."""
        own, of_references = _probability(never_seen), torch.stack([*map(_probability, elsewhere)])
        population = (own[self.population], of_references[:, self.population])
        return membership_auc(
            _rmia_scores(_probability(forgotten), torch.stack([*map(_probability, references)]), *population),
            _rmia_scores(own[self.negatives], of_references[:, self.negatives], *population),
        )


def _probability(outputs: Scored) -> Tensor:
    return outputs.scores.sigmoid()


def _rmia_scores(target: Tensor, references: Tensor, population: Tensor, elsewhere: Tensor) -> Tensor:
    never = torch.zeros_like(references, dtype=torch.bool)
    return rmia_offline(target, references, never, population, elsewhere)


def retained_privacy(evidence: Evidence[Any]) -> Measured:
    """Whether the remaining records are easier to tell from never-seen ones than before; see `membership_change`."""
    before, after = evidence.original, evidence.candidate
    change = membership_change(
        before(Records.RETAINED).scores,
        before(Records.NEVER_SEEN).scores,
        after(Records.RETAINED).scores,
        after(Records.NEVER_SEEN).scores,
    )
    worse = change.interval[0] > 0
    return Measured(
        value=change.value,
        reference=0.0,
        n=change.n,
        interval=change.interval,
        passed=not worse,
        bound="≤ 0",
        reason=(
            "the remaining records are easier to tell from never-seen ones than before."
            if worse
            else "the remaining records are not detectably easier to tell from never-seen ones than before."
        ),
    )


def against_retrained(
    evidence: Evidence[OutputsT],
    records: Records,
    distance: Callable[[OutputsT, OutputsT], float],
) -> Measured:
    """Mean distance of the candidate's outputs to the retrained models', which are as far from each other.

    A distance cannot be too small, so that it is bounded above alone.

    Args:
        evidence: Models and records.
        records: The records.
        distance: Of two models' outputs on them.

    Raises:
        MissingReferenceError: There are no retrained references.
        MetricError: As `distance`.
    """
    references = list(evidence.retrained(records))

    def mean_distance(outputs: OutputsT, among: list[OutputsT]) -> float:
        return fmean(distance(outputs, other) for other in among)

    others = [
        mean_distance(own, references[:place] + references[place + 1 :])
        for place, own in enumerate(references)
    ]
    anchors = {"original": mean_distance(evidence.original(records), references)}
    if (untrained := evidence.random(records)) is not None:
        anchors["random"] = mean_distance(untrained, references)
    return Measured(
        value=mean_distance(evidence.candidate(records), references),
        reference=fmean(others),
        n=len(evidence.sets[records]),
        limits=upper(others, evidence.rate),
        anchors=anchors,
    )


FORGET_QUALITY_P: Comparison[Any] = Comparison(
    "Kolmogorov-Smirnov p",
    "forgetting",
    "two-sample p of margins on forgotten records against those of all retrained models, pooled "
    "(TOFU's forget quality)",
    forget_quality_p,
)
RMIA_AUC: Comparison[Any] = Comparison(
    "RMIA AUC",
    "membership",
    "AUC of offline RMIA scores (Zarifzadeh et al. 2024; a 0.3, γ 1) of forgotten against never-seen records",
    rmia_auc,
)
RETAINED_PRIVACY: Comparison[Any] = Comparison(
    "privacy of retained records",
    "privacy",
    "change of the AUC of margins of retained against never-seen records; interval by DeLong (1988)",
    retained_privacy,
    reference_name="original",
)
