"""Torch-free: what describes a recommender trained by gradient descent: its recipe and its `config.json`."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from models.errors import CheckpointError

MAX_NODES = 1 << 31
MAX_PARAMETERS = 1 << 30
"""Four gibibytes of float32: more than one process should be asked to train."""

Layers = Annotated[int, Field(ge=1, le=16)]


class NeuralSettings(BaseModel):
    """What all recipes share: the size of the embeddings, and how gradient descent is run and stopped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(64, ge=1, le=4096, description="Length of an embedding, 1 to 4,096; the papers' 64.")
    epochs: int = Field(
        400, ge=1, le=100_000, description="Passes over the training interactions, at most; 1 to 100,000."
    )
    batch_size: int = Field(
        8192,
        ge=1,
        le=1 << 24,
        description=(
            "Interactions per step, 1 to 2^24. The whole graph is propagated once a step, whatever its size: "
            "larger batches cost less, and want a larger learning rate."
        ),
    )
    learning_rate: float = Field(0.005, gt=0, le=10, description="Step length of Adam, above 0 to 10.")
    evaluate_every: int = Field(
        5, ge=1, le=10_000, description="Epochs between looks at the calibration interactions, 1 to 10,000."
    )
    patience: int = Field(
        50,
        ge=1,
        le=100_000,
        description=(
            "Epochs without a better recall@20 on the calibration interactions after which training ends with the "
            "best epoch's embeddings, 1 to 100,000. Without such interactions all epochs are run."
        ),
    )


class LightGcnRecipe(NeuralSettings):
    """How to train LightGCN (arXiv 2002.02126, section 4.1.2). Batch and step are larger than the paper's."""

    architecture: Literal["lightgcn"] = "lightgcn"
    layers: Layers = Field(3, description="Layers of propagation, 1 to 16; the paper's 3.")
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=1,
        description="L2 penalty on the initial embeddings of a batch, 0 to 1; the paper's 1e-4.",
    )


class SimGclRecipe(NeuralSettings):
    """How to train SimGCL (arXiv 2112.08679, section 5.1). Batch and step are larger than the paper's."""

    architecture: Literal["simgcl"] = "simgcl"
    layers: Layers = Field(3, description="Layers of propagation, 1 to 16; the paper's 3.")
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=1,
        description="L2 penalty on the initial embeddings of a batch, 0 to 1; the paper's 1e-4.",
    )
    batch_size: int = Field(
        4096, ge=1, le=1 << 24, description="Interactions per step, 1 to 2^24. Chosen on Last.fm."
    )
    learning_rate: float = Field(
        0.01, gt=0, le=10, description="Step length of Adam, above 0 to 10. Chosen on Last.fm."
    )
    contrast_weight: float = Field(
        0.02,
        ge=0,
        le=100,
        description=(
            "Weight of the contrastive loss, 0 to 100; the paper's 0.2 to 2, on data that give a hundred times as many "
            "steps. On Last.fm such weights drown the ranking for the first hundreds of steps."
        ),
    )
    temperature: float = Field(
        0.2, gt=0, le=100, description="Of the contrastive loss, above 0 to 100; the paper's 0.2."
    )
    noise: float = Field(
        0.1, ge=0, le=10, description="Length of the noise added at each layer, 0 to 10; the paper's 0.1."
    )
    contrast_rows: int = Field(
        1024,
        ge=2,
        le=1 << 20,
        description="Users, and items, of a batch that are contrasted, at most; 2 to 2^20. The cost is its square.",
    )


class UltraGcnRecipe(NeuralSettings):
    """How to train UltraGCN (arXiv 2110.15114). Weights as the authors' configuration for Gowalla."""

    architecture: Literal["ultragcn"] = "ultragcn"
    batch_size: int = Field(
        2048,
        ge=1,
        le=1 << 24,
        description="Interactions per step, 1 to 2^24. There is no graph to propagate.",
    )
    negatives: int = Field(
        200,
        ge=1,
        le=1 << 20,
        description="Items drawn as negatives in each step, 1 to 2^20; published: 200 to 1,500.",
    )
    negative_weight: float = Field(
        20.0,
        ge=0,
        le=1e6,
        description=(
            "Weight of the mean over the negatives, 0 to 1e6; published: 200 to 500. Where there are few items it delays "
            "what is learned of the interactions; chosen on Last.fm."
        ),
    )
    base_weight: float = Field(
        1e-6, ge=0, le=1e3, description="Weight of the plain cross-entropy, 0 to 1e3; published: 1e-6."
    )
    constraint_weight: float = Field(
        1.0, ge=0, le=1e3, description="λ, weight of the user-item constraint, 0 to 1e3; published: 1."
    )
    item_weight: float = Field(
        5e-4, ge=0, le=1e3, description="γ, weight of the item-item constraint, 0 to 1e3; published: 5e-4."
    )
    item_neighbours: int = Field(
        10, ge=1, le=1000, description="Most similar items of each item, 1 to 1,000; the paper's 10."
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="L2 penalty on all embeddings, 0 to 1; published: 1e-4."
    )

    @property
    def layers(self) -> int:
        """No message is passed."""
        return 0


class LightGclRecipe(NeuralSettings):
    """How to train LightGCL (arXiv 2302.08191, appendix). Batch and step are larger than the paper's."""

    architecture: Literal["lightgcl"] = "lightgcl"
    layers: Layers = Field(2, description="Layers of propagation, 1 to 16; the paper's 2.")
    weight_decay: float = Field(
        1e-7, ge=0, le=1, description="L2 penalty on all embeddings, 0 to 1; published: 1e-7."
    )
    batch_size: int = Field(
        4096, ge=1, le=1 << 24, description="Interactions per step, 1 to 2^24. Chosen on Last.fm."
    )
    learning_rate: float = Field(
        0.01, gt=0, le=10, description="Step length of Adam, above 0 to 10. Chosen on Last.fm."
    )
    contrast_weight: float = Field(
        0.02,
        ge=0,
        le=100,
        description="Weight of the contrastive loss, 0 to 100; published: 1e-6 to 0.2. Chosen on Last.fm.",
    )
    temperature: float = Field(
        0.2, gt=0, le=100, description="Of the contrastive loss, above 0 to 100; published: 0.2."
    )
    rank: int = Field(
        5, ge=1, le=1000, description="Singular values kept of the graph's matrix, 1 to 1,000; the paper's 5."
    )
    contrast_rows: int = Field(
        1024,
        ge=2,
        le=1 << 20,
        description="Users, and items, of a batch that are contrasted, at most; 2 to 2^20. The cost is its square.",
    )


NeuralRecipe = Annotated[
    LightGcnRecipe | SimGclRecipe | UltraGcnRecipe | LightGclRecipe, Field(discriminator="architecture")
]
_RECIPE: TypeAdapter[NeuralRecipe] = TypeAdapter(NeuralRecipe)


class NeuralConfig(BaseModel):
    """The `config.json` of a trained recommender: its recipe, and what the recipe was applied to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["recommender"] = "recommender"
    architecture: Literal["lightgcn", "simgcl", "ultragcn", "lightgcl"]
    format: Literal[1] = 1
    users: int = Field(ge=1, le=MAX_NODES, description="Users that the model knows.")
    items: int = Field(ge=1, le=MAX_NODES, description="Items that the model knows.")
    interactions: int = Field(ge=1, description="Training interactions.")
    best_epoch: int = Field(ge=1, description="Epoch whose embeddings were kept.")
    seed: int = Field(description="Seed of the first embeddings, of the batches and of the negatives.")
    recipe: NeuralRecipe
    influence_layers: int | None = Field(
        None, ge=1, le=16, description="Steps of the Influence Encoder stored beside it; null without one."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.architecture != self.recipe.architecture:
            raise ValueError("the recipe is of another architecture")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"{self.parameters} weights are more than the {MAX_PARAMETERS} that are allowed")
        return self

    @property
    def parameters(self) -> int:
        """Numbers in all embeddings."""
        return (self.users + self.items) * self.recipe.width


def read_neural_config(config: Mapping[str, Any]) -> NeuralConfig:
    """Read a parsed `config.json`.

    Raises:
        CheckpointError: It is not a trained recommender's; the message names the first fault.
    """
    try:
        return NeuralConfig.model_validate(config)
    except ValidationError as error:
        raise CheckpointError(f"config.json is not a neural recommender's: {_first_fault(error)}.") from None


def read_neural_recipe(recipe: Mapping[str, Any]) -> NeuralRecipe:
    """Read a training recipe; `architecture` decides how the rest of it is read.

    Raises:
        ValueError: It has an unknown, missing or wrong field; the message names the first fault.
    """
    try:
        return _RECIPE.validate_python(recipe)
    except ValidationError as error:
        raise ValueError(f"The recipe is wrong: {_first_fault(error)}.") from None


def describe_neural(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner and the certificate want to know of a trained recommender.

    Raises:
        CheckpointError: `config` is not one's.
    """
    parsed = read_neural_config(config)
    recipe = parsed.recipe
    steps = math.ceil(parsed.interactions / recipe.batch_size)
    # An edge takes part in both directions of every layer, forwards and backwards, in each step; besides, each
    # interaction reads and writes three embeddings once an epoch.
    pass_flops = float(recipe.width * (8 * recipe.layers * steps + 20))
    return {
        "family": parsed.family,
        "architecture": parsed.architecture,
        "users": parsed.users,
        "items": parsed.items,
        "interactions": parsed.interactions,
        "parameters": parsed.parameters,
        "layers": recipe.layers,
        "width": recipe.width,
        "influence_encoder": parsed.influence_layers is not None,
        "epochs": parsed.best_epoch,
        "flops_per_epoch_record": pass_flops,
        # Training goes on for its patience after the best epoch.
        "flops_per_record": pass_flops * min(recipe.epochs, parsed.best_epoch + recipe.patience),
        "flops_to_finish": 0.0,
    }


def _first_fault(error: ValidationError) -> str:
    """Say in a few words what is wrong first, and where."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "it"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
