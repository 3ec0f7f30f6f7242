"""Policies as clients write and read them."""

import datetime as dt
from typing import Any, Self

from pydantic import BaseModel, Field

from app.policies.base import Fields
from app.policies.effective import Effective, Source
from app.request_body import RequestBody
from app.tables import PolicyChange
from unlearning.audits.policy import AuditPolicy


class PolicyWrite(RequestBody, Fields):
    """The fields that are set here; a field that is left out is inherited, as if it had never been set."""


class PolicyRead(BaseModel):
    """What is set for one family or one model."""

    family: str | None = Field(description="The family it is for; null where it is for a model.")
    model: str | None = Field(description="The model it is for; null where it is for a family.")
    fields: dict[str, Any] = Field(description="What is set here; everything else is inherited.")
    changed_at: dt.datetime | None = Field(description="When it was changed last; null if never.")
    changed_by: str | None = Field(description="Name of the API key that changed it last.")


class PolicyChangeRead(BaseModel):
    """One change of a policy."""

    id: int
    fields: dict[str, Any] | None = Field(description="What was set from then on; null where it was removed.")
    changed_by: str = Field(description="Name of the API key that changed it.")
    created_at: dt.datetime

    @classmethod
    def of(cls, change: PolicyChange, changed_by: str) -> Self:
        """Show a row."""
        return cls(id=change.id, fields=change.fields, changed_by=changed_by, created_at=change.created_at)


class PolicyHistory(BaseModel):
    """One page of a policy's changes."""

    items: list[PolicyChangeRead] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page; null on the last.")


class EffectivePolicyRead(BaseModel):
    """The policy by which a model's versions are audited at present."""

    model: str
    policy: AuditPolicy
    sources: dict[str, Source] = Field(
        description=(
            "Where each field comes from: `default`, the policy file's sections (`file`, `file_family`, "
            "`file_model`), or what was set for the `family` or the `model`."
        )
    )

    @classmethod
    def of(cls, model: str, effective: Effective) -> Self:
        """Show what is in effect."""
        return cls(model=model, policy=effective.policy, sources=dict(effective.sources))
