"""What forgetting costs in held-out accuracy.

An approximate method is held to what retraining costs, where retrained references are there: a class or a rare kind of
record may be worth some accuracy, and forgetting it rightly loses that too. Without references, and for
retraining itself, the original is the anchor. The records are those of the audit half, less what was forgotten: no
method has seen them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.classifier.data import ClassifierData
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.metrics.accuracy import accuracy, accuracy_change
from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.report import Check, Outcome
from unlearning.errors import MetricError, MissingReferenceError

HELD_OUT = "held-out accuracy"
CHANGE = "change of accuracy"
AGAINST_RETRAINED = "accuracy against retraining"

_ACCURACY = "right predictions / records; interval by Wilson (1927)"


def utility_checks(evidence: Evidence, *, gating: bool, against_retrained: bool) -> Iterator[Check]:
    """Measure accuracy on held-out records, and what changed.

    Args:
        evidence: Models and records.
        gating: Whether the verdict depends on it.
        against_retrained: Whether retrained references are the anchor that decides, if they are there.
    """
    held_out = evidence.sets[Records.NEVER_SEEN]
    if not len(held_out):
        yield Check(
            name=HELD_OUT,
            formula=_ACCURACY,
            group="utility",
            value=None,
            n=0,
            gating=gating,
            outcome=Outcome.INCONCLUSIVE,
            reason="The data set has no held-out records in its audit half.",
        )
        return
    case = evidence.case
    before = evidence.predictions("original", case.parent, Records.NEVER_SEEN)
    after = evidence.predictions("candidate", case.candidate, Records.NEVER_SEEN)
    measured, original = accuracy(after, held_out.labels), accuracy(before, held_out.labels)
    yield Check(
        name=HELD_OUT,
        formula=_ACCURACY,
        group="utility",
        value=measured.value,
        reference=original.value,
        reference_name="original",
        interval=measured.interval,
        n=measured.n,
        gating=False,
        outcome=Outcome.PASS,
        reason="Measured on held-out records that no method has seen.",
    )
    decides = _against_retrained(evidence, after, held_out, gating=gating) if against_retrained else None
    yield _judged(
        CHANGE,
        "(won - lost) / n over held-out records; interval by Agresti and Min (2005)",
        accuracy_change(before, after, held_out.labels),
        case.policy.utility_margin,
        reference_name="original",
        gating=gating and decides is None,
    )
    if decides is not None:
        yield decides


def _against_retrained(
    evidence: Evidence, after: Tensor, held_out: ClassifierData, *, gating: bool
) -> Check | None:
    """Compare record by record with the mean of the retrained models; None where there are none."""
    try:
        right = evidence.retrained_predictions(Records.NEVER_SEEN) == held_out.labels  # (models, n)
    except MissingReferenceError:
        return None
    difference = (after == held_out.labels).to(torch.float64) - right.to(torch.float64).mean(dim=0)
    formula = "mean over held-out records of (right - share of the retrained models that are right)"
    try:
        change = mean_estimate(difference, low=-1.0, high=1.0)
    except MetricError as error:
        return Check(
            name=AGAINST_RETRAINED,
            formula=formula,
            group="utility",
            value=None,
            reference_name="retrained",
            n=len(held_out),
            gating=gating,
            outcome=Outcome.INCONCLUSIVE,
            reason=str(error),
        )
    return _judged(
        AGAINST_RETRAINED,
        formula,
        change,
        evidence.case.policy.utility_margin,
        reference_name="retrained",
        gating=gating,
    )


def _judged(
    name: str, formula: str, change: Estimate, margin: float, *, reference_name: str, gating: bool
) -> Check:
    low, high = change.interval
    fell = "Accuracy fell" if reference_name == "original" else "Accuracy is below retraining's"
    if low >= -margin:
        outcome, reason = Outcome.PASS, f"{fell} by no more than {margin:.0%}."
    elif high < -margin:
        outcome, reason = Outcome.FAIL, f"{fell} by more than {margin:.0%}."
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{change.n} held-out records are too few to tell."
    return Check(
        name=name,
        formula=formula,
        group="utility",
        value=change.value,
        reference=0.0,
        reference_name=reference_name,
        interval=change.interval,
        n=change.n,
        bound=f"≥ -{margin:g}",
        limits=(-margin, None),
        gating=gating,
        outcome=outcome,
        reason=reason,
    )


def forgotten_accuracy(evidence: Evidence) -> Iterator[Check]:
    """Measure accuracy on the forgotten records, for information."""
    forgotten = evidence.sets[Records.FORGOTTEN]
    if not len(forgotten):
        return
    case = evidence.case
    after = evidence.predictions("candidate", case.candidate, Records.FORGOTTEN)
    before = evidence.predictions("original", case.parent, Records.FORGOTTEN)
    measured, original = accuracy(after, forgotten.labels), accuracy(before, forgotten.labels)
    yield Check(
        name="accuracy on forgotten records",
        formula=_ACCURACY,
        group="forgetting",
        value=measured.value,
        reference=original.value,
        reference_name="original",
        interval=measured.interval,
        n=measured.n,
        gating=False,
        outcome=Outcome.PASS,
        reason="For information: a model that never saw a record may well classify it rightly.",
    )
