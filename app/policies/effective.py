"""The policy that is in effect for a model: whatever is said of it most closely, field by field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.policies import repository
from app.policies.base import base_policy
from app.settings import Settings
from app.tables import Model
from unlearning.audits.policy import AuditPolicy

Source = Literal["default", "file", "file_family", "family", "file_model", "model"]
"""Where a field's value comes from, the weakest first: the service's defaults, the policy file's three sections, and
what was set over the API for the family and for the model."""

Layer = tuple[Source, Mapping[str, Any]]


@dataclass(frozen=True)
class Effective:
    """A complete policy, and where each field of it comes from."""

    policy: AuditPolicy
    sources: Mapping[str, Source]


def effective_policy(session: Session, settings: Settings, model: Model) -> Effective:
    """Return the policy in effect for a model.

    Raises:
        PolicyFileError: The policy file cannot be used.
    """
    file_model = base_policy(settings).models.get(model.name)
    return _combine(
        *_layers_of_family(session, settings, model.family),
        ("file_model", file_model.set_fields if file_model is not None else {}),
        ("model", repository.fields_of_model(session, model.id)),
    )


def family_policy(session: Session, settings: Settings, family: str) -> Effective:
    """Return the policy in effect for a family's models that have none of their own.

    Raises:
        PolicyFileError: The policy file cannot be used.
    """
    return _combine(*_layers_of_family(session, settings, family))


def _layers_of_family(session: Session, settings: Settings, family: str) -> tuple[Layer, ...]:
    base = base_policy(settings)
    file_family = base.families.get(family)
    return (
        ("default", {**AuditPolicy().model_dump(mode="json"), "on_inconclusive": settings.on_inconclusive}),
        ("file", base.default.set_fields),
        ("file_family", file_family.set_fields if file_family is not None else {}),
        ("family", repository.fields_of_family(session, family)),
    )


def _combine(*layers: Layer) -> Effective:
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for source, fields in layers:
        values.update(fields)
        sources.update(dict.fromkeys(fields, source))
    return Effective(AuditPolicy.model_validate(values), sources)
