"""Torch-free: what an operator demands of audits and how far the ladder may go."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ReferenceDemand = Literal["always", "within_budget", "never"]
"""Whether models are retrained only to be compared with."""

OnInconclusive = Literal["escalate", "review", "accept"]
"""What an audit that could not decide leads to: the next rung, a person, or publication."""

LEAST_REFERENCES = 3
"""Retrained references that an interval needs: two have a spread, but no bound that is worth having."""


class AuditPolicy(BaseModel):
    """Bounds and budgets of one model's audits. Immutable; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: ReferenceDemand = Field(
        "within_budget",
        description=(
            "Whether references are retrained for methods whose result must be measured: `always`, "
            "`within_budget` (of `reference_seconds`), or `never`: then such methods cannot pass."
        ),
    )
    reference_seconds: float = Field(
        600.0,
        ge=0,
        description="With `within_budget`: seconds that training one job's references may take, cached ones excluded.",
    )
    retrained_seeds: int = Field(
        5,
        ge=LEAST_REFERENCES,
        le=100,
        description="Retrained references that bounds are calibrated on; more of them narrow the bounds.",
    )
    deep: bool = Field(
        False,
        description="Whether per-example attacks with shadow models (LiRA, U-LiRA) are run too; they cost much time.",
    )
    shadow_models: int = Field(
        16,
        ge=4,
        le=512,
        description="Shadow models of the deep audit: half of them have seen a given record.",
    )
    false_alarm_rate: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Largest chance that a genuinely retrained model fails any gating check, all of them together.",
    )
    utility_margin: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Loss of held-out accuracy, as a share of records, that forgetting may cost.",
    )
    on_inconclusive: OnInconclusive = Field(
        "escalate",
        description="After an audit that could not decide: try the next method, ask a person, or publish all the same.",
    )
    max_rungs: int | None = Field(
        None,
        ge=0,
        description="Methods tried before the last resort, which is retraining; null: all of the plan's.",
    )
    max_seconds: float | None = Field(
        None,
        ge=0,
        description=(
            "Seconds after the ladder's beginning beyond which only retraining may still begin; null: no limit."
        ),
    )
    allow_retrain: bool = Field(
        True, description="Whether retraining may be published when nothing before it passed."
    )
