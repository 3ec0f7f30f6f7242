"""The classifier family's audit.

What decides depends on what the method promises:

- exact, on the analytic architecture: a numerical certificate (`certificate`). Utility is reported beside it, for a
  right answer may cost accuracy.
- retraining: exact by provenance, so utility alone decides.
- everything else: utility, and three two-sided checks against models retrained on what remains (`forgetting`), which
  can pass only where they would have caught the original. Further figures inform (`comparisons`, and `deep` where
  the policy asks for it).

Held-out figures come from the audit half, which no method receives, less what was forgotten. Why this and no other
choice of checks and bounds is in docs/decisions/0005-audit-verdicts.md.
"""

import time
from collections.abc import Iterator

from models.classifier.analytic import AnalyticClassifier
from unlearning.audits.certificate import certificate_checks
from unlearning.audits.comparisons import informing_checks
from unlearning.audits.deep import DeepAudit
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.forgetting import GATING_CHECKS, forgetting_checks
from unlearning.audits.pictures import distributions, memorisation_strata
from unlearning.audits.report import Audit, Check, Power, ReferenceSet, Stratum
from unlearning.audits.suites import Case
from unlearning.audits.utility import forgotten_accuracy, utility_checks
from unlearning.audits.verdict import explain, judge
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MissingReferenceError


def audit(case: Case) -> Audit:
    """Measure one candidate against the original and the remaining records, and judge it."""
    started = time.perf_counter()
    evidence = Evidence(case)
    exact = case.method.guarantee is Guarantee.EXACT
    power: Power | None = None
    references: tuple[ReferenceSet, ...] = ()
    strata: tuple[Stratum, ...] = ()
    if exact:
        checks = [*_exact_checks(evidence)]
    else:
        forgetting, power = forgetting_checks(evidence)
        deep = DeepAudit(evidence) if case.policy.deep else None
        checks = [
            *forgetting,
            *utility_checks(evidence, gating=True, against_retrained=True),
            *forgotten_accuracy(evidence),
            *informing_checks(evidence),
            *(deep.checks() if deep is not None else ()),
        ]
        references = (_retrained(evidence), *((deep.references(),) if deep is not None else ()))
        strata = memorisation_strata(evidence, case.policy.false_alarm_rate / GATING_CHECKS)
    verdict = judge(checks)
    return Audit(
        method=case.method.name,
        guarantee=case.method.guarantee,
        verdict=verdict,
        summary=" ".join([explain(verdict, checks), *_coverage(case)]),
        checks=tuple(checks),
        seconds=time.perf_counter() - started,
        unlearning_seconds=case.unlearning_seconds,
        power=power,
        references=references,
        distributions=distributions(evidence, with_retrained=not exact),
        strata=strata,
        curves=case.curves,
    )


def _exact_checks(evidence: Evidence) -> Iterator[Check]:
    case = evidence.case
    if not case.method.fallback:
        yield from certificate_checks(case)
    yield from utility_checks(evidence, gating=case.method.fallback, against_retrained=False)
    yield from forgotten_accuracy(evidence)


def _coverage(case: Case) -> Iterator[str]:
    """Repeat what the checkpoint declares of parts that no method here changes."""
    if isinstance(case.candidate, AnalyticClassifier):
        yield case.candidate.config.backbone.covers


def _retrained(evidence: Evidence) -> ReferenceSet:
    if not len(evidence.sets[Records.FORGOTTEN]):
        return ReferenceSet(kind="retrained", count=0, note="Nothing that was learned is forgotten.")
    try:
        found = evidence.references()
    except MissingReferenceError as error:
        return ReferenceSet(kind="retrained", count=0, note=str(error))
    return ReferenceSet(
        kind="retrained",
        count=len(found.references),
        seeds=tuple(reference.key.seed for reference in found.references),
        seconds=found.seconds,
        cached=found.cached,
        note=found.note,
    )
