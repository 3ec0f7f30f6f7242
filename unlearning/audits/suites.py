"""Which suite audits which family, and what every suite is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from models.contracts import ForgetSet, Progress
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import ReferenceTrainer
from unlearning.audits.report import Audit, Curve
from unlearning.catalog.spec import MethodSpec, load_object
from unlearning.errors import MethodError


@dataclass(frozen=True)
class Case:
    """One candidate to audit.

    Attributes:
        parent: The model before.
        candidate: The model after.
        data: All records that the parent has learned or that were held out, the audit half included.
        forget: What was to be forgotten.
        method: Who made the candidate.
        parameters: How, defaults filled in.
        seed: For suites that sample or train references.
        unlearning_seconds: Wall time of the method.
        progress: Receives the audit's steps.
        policy: What the operator demands.
        references: Gives retrained models, or says why there are none; None where nothing could train them.
        curves: What the method reported while it worked.
    """

    parent: Any
    candidate: Any
    data: Any
    forget: ForgetSet
    method: MethodSpec
    parameters: Mapping[str, Any]
    seed: int
    unlearning_seconds: float
    progress: Progress
    policy: AuditPolicy = field(default_factory=AuditPolicy)
    references: ReferenceTrainer | None = None
    curves: tuple[Curve, ...] = ()


SUITES: Mapping[str, str] = MappingProxyType({"classifier": "unlearning.audits.classifier:audit"})
"""Family -> `module:function` of its suite."""


def get_suite(family: str) -> Callable[[Case], Audit]:
    """Return the family's suite.

    Raises:
        MethodError: The family has none; its models cannot be published by the service.
    """
    if family not in SUITES:
        raise MethodError(f"There is no audit for the family {family!r}.")
    return load_object(SUITES[family])
