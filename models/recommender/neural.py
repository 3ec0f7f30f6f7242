"""Recommenders trained by gradient descent: `lightgcn`, `simgcl`, `ultragcn`, `lightgcl`.

What is learned are one initial embedding for each user and each item. The final embeddings, whose inner product is
the score, come from them and from the training interactions (`propagate`): so a model forgets part of an interaction
at once where it is propagated without it, and the rest lies in the initial embeddings. Each architecture's own file
says how. The module keeps to `models.architectures.ArchitectureRuntime`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint import CONFIG_NAME
from models.contracts import Progress
from models.errors import CheckpointError
from models.recommender.data import RecommenderData
from models.recommender.id_tables import pack_ids, unpack_ids
from models.recommender.influence import InfluenceEncoder
from models.recommender.interaction_graph import InteractionGraph, among, pair_matrix
from models.recommender.lightgcl import LightGcl
from models.recommender.lightgcn import LightGcn
from models.recommender.neural_configuration import (
    LightGclRecipe,
    LightGcnRecipe,
    NeuralConfig,
    NeuralRecipe,
    SimGclRecipe,
    read_neural_config,
    read_neural_recipe,
)
from models.recommender.objectives import Objective
from models.recommender.simgcl import SimGcl
from models.recommender.training import Factors, draw_factors, fit
from models.recommender.ultragcn import UltraGcn
from models.threads import one_thread

WEIGHTS_NAME = "model.safetensors"

_TABLES = ("users.text", "users.ends", "items.text", "items.ends")


@dataclass(frozen=True)
class NeuralRecommender:
    """A trained recommender. Immutable: training makes a new one.

    Attributes:
        users: Ids of the users that it knows; a row of `user_factors` each.
        items: Ids of the items that it knows; a row of `item_factors` each.
        user_factors: Initial embeddings, shape (users, d), float32; nobody writes to them.
        item_factors: Initial embeddings, shape (items, d), float32; nobody writes to them.
        influence: What was pre-trained for `unlearnrec`, if anything was.
    """

    config: NeuralConfig
    users: tuple[str, ...]
    items: tuple[str, ...]
    user_factors: Tensor
    item_factors: Tensor
    influence: InfluenceEncoder | None = None
    _propagated: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.config.architecture

    @property
    def factors(self) -> Factors:
        """The initial embeddings of users and items."""
        return Factors(self.user_factors, self.item_factors)

    def graph(self, data: RecommenderData) -> InteractionGraph:
        """Take the training interactions of `data` as edges between this model's users and items.

        Raises:
            ValueError: One is of a user or an item that the model does not know.
        """
        return InteractionGraph.of(data, self.users, self.items)

    def propagate(self, data: RecommenderData) -> tuple[Tensor, Tensor]:
        """Return the final embeddings over the training interactions of `data`; those of the last data are kept.

        Returns:
            Shapes (users, d) and (items, d), float32; not to be written to.

        Raises:
            ValueError: An interaction is of a user or an item that the model does not know.
        """
        if self._propagated.get("data") is not data:
            with torch.no_grad(), one_thread():
                final = objective(self.config.recipe, self.graph(data)).embed(
                    self.user_factors, self.item_factors
                )
            self._propagated.update(data=data, final=final)
        users, items = self._propagated["final"]
        return users, items

    def scores(self, user_positions: Tensor, data: RecommenderData) -> Tensor:
        """Score every item for some users: positions in `users`, shape (n,) -> (n, items), float32.

        Args:
            user_positions: Positions in this model's `users`.
            data: Whose training interactions are propagated over.

        Raises:
            ValueError: As `propagate`.
        """
        users, items = self.propagate(data)
        with one_thread():
            return users[user_positions] @ items.T

    def with_factors(self, factors: Factors) -> "NeuralRecommender":
        """Return the same model with a copy of other embeddings, cut off from whatever made them.

        Raises:
            ValueError: An embedding is NaN or infinite.
        """
        copies = [tensor.detach().clone() for tensor in (factors.users, factors.items)]
        if not all(bool(tensor.isfinite().all()) for tensor in copies):
            raise ValueError("an embedding is no longer a finite number")
        return replace(self, user_factors=copies[0], item_factors=copies[1])

    def narrowed(self, data: RecommenderData) -> "NeuralRecommender":
        """Return the model without the users and items that `data` has no training interaction of.

        A forgotten user's row would be a trace of them, and so would the name beside it.

        Raises:
            ValueError: `data` has one that the model does not know, or no training interaction.
        """
        known = data.learned()
        if not len(known):
            raise ValueError("there are no training interactions")
        users, items = among(known.users, self.users), among(known.items, self.items)
        if len(users) and int(torch.cat([users, items]).min()) < 0:
            raise ValueError("the data have users or items that the model does not know")
        return replace(
            self,
            config=self.config.model_copy(
                update={"users": len(users), "items": len(items), "interactions": len(known)}
            ),
            users=known.users,
            items=known.items,
            user_factors=self.user_factors[users],
            item_factors=self.item_factors[items],
            influence=None if self.influence is None else self.influence.narrowed(users, items),
        )

    def with_influence(self, influence: InfluenceEncoder | None) -> "NeuralRecommender":
        """Return the same model with another encoder beside it, or with none."""
        layers = None if influence is None else influence.layers
        return replace(
            self, config=self.config.model_copy(update={"influence_layers": layers}), influence=influence
        )


def objective(recipe: NeuralRecipe, graph: InteractionGraph) -> Objective:
    """Return what an architecture makes of a graph."""
    if isinstance(recipe, LightGcnRecipe):
        return LightGcn(recipe, graph)
    if isinstance(recipe, SimGclRecipe):
        return SimGcl(recipe, graph)
    if isinstance(recipe, LightGclRecipe):
        return LightGcl(recipe, graph)
    return UltraGcn(recipe, graph)


def train(
    data: RecommenderData, recipe: Mapping[str, Any], *, seed: int, progress: Progress
) -> NeuralRecommender:
    """Train by a recipe: draw first embeddings, then descend until the calibration interactions say stop.

    Raises:
        ValueError: The recipe has an unknown or wrong field, or does not fit the data; or training diverged.
    """
    return _train(read_neural_recipe(recipe), data, seed, progress)


def retrain(
    model: NeuralRecommender, data: RecommenderData, *, seed: int, progress: Progress
) -> NeuralRecommender:
    """Train anew on the training interactions of `data`, by the recipe of `model`; it knows nobody else.

    Raises:
        ValueError: As `train`.
    """
    return _train(model.config.recipe, data, seed, progress)


def _train(recipe: NeuralRecipe, data: RecommenderData, seed: int, progress: Progress) -> NeuralRecommender:
    known = data.learned()
    if not len(known):
        raise ValueError("there are no training interactions")
    generator = torch.Generator().manual_seed(seed)
    graph = InteractionGraph.of(known, known.users, known.items)
    start = draw_factors(graph.users, graph.items, recipe.width, recipe.architecture, generator)
    wanted = pair_matrix(data.calibration(), known.users, known.items)
    fitted = fit(
        objective(recipe, graph), graph, wanted, start, recipe, generator=generator, progress=progress
    )
    config = NeuralConfig(
        architecture=recipe.architecture,
        users=graph.users,
        items=graph.items,
        interactions=len(graph),
        best_epoch=fitted.best_epoch,
        seed=seed,
        recipe=recipe,
    )
    model = NeuralRecommender(config, known.users, known.items, start.users, start.items)
    return model.with_factors(fitted.factors)


def config(model: NeuralRecommender) -> Mapping[str, Any]:
    """Return what `config.json` holds."""
    return model.config.model_dump(mode="json")


def recipe(model: NeuralRecommender) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data and its seed."""
    return {"recipe": model.config.recipe.model_dump(mode="json")}


def untrained(model: NeuralRecommender, *, seed: int) -> NeuralRecommender:
    """Return the same model at fresh first embeddings."""
    generator = torch.Generator().manual_seed(seed)
    users, items = len(model.users), len(model.items)
    width = model.config.recipe.width
    fresh = draw_factors(users, items, width, model.architecture, generator)
    return model.with_factors(fresh).with_influence(None)


def save_model(model: NeuralRecommender, directory: Path) -> None:
    """Write `config.json` and `model.safetensors`: the embeddings, and the ids that their rows are about."""
    (directory / CONFIG_NAME).write_text(json.dumps(config(model), indent=2, sort_keys=True) + "\n")
    tensors = {"user_factors": model.user_factors, "item_factors": model.item_factors}
    if model.influence is not None:
        tensors |= {f"influence.{name}": tensor for name, tensor in model.influence.tensors().items()}
    for name, ids in (("users", model.users), ("items", model.items)):
        tensors[f"{name}.text"], tensors[f"{name}.ends"] = pack_ids(ids)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS_NAME)


def load_model(directory: Path, config: Mapping[str, Any]) -> NeuralRecommender:
    """Read a checkpoint.

    Raises:
        CheckpointError: A tensor is missing or too many, has a wrong shape or type, or holds NaN or infinity; or the
            tables of ids do not fit them.
    """
    parsed = read_neural_config(config)
    try:
        tensors = load_file(directory / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} cannot be read: {error}.") from None
    shapes = _shapes(parsed)
    expected = {*_TABLES, *shapes}
    if tensors.keys() != expected:
        raise CheckpointError(
            f"{WEIGHTS_NAME} must hold exactly these tensors: {', '.join(sorted(expected))}; "
            f"it holds {', '.join(sorted(tensors)) or 'none'}."
        )
    checked = {name: _checked(tensors, name, shape) for name, shape in shapes.items()}
    users, items = unpack_ids(tensors, "users"), unpack_ids(tensors, "items")
    if (len(users), len(items)) != (parsed.users, parsed.items):
        raise CheckpointError(
            f"{WEIGHTS_NAME} names {len(users)} users and {len(items)} items, unlike config.json."
        )
    influence = None
    if parsed.influence_layers is not None:
        weights = {
            name.removeprefix("influence."): checked[name] for name in shapes if name.startswith("influence.")
        }
        influence = InfluenceEncoder(layers=parsed.influence_layers, **weights)
    return NeuralRecommender(
        parsed, users, items, checked["user_factors"], checked["item_factors"], influence
    )


def _shapes(config: NeuralConfig) -> dict[str, tuple[int, int]]:
    """Return the shape of every tensor of numbers, by its name in the file."""
    width = config.recipe.width
    shapes = {"user_factors": (config.users, width), "item_factors": (config.items, width)}
    if config.influence_layers is not None:
        shapes |= {
            "influence.user_states": (config.users, width),
            "influence.item_states": (config.items, width),
            "influence.first": (width, 2 * width),
            "influence.second": (2 * width, width),
        }
    return shapes


def _checked(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, int]) -> Tensor:
    tensor = tensors[name]
    if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        raise CheckpointError(f"The tensor {name} must have shape {shape} and type {torch.float32}.")
    if not tensor.isfinite().all():
        raise CheckpointError(f"The tensor {name} holds NaN or infinity.")
    # A copy: the file's tensors lie at any address, and a sum's last bit can depend on where it starts.
    return tensor.clone()
