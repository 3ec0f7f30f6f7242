"""Torch-free: what describes a classifier trained by gradient descent: its recipe and its `config.json`.

There is no batch normalisation on purpose. Its running statistics are averages over the training records, which no
gradient step on a forget set takes back: they would remember what the weights have forgotten.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.errors import CheckpointError

MAX_LAYER_WIDTH = 1 << 16
"""Largest width of a layer. A larger one is a typing error, and costs must stay finite."""
MAX_INPUT_WIDTH = 1 << 24
MAX_PARAMETERS = 1 << 28
"""A gibibyte of weights: far beyond what these plain networks are good for."""
KERNEL = 3
"""Side of every convolution; inputs are padded so that it keeps the image's size."""

LayerWidth = Annotated[int, Field(ge=1, le=MAX_LAYER_WIDTH)]


class SgdSettings(BaseModel):
    """How stochastic gradient descent is run. Shared by training, fine-tuning and relearning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the training records.")
    batch_size: int = Field(
        64, ge=1, le=1 << 20, description="Records per step; the last step may have fewer."
    )
    learning_rate: float = Field(0.05, gt=0, le=100, description="Step length at the start.")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Share of the last step that is kept; 0 for plain SGD."
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on weights and biases.")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "cosine",
        description="How the learning rate falls: not at all, along half a cosine, or straight to zero.",
    )

    def rate(self, done: float) -> float:
        """Return the learning rate after the share `done` of all steps.

        >>> SgdSettings(learning_rate=0.2, schedule="linear").rate(0.75)
        0.05
        """
        factor = {
            "constant": 1.0,
            "cosine": (1.0 + math.cos(math.pi * done)) / 2.0,
            "linear": 1.0 - done,
        }[self.schedule]
        return self.learning_rate * factor


class _NetworkRecipe(SgdSettings):
    """What the recipes of both architectures share."""

    input_range: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description=(
            "Largest magnitude of an input; inputs are divided by it. Null: each record is divided by its own "
            "largest magnitude. Never measured on the data: what is fitted on all records cannot forget one."
        ),
    )


class MlpRecipe(_NetworkRecipe):
    """How to train a multilayer perceptron. The defaults suit handwritten digits."""

    architecture: Literal["mlp"] = "mlp"
    hidden: tuple[LayerWidth, ...] = Field(
        (128,), min_length=1, max_length=64, description="Width of each hidden layer, first to last."
    )


class CnnRecipe(_NetworkRecipe):
    """How to train a small convolutional network. The defaults suit handwritten digits."""

    architecture: Literal["cnn"] = "cnn"
    image_shape: tuple[LayerWidth, LayerWidth, LayerWidth] = Field(
        description="Channels, height and width of an image; a record's features are its pixels in this order."
    )
    channels: tuple[LayerWidth, ...] = Field(
        (8, 16),
        min_length=1,
        max_length=16,
        description="Output channels of each 3x3 convolution; each is followed by a ReLU and 2x2 max pooling.",
    )
    hidden: tuple[LayerWidth, ...] = Field(
        (64,), min_length=1, max_length=64, description="Width of each linear layer after the convolutions."
    )


Recipe = Annotated[MlpRecipe | CnnRecipe, Field(discriminator="architecture")]


class NetworkConfig(BaseModel):
    """The `config.json` of a network: its recipe, and what the recipe was applied to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["classifier"] = "classifier"
    architecture: Literal["mlp", "cnn"]
    format: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=1, description="Class names; a label is an index into them.")
    input_width: int = Field(ge=1, le=MAX_INPUT_WIDTH)
    seed: int = Field(description="Seed of the first weights and of the order of the batches.")
    recipe: Recipe

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("class names must be distinct")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.architecture != self.recipe.architecture:
            raise ValueError("the recipe is of another architecture")
        if isinstance(self.recipe, CnnRecipe):
            _check_image(self.recipe, self.input_width)
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"{self.parameters} weights are more than the {MAX_PARAMETERS} that are allowed")
        return self

    @property
    def layers(self) -> tuple["Layer", ...]:
        """Every layer with weights, first to last; the last one is the head."""
        return tuple(_layers(self))

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(layer.fan_in * layer.outputs + layer.outputs for layer in self.layers)

    @property
    def flops_forward(self) -> float:
        """Floating-point operations of one record's forward pass."""
        return float(sum(2 * layer.positions * layer.fan_in * layer.outputs for layer in self.layers))


@dataclass(frozen=True)
class Layer:
    """One layer with weights.

    Attributes:
        positions: Pixels at which a convolution is evaluated; 1 for a linear layer.
        pool: Whether 2x2 max pooling follows. It needs two pixels either way.
    """

    kind: Literal["conv", "linear"]
    name: str
    inputs: int
    outputs: int
    positions: int = 1
    pool: bool = False

    @property
    def kernel(self) -> int:
        """Side of the window that a convolution looks through, and 1 for a linear layer."""
        return KERNEL if self.kind == "conv" else 1

    @property
    def fan_in(self) -> int:
        """Inputs of one output."""
        return self.inputs * self.kernel * self.kernel

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight; the bias has shape (outputs,)."""
        window = (self.kernel, self.kernel) if self.kind == "conv" else ()
        return (self.outputs, self.inputs, *window)


def _layers(config: NetworkConfig) -> Iterator[Layer]:
    recipe, width = config.recipe, config.input_width
    if isinstance(recipe, CnnRecipe):
        inputs, height, across = recipe.image_shape
        for index, outputs in enumerate(recipe.channels):
            yield Layer("conv", f"conv.{index}", inputs, outputs, positions=height * across, pool=True)
            inputs, height, across = outputs, height // 2, across // 2
        width = inputs * height * across
    for index, outputs in enumerate(recipe.hidden):
        yield Layer("linear", f"hidden.{index}", width, outputs)
        width = outputs
    yield Layer("linear", "head", width, len(config.classes))


def _check_image(recipe: CnnRecipe, input_width: int) -> None:
    channels, height, across = recipe.image_shape
    if channels * height * across != input_width:
        raise ValueError(
            f"images of {channels} x {height} x {across} have {channels * height * across} features, "
            f"but the records have {input_width}"
        )
    if min(height, across) >> len(recipe.channels) < 1:
        raise ValueError(
            f"{len(recipe.channels)} poolings leave nothing of images of {height} x {across} pixels; "
            "use fewer convolutions"
        )


def read_network_config(config: Mapping[str, Any]) -> NetworkConfig:
    """Read a parsed `config.json`.

    Raises:
        CheckpointError: It is not a network's; the message names the first fault.
    """
    try:
        return NetworkConfig.model_validate(config)
    except ValidationError as error:
        raise CheckpointError(f"config.json is not a network classifier's: {first_fault(error)}.") from None


def read_recipe(recipe: Mapping[str, Any], architecture: str) -> MlpRecipe | CnnRecipe:
    """Read a training recipe.

    Raises:
        ValueError: It has an unknown, missing or wrong field; the message names the first fault.
    """
    try:
        return CnnRecipe.model_validate(recipe) if architecture == "cnn" else MlpRecipe.model_validate(recipe)
    except ValidationError as error:
        raise ValueError(f"The recipe is wrong: {first_fault(error)}.") from None


def first_fault(error: ValidationError) -> str:
    """Say in a few words what is wrong first, and where."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "it"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"


def describe_network(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner and the certificate want to know of a network.

    Raises:
        CheckpointError: `config` is not a network's.
    """
    parsed = read_network_config(config)
    return {
        "family": parsed.family,
        "architecture": parsed.architecture,
        "classes": len(parsed.classes),
        "input_width": parsed.input_width,
        "parameters": parsed.parameters,
        "epochs": parsed.recipe.epochs,
        "flops_forward": parsed.flops_forward,
        # A backward pass costs two forward ones: gradients of the activations, and of the weights.
        "flops_per_record": 3.0 * parsed.flops_forward * parsed.recipe.epochs,
        "flops_to_finish": 0.0,
    }
