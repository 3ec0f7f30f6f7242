"""Torch-free: what describes a graph network: its recipe and its `config.json`.

No layer keeps statistics of what it has seen, such as batch normalisation's running averages: they would remember the
records that the weights have forgotten. For the same reason features are not scaled by anything measured on all nodes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.errors import CheckpointError

FAMILY = "graph"
ARCHITECTURES = ("gcn", "gat", "gin", "sage")

MAX_LAYER_WIDTH = 1 << 14
"""Largest width of a layer. A larger one is a typing error, and costs must stay finite."""
MAX_INPUT_WIDTH = 1 << 24
MAX_PARAMETERS = 1 << 28
"""A gibibyte of weights: far beyond what these networks are good for."""

LayerWidth = Annotated[int, Field(ge=1, le=MAX_LAYER_WIDTH)]
Task = Literal["node_classification", "link_prediction"]


class GraphRecipe(BaseModel):
    """How to train a graph network. What the four architectures share; the defaults suit citation graphs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["gcn", "gat", "gin", "sage"]
    task: Task = Field(
        description=(
            "`node_classification` learns the training nodes' classes; `link_prediction` learns to tell the training "
            "edges from pairs of nodes without one."
        )
    )
    hidden: tuple[LayerWidth, ...] = Field(
        (128, 64),
        min_length=1,
        max_length=16,
        description="Width of each layer's output, first to last; the last one is that of the embeddings.",
    )
    epochs: int = Field(300, ge=1, le=100_000, description="Steps over the whole graph, at most.")
    patience: int = Field(
        50,
        ge=1,
        le=100_000,
        description=(
            "Epochs without a better score on the validation half of what is held out, after which training stops. "
            "The weights of the best epoch are kept. Where nothing is held out, all epochs are run and the last kept."
        ),
    )
    learning_rate: float = Field(0.01, gt=0, le=100, description="Step length of Adam.")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on weights and biases.")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of each layer's inputs that is dropped in a training step."
    )


class GcnRecipe(GraphRecipe):
    """Graph convolutional network (Kipf and Welling, arXiv 1609.02907)."""

    architecture: Literal["gcn"] = "gcn"


class GatRecipe(GraphRecipe):
    """Graph attention network (Veličković et al., arXiv 1710.10903)."""

    architecture: Literal["gat"] = "gat"
    heads: int = Field(
        4,
        ge=1,
        le=64,
        description="Attention heads of every layer but the last, which has one; they share its width.",
    )

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if any(width % self.heads for width in self.hidden[:-1]):
            raise ValueError(
                f"the {self.heads} heads cannot share a width that is no multiple of their number"
            )
        return self


class GinRecipe(GraphRecipe):
    """Graph isomorphism network with ε = 0 (Xu et al., arXiv 1810.00826, GIN-0), without its batch normalisation.

    Sums over neighbours grow with the degree, and nothing normalises them: steps are shorter and patience longer.
    """

    architecture: Literal["gin"] = "gin"
    patience: int = Field(100, ge=1, le=100_000, description="As for the others, which take 50.")
    learning_rate: float = Field(
        0.003, gt=0, le=100, description="Step length of Adam; the others take 0.01."
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="As for the others, which take 0.5.")


class SageRecipe(GraphRecipe):
    """GraphSAGE with the mean aggregator on all neighbours (Hamilton et al., arXiv 1706.02216)."""

    architecture: Literal["sage"] = "sage"


Recipe = Annotated[GcnRecipe | GatRecipe | GinRecipe | SageRecipe, Field(discriminator="architecture")]
_RECIPES: Mapping[str, type[GcnRecipe | GatRecipe | GinRecipe | SageRecipe]] = {
    "gcn": GcnRecipe,
    "gat": GatRecipe,
    "gin": GinRecipe,
    "sage": SageRecipe,
}


class GraphConfig(BaseModel):
    """The `config.json` of a graph network: its recipe, and what the recipe was applied to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["graph"] = "graph"
    architecture: Literal["gcn", "gat", "gin", "sage"]
    format: Literal[1] = 1
    classes: tuple[str, ...] = Field(
        description="Class names of the nodes, indices into which node logits are; none for link prediction."
    )
    width: int = Field(ge=1, le=MAX_INPUT_WIDTH, description="Features per node.")
    nodes: int = Field(ge=0, description="Nodes of the graph that the model was made for.")
    edges: int = Field(
        ge=0, description="Directed messages per layer in that graph: two for an undirected edge."
    )
    seed: int = Field(description="Seed of the first weights, of dropout and of the negative samples.")
    deletions: int = Field(
        0, ge=0, le=10_000, description="How many requests left deletion operators (`models.graph.deletion`)."
    )
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
        if (self.task == "node_classification") != bool(self.classes):
            raise ValueError("node classification needs classes, and link prediction has none")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"{self.parameters} weights are more than the {MAX_PARAMETERS} that are allowed")
        return self

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return self.recipe.task

    @property
    def hidden(self) -> tuple[int, ...]:
        """Width of each layer's output."""
        return self.recipe.hidden

    @property
    def layers(self) -> int:
        """Number of message-passing layers, and so the hops that a node's embedding sees."""
        return len(self.recipe.hidden)

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """Width of each layer's input and output."""
        return tuple(zip((self.width, *self.hidden[:-1]), self.hidden, strict=True))

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each layer; 1 where there is no attention."""
        if isinstance(self.recipe, GatRecipe):
            return (*(self.recipe.heads for _ in self.hidden[:-1]), 1)
        return tuple(1 for _ in self.hidden)

    @property
    def parameters(self) -> int:
        """Number of weights and biases, deletion operators not counted."""
        head = (self.hidden[-1] + 1) * len(self.classes)
        return head + sum(self._layer_parameters(*widths) for widths in self.widths)

    @property
    def flops_forward(self) -> float:
        """Floating-point operations of one forward pass over the whole graph, were its features dense."""
        dense = self.nodes * self.flops_per_node
        return dense + float(sum(2 * self.edges * outputs for _, outputs in self.widths))

    @property
    def flops_per_node(self) -> float:
        """Floating-point operations that one node's layers take, messages not counted."""
        return 2.0 * self.parameters

    def _layer_parameters(self, inputs: int, outputs: int) -> int:
        match self.architecture:
            case "gcn":
                return inputs * outputs + outputs
            case "gat":
                return inputs * outputs + 3 * outputs
            case "sage":
                return 2 * inputs * outputs + outputs
            case "gin":
                return inputs * outputs + outputs * outputs + 2 * outputs


def read_graph_config(config: Mapping[str, Any]) -> GraphConfig:
    """Read a parsed `config.json`.

    Raises:
        CheckpointError: It is not a graph network's; the message names the first fault.
    """
    try:
        return GraphConfig.model_validate(config)
    except ValidationError as error:
        raise CheckpointError(f"config.json is not a graph network's: {_first_fault(error)}.") from None


def read_recipe(recipe: Mapping[str, Any]) -> GcnRecipe | GatRecipe | GinRecipe | SageRecipe:
    """Read a training recipe; its `architecture` (default `gcn`) decides how the rest of it is read.

    Raises:
        ValueError: It has an unknown, missing or wrong field; the message names the first fault.
    """
    chosen = _RECIPES.get(str(recipe.get("architecture", "gcn")))
    if chosen is None:
        raise ValueError(f"The recipe is wrong: architecture must be one of {', '.join(_RECIPES)}.")
    try:
        return chosen.model_validate(recipe)
    except ValidationError as error:
        raise ValueError(f"The recipe is wrong: {_first_fault(error)}.") from None


def describe_graph(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner and the certificate want to know of a graph network.

    Raises:
        CheckpointError: `config` is not a graph network's.
    """
    parsed = read_graph_config(config)
    return {
        "family": parsed.family,
        "architecture": parsed.architecture,
        "task": parsed.task,
        "classes": len(parsed.classes),
        "nodes": parsed.nodes,
        "edges": parsed.edges,
        "width": parsed.width,
        "hidden": list(parsed.hidden),
        "layers": parsed.layers,
        "parameters": parsed.parameters,
        "epochs": parsed.recipe.epochs,
        "flops_forward": parsed.flops_forward,
        # A backward pass costs two forward ones: gradients of the activations, and of the weights.
        "flops_per_epoch": 3.0 * parsed.flops_forward,
        "deletions": parsed.deletions,
    }


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "it"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
