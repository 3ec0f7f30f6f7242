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
from unlearning.errors import MethodError, MissingReferenceError


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


SUITES: Mapping[str, str] = MappingProxyType(
    {
        "classifier": "unlearning.audits.classifier.suite:audit",
        "graph": "unlearning.audits.graph.suite:audit",
        "recommender": "unlearning.audits.recommender.suite:audit",
    }
)
"""Family -> `module:function` of its suite, the one place where it is registered.

The function takes a `Case` and gives an `Audit`; `evidence` says what a family provides for it. Where the family has
shadow models, the module also has `shadow_pool(parent, data, forget)`: what they are trained on halves of.
"""


def get_suite(family: str) -> Callable[[Case], Audit]:
    """Return the family's suite.

    Raises:
        MethodError: The family has none; its models cannot be published by the service.
    """
    return load_object(_path(family))


def get_shadow_pool(family: str) -> Callable[[Any, Any, ForgetSet], Any]:
    """Return the function that gives what a family's shadow models are trained on halves of.

    Raises:
        MethodError: The family has no suite.
        MissingReferenceError: It has no shadow models.
    """
    module = _path(family).partition(":")[0]
    try:
        return load_object(f"{module}:shadow_pool")
    except AttributeError as error:
        raise MissingReferenceError(f"There are no shadow models for the family {family!r}.") from error


def _path(family: str) -> str:
    if family not in SUITES:
        raise MethodError(f"There is no audit for the family {family!r}.")
    return SUITES[family]
