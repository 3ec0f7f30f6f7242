"""Torch-free: what an audit says, as the service stores and shows it."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class Outcome(enum.StrEnum):
    """How one check, or a whole audit, came out."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Check(BaseModel):
    """One measurement with its anchor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Field's term for the measurement.")
    formula: str = Field(description="What was computed.")
    value: float | None = Field(description="Of the new version; null where it could not be measured.")
    reference: float | None = Field(None, description="The same of the reference.")
    reference_name: str | None = Field(
        None, description="What the reference is: retrained, original, random …"
    )
    interval: tuple[float, float] | None = Field(None, description="95 % interval of the value.")
    n: int | None = Field(None, description="How many items it was measured on.")
    bound: str | None = Field(None, description="What the value must satisfy.")
    gating: bool = Field(description="Whether the verdict depends on it.")
    outcome: Outcome
    reason: str = Field(description="Why it came out so, in a sentence.")


class Audit(BaseModel):
    """All measurements of one candidate and the verdict on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    guarantee: str
    verdict: Outcome
    summary: str = Field(description="The verdict in a sentence.")
    checks: tuple[Check, ...]
    seconds: float = Field(description="Wall time of the audit.")
    unlearning_seconds: float = Field(description="Wall time of the method.")
