"""Checks that inform: the field's customary figures, each beside the same figure of the retrained references.

None of them decides. They look at the same scores as the gating checks do, with less power or from further away, and
every one that decided too would widen the bounds of all the others. Each says whether a retrained model could have
given its figure, at the same rate as one gating check.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from models.classifier.network import NetworkClassifier
from models.classifier.training import sgd_epochs
from unlearning.audits.bounds import Limits, upper
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.forgetting import GATING_CHECKS, auc_limits
from unlearning.audits.metrics.activation_distance import activation_distance
from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.metrics.jensen_shannon import jensen_shannon
from unlearning.audits.metrics.kolmogorov_smirnov import kolmogorov_smirnov
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.metrics.relearning_time import relearning_time
from unlearning.audits.metrics.retained_privacy import membership_change
from unlearning.audits.metrics.rmia import rmia_offline
from unlearning.audits.outputs import Outputs
from unlearning.audits.report import Check, Outcome
from unlearning.errors import MetricError, MissingReferenceError

RELEARNING_RECORDS = 1000
"""Forget sets beyond this size are relearned only in a deep audit."""
RELEARNING_EPOCHS = 40
RELEARNING_REFERENCES = 3

_Distance = Callable[[Tensor, Tensor], Estimate]


@dataclass(frozen=True)
class _Measured:
    """One figure, its anchors and what retrained models allow."""

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
class _Comparison:
    name: str
    group: str
    formula: str
    measure: Callable[[Evidence], _Measured]
    reference_name: str = "retrained"


def informing_checks(evidence: Evidence) -> Iterator[Check]:
    """Yield every figure; one that cannot be measured says why."""
    for step, comparison in enumerate(_COMPARISONS):
        evidence.case.progress("measuring for information", step, len(_COMPARISONS))
        yield _check(evidence, comparison)


def _check(evidence: Evidence, comparison: _Comparison) -> Check:
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


def _rate(evidence: Evidence) -> float:
    return evidence.case.policy.false_alarm_rate / GATING_CHECKS


def _kolmogorov_smirnov(evidence: Evidence) -> _Measured:
    margins = evidence.retrained_margins(Records.FORGOTTEN)  # (models, n)
    test = kolmogorov_smirnov(evidence.candidate(Records.FORGOTTEN).margins, margins.flatten())
    others = [
        kolmogorov_smirnov(margins[place], torch.cat([margins[:place], margins[place + 1 :]]).flatten())
        for place in range(len(margins))
    ]
    original = kolmogorov_smirnov(evidence.original(Records.FORGOTTEN).margins, margins.flatten())
    # Scores of one record under several models depend on each other, so that p > 0.05 would fail many a retrained
    # model or none, as the set happens to be: the distance is compared with the references' own instead.
    limits = upper([other.statistic for other in others], _rate(evidence))
    return _Measured(
        value=test.p_value,
        reference=fmean(other.p_value for other in others),
        n=test.n,
        anchors={"original": original.p_value},
        passed=limits.hold(test.statistic),
        bound=f"D = {test.statistic:.3g} ≤ {limits.high:.3g}, the retrained models' own",
    )


def _rmia(evidence: Evidence) -> _Measured:
    scores = _RmiaScores(evidence)
    references = list(evidence.retrained(Records.FORGOTTEN))
    elsewhere = list(evidence.retrained(Records.NEVER_SEEN))
    measured = scores.auc(
        evidence.candidate(Records.FORGOTTEN), evidence.candidate(Records.NEVER_SEEN), references, elsewhere
    )
    original = scores.auc(
        evidence.original(Records.FORGOTTEN), evidence.original(Records.NEVER_SEEN), references, elsewhere
    )
    others = [
        scores.auc(
            references[place],
            elsewhere[place],
            references[:place] + references[place + 1 :],
            elsewhere[:place] + elsewhere[place + 1 :],
        ).value
        for place in range(len(references))
    ]
    pairs = len(references[0]) * len(scores.negatives)
    return _Measured(
        value=measured.value,
        reference=fmean(others),
        n=measured.n,
        interval=measured.interval,
        limits=auc_limits(others, _rate(evidence), pairs=pairs),
        anchors={"original": original.value},
    )


class _RmiaScores:
    """RMIA scores of forgotten and of never-seen records, relative to a population of other never-seen ones."""

    def __init__(self, evidence: Evidence) -> None:
        count = len(evidence.sets[Records.NEVER_SEEN])
        self.population, self.negatives = torch.arange(0, count, 2), torch.arange(1, count, 2)

    def auc(
        self, forgotten: Outputs, never_seen: Outputs, references: list[Outputs], elsewhere: list[Outputs]
    ) -> Estimate:
        """Tell how well one model's forgotten records are told from never-seen ones by these references."""
        of_references = torch.stack([one.probabilities for one in elsewhere])  # (models, never seen)
        population = (never_seen.probabilities[self.population], of_references[:, self.population])
        return membership_auc(
            _rmia_scores(
                forgotten.probabilities, torch.stack([one.probabilities for one in references]), *population
            ),
            _rmia_scores(
                never_seen.probabilities[self.negatives], of_references[:, self.negatives], *population
            ),
        )


def _rmia_scores(target: Tensor, references: Tensor, population: Tensor, elsewhere: Tensor) -> Tensor:
    never = torch.zeros_like(references, dtype=torch.bool)
    return rmia_offline(target, references, never, population, elsewhere)


def _distance(distance: _Distance) -> Callable[[Evidence], _Measured]:
    """Measure how far a model's predictions on forgotten records lie from those of the references, on average."""

    def measure(evidence: Evidence) -> _Measured:
        references = [one.logits for one in evidence.retrained(Records.FORGOTTEN)]

        def mean_distance(logits: Tensor, among: list[Tensor]) -> float:
            return fmean(distance(logits, other).value for other in among)

        others = [
            mean_distance(own, references[:place] + references[place + 1 :])
            for place, own in enumerate(references)
        ]
        anchors = {"original": mean_distance(evidence.original(Records.FORGOTTEN).logits, references)}
        if (untrained := evidence.random(Records.FORGOTTEN)) is not None:
            anchors["random"] = mean_distance(untrained.logits, references)
        return _Measured(
            value=mean_distance(evidence.candidate(Records.FORGOTTEN).logits, references),
            reference=fmean(others),
            n=len(references[0]),
            limits=upper(others, _rate(evidence)),
            anchors=anchors,
        )

    return measure


def _retained_privacy(evidence: Evidence) -> _Measured:
    before, after = evidence.original, evidence.candidate
    change = membership_change(
        before(Records.RETAINED).margins,
        before(Records.NEVER_SEEN).margins,
        after(Records.RETAINED).margins,
        after(Records.NEVER_SEEN).margins,
    )
    worse = change.interval[0] > 0
    return _Measured(
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


def _relearning(evidence: Evidence) -> _Measured:
    case = evidence.case
    forgotten = evidence.sets[Records.FORGOTTEN]
    if len(forgotten) > RELEARNING_RECORDS and not case.policy.deep:
        raise MetricError(f"{len(forgotten)} records are relearned only in a deep audit.")
    target = float(evidence.original(Records.FORGOTTEN).right.to(torch.float64).mean())
    references = evidence.references().models[:RELEARNING_REFERENCES]
    measured = relearning_time(
        _relearning_curve(case.candidate, evidence, target),
        [_relearning_curve(model, evidence, target) for model in references],
        target,
    )
    return _Measured(
        value=measured.value,
        reference=1.0,
        n=measured.n,
        interval=measured.interval,
        passed=measured.interval[0] <= 1 <= measured.interval[1],
        bound="1 within the range of the retrained models",
        reason=f"{measured.steps} passes over the forgotten records, retrained models "
        f"{', '.join(map(str, measured.reference_steps))}. The interval is the retrained models' range.",
    )


def _relearning_curve(model: object, evidence: Evidence, target: float) -> list[float]:
    """Train a copy on the forgotten records until it is as good on them as the original; accuracy after each pass."""
    if not isinstance(model, NetworkClassifier):
        raise MetricError("Only models trained by gradient descent can be relearned step by step.")
    forgotten = evidence.sets[Records.FORGOTTEN]
    labels = forgotten.labels_among(model.classes)
    settings = model.config.recipe.model_copy(update={"epochs": RELEARNING_EPOCHS, "schedule": "constant"})
    curve = [float((model.predict(forgotten.features) == labels).to(torch.float64).mean())]
    generator = torch.Generator().manual_seed(evidence.case.seed)
    epochs = sgd_epochs(model, forgotten.features, labels, settings, generator=generator)
    while curve[-1] < target:
        try:
            epoch = next(epochs, None)
        except ValueError as error:
            raise MetricError(f"Relearning failed: {error}.") from error
        if epoch is None:
            break
        curve.append(float((epoch.model.predict(forgotten.features) == labels).to(torch.float64).mean()))
    return curve


_COMPARISONS = (
    _Comparison(
        "Kolmogorov-Smirnov p",
        "forgetting",
        "two-sample p of margins on forgotten records against those of all retrained models, pooled "
        "(TOFU's forget quality)",
        _kolmogorov_smirnov,
    ),
    _Comparison(
        "RMIA AUC",
        "membership",
        "AUC of offline RMIA scores (Zarifzadeh et al. 2024; a 0.3, γ 1) of forgotten against never-seen records",
        _rmia,
    ),
    _Comparison(
        "activation distance",
        "distance",
        "mean over forgotten records and retrained models of ‖softmax - softmax of the retrained model‖₂",
        _distance(activation_distance),
    ),
    _Comparison(
        "Jensen-Shannon divergence",
        "distance",
        "mean over forgotten records and retrained models, in nats",
        _distance(jensen_shannon),
    ),
    _Comparison(
        "relearning time",
        "relearning",
        "passes over the forgotten records, on a copy, back to the original's accuracy on them, over the retrained "
        "models' mean",
        _relearning,
    ),
    _Comparison(
        "privacy of retained records",
        "privacy",
        "change of the AUC of margins of retained against never-seen records; interval by DeLong (1988)",
        _retained_privacy,
        reference_name="original",
    ),
)
