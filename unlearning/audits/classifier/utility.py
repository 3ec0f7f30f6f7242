"""Usefulness of a classifier: accuracy on the audit half of the held-out records, less what was forgotten."""

from collections.abc import Iterator

import torch

from unlearning.audits.classifier.evidence import ClassifierEvidence
from unlearning.audits.evidence import Records
from unlearning.audits.metrics.accuracy import accuracy, accuracy_change
from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.report import Check, Outcome
from unlearning.audits.utility import Utility

ACCURACY = "right predictions / records; interval by Wilson (1927)"


def utility(evidence: ClassifierEvidence) -> Utility:
    """Say how accuracy is measured; record by record, for every model faces the same records."""
    case = evidence.case
    labels = evidence.sets[Records.NEVER_SEEN].labels

    def held_out() -> tuple[Estimate, Estimate]:
        after = evidence.predictions("candidate", case.candidate, Records.NEVER_SEEN)
        before = evidence.predictions("original", case.parent, Records.NEVER_SEEN)
        return accuracy(after, labels), accuracy(before, labels)

    def change() -> Estimate:
        before = evidence.predictions("original", case.parent, Records.NEVER_SEEN)
        after = evidence.predictions("candidate", case.candidate, Records.NEVER_SEEN)
        return accuracy_change(before, after, labels)

    def against_retrained() -> Estimate:
        right = evidence.retrained_predictions(Records.NEVER_SEEN) == labels  # (models, n)
        after = evidence.predictions("candidate", case.candidate, Records.NEVER_SEEN)
        difference = (after == labels).to(torch.float64) - right.to(torch.float64).mean(dim=0)
        return mean_estimate(difference, low=-1.0, high=1.0)

    return Utility(
        noun="accuracy",
        formula=ACCURACY,
        change_formula="(won - lost) / n over held-out records; interval by Agresti and Min (2005)",
        retrained_formula="mean over held-out records of (right - share of the retrained models that are right)",
        n=len(labels),
        held_out=held_out,
        change=change,
        against_retrained=against_retrained,
    )


def forgotten_accuracy(evidence: ClassifierEvidence) -> Iterator[Check]:
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
        formula=ACCURACY,
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
