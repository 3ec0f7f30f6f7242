"""Torch-free: what describes a classifier: the analytic model's `config.json`, and its training recipe."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.errors import CheckpointError

MAX_WIDTH = 1 << 30
"""Largest width of a layer or of the input: what costs are computed from must stay finite."""

FITTED_ON_NO_RECORDS = frozenset({"nothing", "public"})
"""Declarations under which an exactly unlearned head makes an exactly unlearned model."""


class BackboneConfig(BaseModel):
    """The frozen part below the random features, and what its maker declares it was fitted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none", "mlp"] = Field(
        "none", description="`none`: raw inputs. `mlp`: linear layers and ReLUs."
    )
    fitted_on: Literal["nothing", "public", "training_data", "unknown"] = Field(
        "nothing", description="What data shaped it, as declared; audits and certificates repeat it."
    )
    widths: tuple[Annotated[int, Field(ge=1, le=MAX_WIDTH)], ...] = Field(
        (), description="Output width of each layer, first to last."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "none" and (self.widths or self.fitted_on != "nothing"):
            raise ValueError("a backbone of kind none has no widths and is fitted on nothing")
        if self.kind == "mlp" and (not self.widths or min(self.widths) < 1):
            raise ValueError("a backbone of kind mlp needs the width of each of its layers")
        return self

    @property
    def covers(self) -> str:
        """What an exactly unlearned head means for the whole model, in a sentence."""
        if self.fitted_on in FITTED_ON_NO_RECORDS:
            return (
                "Exactness covers the whole model: what lies below the head was fitted on no training record."
            )
        origin = "the training data" if self.fitted_on == "training_data" else "data that nobody declared"
        return f"Exactness covers the head alone: the frozen backbone was fitted on {origin}."


class AnalyticRecipe(BaseModel):
    """How to train an analytic classifier. The defaults suit handwritten digits and small image sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["analytic"] = "analytic"
    feature_dim: int = Field(
        512, ge=1, le=16_384, description="Random ReLU features; the head's input width."
    )
    gamma: float = Field(0.1, gt=0, le=1e12, description="Ridge penalty on the head.")
    input_range: float | None = Field(
        None,
        gt=0,
        description=(
            "Largest magnitude of an input; inputs are divided by it. Null: each record is divided by its own "
            "largest magnitude. Never measured on the data: what is fitted on all records cannot forget one."
        ),
    )
    max_records: int = Field(
        1 << 20, ge=1, le=1 << 32, description="Most records the model may ever hold; bounds its exact sums."
    )


class AnalyticConfig(BaseModel):
    """An analytic classifier's `config.json`: the recipe, what it led to, and the grid all sums live on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["classifier"] = "classifier"
    architecture: Literal["analytic"] = "analytic"
    format: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=1, description="Class names; a label is an index into them.")
    input_width: int = Field(ge=1, le=MAX_WIDTH)
    feature_dim: int = Field(ge=1, le=16_384)
    gamma: float = Field(gt=0)
    seed: int = Field(description="Seed the random projection was drawn with.")
    input_range: float | None = Field(gt=0)
    input_bits: int = Field(ge=1, le=30, description="Inputs are multiples of 2^-input_bits in [-1, 1].")
    weight_bits: int = Field(
        ge=0, le=60, description="Projection weights are 16-bit multiples of 2^-weight_bits."
    )
    feature_bits: int = Field(ge=1, le=26, description="Features are multiples of 2^-feature_bits.")
    feature_bound: float = Field(gt=0, description="No input in range has a larger feature.")
    max_records: int = Field(ge=1, description="With more records the sums would no longer be exact.")
    backbone: BackboneConfig = BackboneConfig()

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("class names must be distinct")
        return value

    @property
    def embedding_width(self) -> int:
        """Width of what the random projection reads."""
        return self.backbone.widths[-1] if self.backbone.widths else self.input_width


def read_analytic_config(config: Mapping[str, Any]) -> AnalyticConfig:
    """Read a parsed `config.json`.

    Raises:
        CheckpointError: It is not an analytic classifier's; the message names the first fault.
    """
    try:
        return AnalyticConfig.model_validate(config)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise CheckpointError(
            f"config.json is not an analytic classifier's: {where}: {fault['msg']}."
        ) from None


def describe_analytic(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner and the certificate want to know of an analytic classifier.

    Raises:
        CheckpointError: `config` is not an analytic classifier's.
    """
    parsed = read_analytic_config(config)
    d, classes = parsed.feature_dim, len(parsed.classes)
    return {
        "family": parsed.family,
        "architecture": parsed.architecture,
        "classes": classes,
        "input_width": parsed.input_width,
        "feature_dim": d,
        "gamma": parsed.gamma,
        "max_records": parsed.max_records,
        "backbone": parsed.backbone.kind,
        "backbone_fitted_on": parsed.backbone.fitted_on,
        "exactness": parsed.backbone.covers,
        # Projecting a record, then adding its outer product to half of a symmetric matrix.
        "flops_per_record": float(2 * (parsed.embedding_width + 1) * d + d * d + 2 * d * classes),
        # One Cholesky factorisation and two triangular solves per class.
        "flops_to_finish": float(d**3 / 3 + 2 * d * d * classes),
    }
