"""Plans as clients ask for and read them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.forget_requests.schemas import MethodName, Parameters
from app.request_body import RequestBody
from unlearning.planner import AUTO, GuaranteeAsked, RuledOut, Rung
from unlearning.targets import Target


class HypotheticalCreate(RequestBody):
    """A model that need not be registered, and how much of its data would be forgotten."""

    family: str = Field(max_length=32, description="The model's family.")
    config: dict[str, Any] = Field(
        description="The checkpoint's `config.json`: names the architecture and holds its sizes."
    )
    target_kind: str = Field(
        max_length=32, description="What would be forgotten: records, subjects, classes …"
    )
    records: int = Field(ge=1, le=1 << 53, description="Records of its training data.")
    forget: int = Field(ge=0, le=1 << 53, description="How many of them would be forgotten.")

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Self:
        if self.forget > self.records:
            raise ValueError("'forget' cannot be more than 'records'")
        return self


class PlanCreate(RequestBody):
    """A question: how would this be served? Either about a registered model or about a hypothetical one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "target": {"kind": "records", "ids": ["17", "23"]},
                "guarantee": "exact",
            }
        }
    )

    model: str | None = Field(None, min_length=1, max_length=128, description="A registered model's name.")
    target: Target | None = Field(None, description="With `model`: what it would forget.")
    hypothetical: HypotheticalCreate | None = Field(None, description="In place of `model` and `target`.")
    guarantee: GuaranteeAsked = Field("any", description="The weakest guarantee that will do.")
    method: MethodName = AUTO
    parameters: Parameters = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        asked = self.model is not None, self.target is not None, self.hypothetical is not None
        if asked not in {(True, True, False), (False, False, True)}:
            raise ValueError("give either 'model' and 'target', or 'hypothetical'")
        return self


class ReferenceEstimate(BaseModel):
    """What the audits of a plan's methods would have to be compared with, and what that costs."""

    needed: bool = Field(
        description="Whether a method of the plan must be measured against retrained models; exact ones need not."
    )
    retrained: int = Field(description="Models that are retrained for it.")
    cached: int = Field(description="How many of them are there already.")
    shadow_models: int = Field(description="Models that the deep audit trains besides; 0 where it is off.")
    cached_shadow_models: int = Field(description="How many of them are there already.")
    seconds_each: float | None = Field(
        description="Time for one of them: measured where any was trained, or else an estimate; null if unknown."
    )
    measured: bool = Field(description="Whether that time was measured on this model.")
    estimated_seconds: float | None = Field(
        description="Time for all that are not there yet; null if unknown."
    )
    within_budget: bool | None = Field(
        description="Whether the policy lets all of them be trained; null if their cost is unknown."
    )


class PlanRead(BaseModel):
    """The answer: the ladder of methods, and those that are not on it. Costs are estimates."""

    model: str | None = Field(description="The model asked about; null for a hypothetical one.")
    records: int = Field(description="Records that the model has learned from.")
    forget: int = Field(description="Records that would be forgotten.")
    rungs: list[Rung] = Field(description="Tried in this order until one passes its audit.")
    ruled_out: list[RuledOut] = Field(description="The family's other methods, each with its reason.")
    references: ReferenceEstimate = Field(description="What the audits would be compared with.")
