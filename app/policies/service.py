"""Decisions about policies. Nothing here commits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.call import Answer, ScopeMissingError, Work
from app.policies import repository
from app.policies.effective import effective_policy
from app.policies.schemas import EffectivePolicyRead, PolicyRead, PolicyWrite
from app.registry.repository import get_model
from app.tables import Model, PolicyChange
from app.trust.scopes import Scope
from models.families import get_family

EVERY_MODEL = "*"


@dataclass(frozen=True)
class Subject:
    """What a policy is for: a family or a model."""

    family: str | None
    model: Model | None

    @property
    def columns(self) -> Mapping[str, Any]:
        """Its values in `policy_changes`."""
        return {"family": self.family, "model_id": self.model.id if self.model is not None else None}


def family_subject(family: str) -> Subject:
    """Return a family as a policy's subject.

    Raises:
        UnknownFamilyError: There is none.
    """
    return Subject(get_family(family).name, None)


def model_subject(work: Work, name: str) -> Subject:
    """Return a model as a policy's subject.

    Raises:
        ServiceError: There is none, or the key is not for it.
    """
    work.caller.require(Scope.MODELS_READ, name)
    return Subject(None, get_model(work.session, name))


def read(work: Work, subject: Subject) -> PolicyRead:
    """Return what is set for a subject."""
    changes, _ = repository.changes_of(work.session, **subject.columns, before=None, limit=1)
    last, changed_by = changes[0] if changes else (None, None)
    return PolicyRead(
        family=subject.family,
        model=subject.model.name if subject.model is not None else None,
        fields=(last.fields or {}) if last is not None else {},
        changed_at=last.created_at if last is not None else None,
        changed_by=changed_by,
    )


def change(work: Work, subject: Subject, body: PolicyWrite | None) -> Answer:
    """Set the fields of a policy, all of them anew; None removes it.

    Raises:
        ScopeMissingError: The key is limited to some models, and a family's policy is for all of them.
    """
    if subject.model is None and work.caller.models is not None:
        raise ScopeMissingError(Scope.ADMIN, EVERY_MODEL)
    work.session.add(
        PolicyChange(
            **subject.columns,
            fields=body.set_fields if body is not None else None,
            api_key_id=work.caller.key_id,
            created_at=work.now,
        )
    )
    work.session.flush()
    return Answer(read(work, subject), 200)


def effective(work: Work, name: str) -> EffectivePolicyRead:
    """Return the policy in effect for a model."""
    work.caller.require(Scope.MODELS_READ, name)
    model = get_model(work.session, name)
    return EffectivePolicyRead.of(model.name, effective_policy(work.session, work.runtime.settings, model))
