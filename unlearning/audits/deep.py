"""The deep audit: attacks on single records with shadow models. They inform, and cost many trainings.

Shadow models are trained on halves of a pool: all that the original had learned, and the never-seen records. Every
record, forgotten or not, has as many shadow models that learned it as ones that did not. What a half of a family's records
is, and how a method unlearns from a shadow model, the family says (`Attacked`).

- *LiRA* asks of each record whether the new version looks like the shadow models that learned it. Forgotten records
  are the suspected members, never-seen ones the others.
- *U-LiRA* lets the method under audit unlearn from every shadow model the forgotten records that it has learned, and asks
  whether such models can be told from those that never learned the record.

With N models the strongest ε that such an attack can show is ln(N - 1): it is printed beside what was shown.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor

from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.forgetting import auc_limits
from unlearning.audits.metrics.lira import lira_online
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.metrics.shown_epsilon import epsilon_cap, shown_epsilon
from unlearning.audits.metrics.tpr_at_fpr import tpr_at_fpr
from unlearning.audits.metrics.u_lira import u_lira, u_lira_scores
from unlearning.audits.references import Shadow
from unlearning.audits.report import Check, Outcome, ReferenceSet
from unlearning.errors import MissingReferenceError, UnlearningError

RATES = (0.01, 0.001)
"""False-positive rates at which the attacks are read off: where they are nearly sure."""

_LIRA = "log N(φ; models that learned the record) - log N(φ; models that did not), pooled variance (Carlini et al. 2022)"
_U_LIRA = (
    "log N(φ; models that unlearned the record) - log N(φ; models that never learned it) (Hayes et al. 2024)"
)


@dataclasses.dataclass(frozen=True)
class _LiraScores:
    """Log-likelihood ratios of forgotten and of never-seen records, under each model."""

    candidate: tuple[Tensor, Tensor]
    original: tuple[Tensor, Tensor]
    retrained: list[tuple[Tensor, Tensor]]


class Attacked(Protocol):
    """What a family says of the records that are attacked: those forgotten and those never seen, in any order."""

    ids: Sequence[str]
    """Shape (n,)."""
    is_forgotten: Tensor
    """Shape (n,), bool."""

    def pool(self) -> Any:
        """Return what shadow models are trained on halves of; see `ReferenceTrainer.shadows`.

        Raises:
            MissingReferenceError: There is nothing to train shadow models on.
        """
        ...

    def scores(self, model: Any) -> Tensor:
        """Return φ of these records under a model, shape (n,), float64.

        Raises:
            MetricError: As `Evidence.observe`.
        """
        ...

    def unlearn(self, shadow: Shadow) -> Any:
        """Let the method under audit forget what a shadow model has learned of the forget set.

        Raises:
            MethodError: How the candidate was made is not known.
        """
        ...


class DeepAudit:
    """Shadow models of one audit, trained when first asked for."""

    def __init__(self, evidence: Evidence[Any], attacked: Attacked) -> None:
        self._evidence = evidence
        self._case = evidence.case
        self._attacked = attacked

    def checks(self) -> Iterator[Check]:
        """Yield every figure of both attacks; one that cannot be measured says why."""
        for name, formula, measure in (
            ("LiRA AUC", f"AUC of {_LIRA}", self._lira_auc),
            *(
                (
                    f"LiRA TPR at {rate:.1%} FPR",
                    f"share of forgotten records found by {_LIRA}",
                    self._lira_at(rate),
                )
                for rate in RATES
            ),
            (
                "U-LiRA accuracy",
                f"right guesses by {_U_LIRA}; every other model fits, the rest are guessed",
                self._u_lira,
            ),
            *(
                (
                    f"U-LiRA TPR at {rate:.1%} FPR",
                    f"share of forgotten records told from retrained models' by {_U_LIRA}",
                    self._u_lira_at(rate),
                )
                for rate in RATES
            ),
        ):
            try:
                self._evidence.check_sizes()
                yield measure(name, formula)
            except UnlearningError as error:
                yield Check(
                    name=name,
                    formula=formula,
                    group="membership",
                    value=None,
                    gating=False,
                    outcome=Outcome.INCONCLUSIVE,
                    reason=str(error),
                )

    def references(self) -> ReferenceSet:
        """Describe the shadow models."""
        try:
            shadows = self._shadows
        except MissingReferenceError as error:
            return ReferenceSet(kind="shadow", count=0, note=str(error))
        return ReferenceSet(
            kind="shadow",
            count=len(shadows),
            seeds=tuple(shadow.reference.key.seed for shadow in shadows),
            seconds=sum(shadow.reference.seconds for shadow in shadows),
        )

    @cached_property
    def _shadows(self) -> list[Shadow]:
        self._evidence.references()  # They share a budget, and the retrained ones matter more.
        if self._case.references is None:
            raise MissingReferenceError("Nothing here could train a shadow model.")
        return list(self._case.references.shadows(self._attacked.pool()))

    @cached_property
    def _learned(self) -> Tensor:
        """Which shadow model has learned which record, shape (shadows, n), bool."""
        return torch.tensor(
            [[name in shadow.trained_on for name in self._attacked.ids] for shadow in self._shadows]
        )

    @cached_property
    def _signals(self) -> Tensor:
        """Scores of every shadow model, shape (shadows, n)."""
        return torch.stack([self._attacked.scores(shadow.reference.model) for shadow in self._shadows])

    @cached_property
    def _lira(self) -> "_LiraScores":
        def scores(model: object) -> tuple[Tensor, Tensor]:
            ratios = lira_online(self._attacked.scores(model), self._signals, self._learned)
            return ratios[self._attacked.is_forgotten], ratios[~self._attacked.is_forgotten]

        models = self._evidence.references().models
        return _LiraScores(scores(self._case.candidate), scores(self._case.parent), list(map(scores, models)))

    def _lira_auc(self, name: str, formula: str) -> Check:
        forgotten, others = self._lira.candidate
        measured = membership_auc(forgotten, others)
        references = [membership_auc(*scores).value for scores in self._lira.retrained]
        limits = auc_limits(references, self._evidence.rate, pairs=len(forgotten) * len(others))
        passed = limits.hold(measured.value)
        return Check(
            name=name,
            formula=formula,
            group="membership",
            value=measured.value,
            reference=limits.centre,
            reference_name="retrained",
            anchors={"original": membership_auc(*self._lira.original).value},
            interval=measured.interval,
            n=measured.n,
            bound=f"{limits.low:.4g} to {limits.high:.4g}",
            limits=limits.finite,
            gating=False,
            outcome=Outcome.PASS if passed else Outcome.FAIL,
            reason="For information: "
            + ("a retrained model could well have" if passed else "a retrained model would hardly have")
            + " given this figure.",
        )

    def _lira_at(self, rate: float) -> Callable[[str, str], Check]:
        def measure(name: str, formula: str) -> Check:
            references = [tpr_at_fpr(*scores, rate).true_positives.value for scores in self._lira.retrained]
            original = tpr_at_fpr(*self._lira.original, rate).true_positives.value
            return self._at_rate(name, formula, self._lira.candidate, rate, fmean(references), original)

        return measure

    @cached_property
    def _unlearned(self) -> tuple[Tensor, Tensor]:
        """Scores of forgotten records under shadow models that unlearned them, and under ones that never learned them.

        Both of shape (half of the shadows, forgotten): exactly half of them have learned a record.
        """
        attacked = self._attacked
        scores = torch.stack([attacked.scores(attacked.unlearn(shadow)) for shadow in self._shadows])
        scores = scores[:, attacked.is_forgotten]  # (shadows, forgotten)
        learned = self._learned[:, attacked.is_forgotten]
        half = len(self._shadows) // 2
        order = learned.to(torch.int8).argsort(dim=0, descending=True, stable=True)
        ordered = scores.gather(0, order)
        return ordered[:half], ordered[half:]

    def _u_lira(self, name: str, formula: str) -> Check:
        measured = u_lira(*self._unlearned).accuracy
        passed = measured.interval[0] <= 0.5  # noqa: PLR2004 - what guessing achieves
        return Check(
            name=name,
            formula=formula,
            group="membership",
            value=measured.value,
            reference=0.5,
            reference_name="guessing",
            interval=measured.interval,
            n=measured.n,
            bound="0.5 within the interval, or below",
            gating=False,
            outcome=Outcome.PASS if passed else Outcome.FAIL,
            reason="For information: models that unlearned a record "
            + ("are not detectably" if passed else "are detectably")
            + " other than models that never learned it.",
        )

    def _u_lira_at(self, rate: float) -> Callable[[str, str], Check]:
        def ratios(scores: Tensor) -> Tensor:
            return u_lira_scores(scores, *self._unlearned)

        def measure(name: str, formula: str) -> Check:
            references = self._evidence.retrained_scores(Records.FORGOTTEN)
            retrained = torch.cat([ratios(scores) for scores in references])
            candidate = ratios(self._evidence.candidate(Records.FORGOTTEN).scores)
            original = ratios(self._evidence.original(Records.FORGOTTEN).scores)
            return self._at_rate(
                name,
                formula,
                (candidate, retrained),
                rate,
                rate,
                tpr_at_fpr(original, retrained, rate).true_positives.value,
            )

        return measure

    def _at_rate(
        self,
        name: str,
        formula: str,
        scores: tuple[Tensor, Tensor],
        rate: float,
        reference: float,
        original: float,
    ) -> Check:
        point = tpr_at_fpr(*scores, rate)
        found, alarms = point.true_positives, point.false_positives
        models = len(self._shadows)
        shown = shown_epsilon(found.interval[0], alarms.interval[1], models)
        passed = found.interval[0] <= alarms.interval[1]
        return Check(
            name=name,
            formula=formula,
            group="membership",
            value=found.value,
            reference=reference,
            reference_name="retrained",
            anchors={"original": original},
            interval=found.interval,
            n=found.n,
            bound=f"not above the false positives, {alarms.value:.3g} of {alarms.n}",
            gating=False,
            outcome=Outcome.PASS if passed else Outcome.FAIL,
            reason=(
                f"For information: shows ε ≥ {shown:.3g}; with {models} models no attack can show more than "
                f"ln({models} - 1) = {epsilon_cap(models):.3g}."
            ),
        )
