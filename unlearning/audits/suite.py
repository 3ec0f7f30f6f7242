"""What all families' audits have in common: which checks decide for which promise, and how an audit is put together.

- exact: a numerical certificate where the family has one. Utility is reported beside it, for a right answer may cost
  some.
- retraining: exact by provenance, so utility alone decides.
- everything else: utility, and two-sided checks against models retrained on what remains (`forgetting`), which can pass
  only where they would have caught the original. Further figures inform (`comparisons`, and `deep` where the policy
  asks for it).

Why this and no other choice of checks and bounds is in docs/decisions/0005-audit-verdicts.md.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from unlearning.audits.deep import Attacked, DeepAudit
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.forgetting import forgetting_checks
from unlearning.audits.pictures import distributions, memorisation_strata
from unlearning.audits.report import Audit, Check, Power, ReferenceSet, Stratum
from unlearning.audits.verdict import explain, judge
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MissingReferenceError


@dataclass(frozen=True)
class Parts:
    """What a family adds to the checks that all share. Nothing is measured before it is asked for.

    Attributes:
        utility: Checks of usefulness on held-out records; called with `gating`, whether the verdict depends on them, and
            `against_retrained`, whether retrained references are the anchor that decides.
        forgotten: The same figure on the forgotten records, for information.
        informing: Further figures, for information; for methods that promise nothing that is exact.
        certificate: The numerical certificate of exact methods; None where the family has none.
        attacked: The records that the deep audit attacks; None where the family has no shadow models.
        covers: Sentences that end the summary: what no check here looks at.
    """

    utility: Callable[..., Iterable[Check]]
    forgotten: Callable[[], Iterable[Check]]
    informing: Callable[[], Iterable[Check]]
    certificate: Callable[[], Iterable[Check]] | None = None
    attacked: Callable[[], Attacked] | None = None
    covers: Sequence[str] = ()


def run_audit(views: Sequence[Evidence[Any]], parts: Parts) -> Audit:
    """Measure one candidate and judge it.

    Args:
        views: The case's evidence, several where the family looks at the forgotten records in several ways. Pictures and
            strata are of the first, the deep audit is of the last.
        parts: The family's own checks.
    """
    started = time.perf_counter()
    evidence = views[0]
    case = evidence.case
    exact = case.method.guarantee is Guarantee.EXACT
    power: Power | None = None
    references: tuple[ReferenceSet, ...] = ()
    strata: tuple[Stratum, ...] = ()
    if exact:
        checks = [*_exact_checks(evidence, parts)]
    else:
        forgetting, power = forgetting_checks(*views)
        deep = DeepAudit(views[-1], parts.attacked()) if case.policy.deep and parts.attacked else None
        checks = [
            *forgetting,
            *parts.utility(gating=True, against_retrained=True),
            *parts.forgotten(),
            *parts.informing(),
            *(deep.checks() if deep is not None else ()),
        ]
        references = (_retrained(evidence), *_shadows(evidence, deep))
        strata = memorisation_strata(evidence)
    verdict = judge(checks)
    return Audit(
        method=case.method.name,
        guarantee=case.method.guarantee,
        verdict=verdict,
        summary=" ".join([explain(verdict, checks), *parts.covers]),
        checks=tuple(checks),
        seconds=time.perf_counter() - started,
        unlearning_seconds=case.unlearning_seconds,
        power=power,
        references=references,
        distributions=distributions(evidence, with_retrained=not exact),
        strata=strata,
        curves=case.curves,
    )


def _exact_checks(evidence: Evidence[Any], parts: Parts) -> Iterable[Check]:
    method = evidence.case.method
    if not method.fallback and parts.certificate is not None:
        yield from parts.certificate()
    yield from parts.utility(gating=method.fallback, against_retrained=False)
    yield from parts.forgotten()


def _shadows(evidence: Evidence[Any], deep: DeepAudit | None) -> Iterable[ReferenceSet]:
    """Describe the shadow models; where the policy asks for some and the family has none, say so."""
    if deep is not None:
        yield deep.references()
    elif evidence.case.policy.deep:
        yield ReferenceSet(kind="shadow", count=0, note="This family has no shadow models.")


def _retrained(evidence: Evidence[Any]) -> ReferenceSet:
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
