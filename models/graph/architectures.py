"""The four built-in graph networks in memory; the module keeps to `models.architectures.ArchitectureRuntime`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint import CONFIG_NAME
from models.contracts import Progress
from models.errors import CheckpointError
from models.graph.configuration import GraphConfig, read_graph_config, read_recipe
from models.graph.data import GraphData
from models.graph.deletion import Deletion, deletions_of
from models.graph.network import GraphModel, initialise
from models.graph.training import train_to_best

WEIGHTS_NAME = "model.safetensors"
_DELETIONS = "deletion_operators."


def train(data: GraphData, recipe: Mapping[str, Any], *, seed: int, progress: Progress) -> GraphModel:
    """Train by a recipe: draw first weights, then take steps of Adam over the whole graph.

    Raises:
        ValueError: The recipe has an unknown or wrong field, or does not fit the data; or training diverged.
    """
    parsed = read_recipe(recipe)
    if parsed.task == "node_classification" and not data.classes:
        raise ValueError("the data have no classes of nodes to learn")
    config = GraphConfig(
        architecture=parsed.architecture,
        classes=data.classes if parsed.task == "node_classification" else (),
        width=data.width,
        nodes=data.nodes,
        edges=data.message_edges().shape[1],
        seed=seed,
        recipe=parsed,
    )
    return _train(config, data, progress)


def retrain(model: GraphModel, data: GraphData, *, seed: int, progress: Progress) -> GraphModel:
    """Train anew on the training part of `data`, by the recipe of `model`; its classes stay, used or not.

    Raises:
        ValueError: As `train`, or the features or classes of `data` are not the model's.
    """
    if data.width != model.config.width:
        raise ValueError(
            f"the model reads {model.config.width} features per node, but the data have {data.width}"
        )
    sizes = {"nodes": data.nodes, "edges": data.message_edges().shape[1], "deletions": 0, "seed": seed}
    return _train(model.config.model_copy(update=sizes), data, progress)


def _train(config: GraphConfig, data: GraphData, progress: Progress) -> GraphModel:
    generator = torch.Generator().manual_seed(config.seed)
    return train_to_best(initialise(config, generator), data, generator=generator, progress=progress)


def config(model: GraphModel) -> Mapping[str, Any]:
    """Return what `config.json` holds."""
    return model.config.model_dump(mode="json")


def recipe(model: GraphModel) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data and its seed: not the sizes of the graph it was made for."""
    depends = ("format", "classes", "width", "recipe")
    return {name: value for name, value in config(model).items() if name in depends}


def untrained(model: GraphModel, *, seed: int) -> GraphModel:
    """Return the same architecture at fresh first weights, without deletion operators."""
    fresh = model.config.model_copy(update={"deletions": 0, "seed": seed})
    return initialise(fresh, torch.Generator().manual_seed(seed))


def save_model(model: GraphModel, directory: Path) -> None:
    """Write `config.json` and `model.safetensors`."""
    (directory / CONFIG_NAME).write_text(json.dumps(config(model), indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / WEIGHTS_NAME)


def load_model(directory: Path, config: Mapping[str, Any]) -> GraphModel:
    """Read a checkpoint.

    Raises:
        CheckpointError: A tensor is missing or too many, has a wrong shape or type, or holds NaN or infinity.
    """
    parsed = read_graph_config(config)
    try:
        tensors = load_file(directory / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} cannot be read: {error}.") from None
    model = GraphModel(parsed, _deletions(parsed, tensors))
    expected = model.state_dict()
    if tensors.keys() != expected.keys():
        raise CheckpointError(
            f"{WEIGHTS_NAME} must hold exactly these tensors: {', '.join(expected)}; "
            f"it holds {', '.join(sorted(tensors)) or 'none'}."
        )
    for name, own in expected.items():
        given = tensors[name]
        if given.shape != own.shape or given.dtype != own.dtype:
            raise CheckpointError(
                f"The tensor {name} must have shape {tuple(own.shape)} and type {own.dtype}."
            )
        if given.is_floating_point() and not given.isfinite().all():
            raise CheckpointError(f"The tensor {name} holds NaN or infinity.")
    model.load_state_dict(tensors)
    return model


def _deletions(config: GraphConfig, tensors: Mapping[str, Tensor]) -> list[Deletion]:
    """Read the deletion operators, each as wide as its layer.

    Raises:
        CheckpointError: They are malformed, or not as many as the configuration says.
    """
    own = {
        name.removeprefix(_DELETIONS): tensor
        for name, tensor in tensors.items()
        if name.startswith(_DELETIONS)
    }
    try:
        found = deletions_of(own, config.layers)
    except ValueError as error:
        raise CheckpointError(f"{WEIGHTS_NAME} is not usable: {error}.") from None
    if len(found) != config.deletions:
        raise CheckpointError(
            f"{WEIGHTS_NAME} has the deletion operators of {len(found)} requests, config.json says {config.deletions}."
        )
    for deletion in found:
        for layer, width in enumerate(config.hidden):
            if len(deletion.weight(layer)) != width or deletion.weight(layer).dtype != torch.float32:
                raise CheckpointError(
                    f"A deletion operator of layer {layer} does not have shape ({width}, {width})."
                )
    return found
