"""The classifier family's audit: what decides and what informs is in `unlearning.audits.suite`.

The analytic architecture has a numerical certificate (`certificate`). Held-out figures come from the audit half, which no
method receives, less what was forgotten.
"""

from collections.abc import Iterator
from typing import Any

from models.classifier.analytic import AnalyticClassifier
from models.classifier.data import ClassifierData
from models.contracts import ForgetSet
from unlearning.audits.classifier import attacks
from unlearning.audits.classifier.certificate import certificate_checks
from unlearning.audits.classifier.comparisons import COMPARISONS
from unlearning.audits.classifier.evidence import ClassifierEvidence
from unlearning.audits.classifier.utility import forgotten_accuracy, utility
from unlearning.audits.comparisons import informing_checks
from unlearning.audits.report import Audit
from unlearning.audits.suite import Parts, run_audit
from unlearning.audits.suites import Case
from unlearning.audits.utility import utility_checks


def audit(case: Case) -> Audit:
    """Measure one candidate against the original and the remaining records, and judge it."""
    evidence = ClassifierEvidence(case)
    parts = Parts(
        utility=lambda *, gating, against_retrained: utility_checks(
            utility(evidence), case.policy.utility_margin, gating=gating, against_retrained=against_retrained
        ),
        forgotten=lambda: forgotten_accuracy(evidence),
        informing=lambda: informing_checks(evidence, COMPARISONS),
        certificate=lambda: certificate_checks(case),
        attacked=lambda: attacks.AttackedRecords(evidence),
        covers=[*_coverage(case)],
    )
    return run_audit([evidence], parts)


def shadow_pool(parent: Any, data: ClassifierData, forget: ForgetSet) -> ClassifierData:  # noqa: ARG001 - as other families'
    """Return what shadow models are trained on halves of, whatever the architecture."""
    return attacks.shadow_pool(data, forget)


def _coverage(case: Case) -> Iterator[str]:
    """Repeat what the checkpoint declares of parts that no method here changes."""
    if isinstance(case.candidate, AnalyticClassifier):
        yield case.candidate.config.backbone.covers
