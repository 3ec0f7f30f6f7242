"""Judging what somebody else has made: any two models of one lineage, and what the second shall have forgotten.

Nothing is believed of the candidate. Where its architecture has a numerical certificate, that is tried: it stands
by itself, whoever made the model. Everything else is judged by what can be measured, whatever guarantee is claimed.
"""

from collections.abc import Callable
from typing import Any

from models.contracts import FamilyRuntime, ForgetSet, Progress
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import ReferenceStore, ReferenceTrainer
from unlearning.audits.report import Audit
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog import methods
from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec
from unlearning.errors import MethodError

EXTERNAL = "external"
"""Name of the method where nobody knows how the candidate was made."""


def judge_candidate(
    runtime: FamilyRuntime,
    parent: Any,
    candidate: Any,
    data: Any,
    forget: ForgetSet,
    *,
    reload: Callable[[], Any],
    policy: AuditPolicy,
    references: ReferenceStore,
    seed: int,
    progress: Progress,
) -> Audit:
    """Audit a model that is said to have forgotten something.

    Args:
        runtime: The models' family.
        parent: The model before.
        candidate: The model after.
        data: What the parent has learned, and what was held out.
        forget: What is said to be forgotten.
        reload: Loads the parent anew, for the recipe of the references.
        policy: What is demanded of audits.
        references: Where retrained models are looked for and kept.
        seed: Of everything random.
        progress: Receives the audit's steps.

    Raises:
        MethodError: The family has no audit, or records of the forget set are not in the data.
    """
    described = runtime.describe(parent)
    family, architecture = str(described["family"]), str(described["architecture"])
    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")
    suite = get_suite(family)
    trainer = ReferenceTrainer(
        runtime, reload, data, forget, policy, references, seed=seed, progress=progress
    )

    def judge(guarantee: Guarantee) -> Audit:
        return suite(
            Case(
                parent=parent,
                candidate=candidate,
                data=data,
                forget=forget,
                method=external_method(family, guarantee),
                parameters={},
                seed=seed,
                unlearning_seconds=0.0,
                progress=progress,
                policy=policy,
                references=trainer,
            )
        )

    if has_certificate(family, architecture):
        audit = judge(Guarantee.EXACT)
        if any(check.name == "statistics" for check in audit.checks):
            return audit
        # Its frozen parts are others than the original's, so the certificate says nothing of it: a model that was
        # trained anew from another seed looks like this, and may have forgotten all the same.
    return judge(Guarantee.EMPIRICAL)


def has_certificate(family: str, architecture: str) -> bool:
    """Tell whether there is an exact method made for this architecture, whose certificate any model can be held to."""
    return any(
        spec.guarantee is Guarantee.EXACT
        and not spec.fallback
        and architecture in (spec.architectures or ())
        and spec.implementation.startswith(
            "unlearning."
        )  # a plug-in's method brings no certificate of its own
        for spec in methods(family)
    )


def external_method(family: str, guarantee: Guarantee) -> MethodSpec:
    """Return a stand-in for the unknown method of a candidate: it can be named and judged, never run."""
    return MethodSpec(
        family=family,
        name=EXTERNAL,
        title="Unknown",
        summary="Made by somebody else; nothing is known of how.",
        targets=frozenset(),
        guarantee=guarantee,
        architectures=None,
        needs=frozenset(),
        config=MethodConfig,
        paper="",
        implementation="",
        cost=_no_cost,
    )


def _no_cost(_cost: CostInput) -> float:
    return 0.0
