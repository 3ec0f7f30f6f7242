"""The graph family in memory (`models.contracts.FamilyRuntime`): everything goes to the architecture it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.architectures import get_architecture
from models.checkpoint import (
    CONFIG_NAME,
    MAX_CONFIG_BYTES,
    read_json_object,
    verify_directory,
    write_manifest,
)
from models.contracts import Progress
from models.errors import CheckpointError, UnknownArchitectureError
from models.graph.data import load_data

__all__ = ["describe", "load_data", "load_model", "recipe", "retrain", "save_model", "train", "untrained"]

FAMILY = "graph"


def load_model(directory: Path) -> Any:
    """Load a checkpoint directory, every file compared with its digest first; never unpickles.

    Raises:
        CheckpointError: It is malformed or damaged, or of an architecture that is not installed.
    """
    verify_directory(directory)
    config = read_json_object(directory / CONFIG_NAME, MAX_CONFIG_BYTES)
    try:
        architecture = get_architecture(FAMILY, str(config.get("architecture")))
    except UnknownArchitectureError as error:
        raise CheckpointError(str(error)) from None
    return architecture.runtime().load_model(directory, config)


def save_model(model: Any, directory: Path) -> None:
    """Write a checkpoint into the empty `directory`, manifest included."""
    get_architecture(FAMILY, model.architecture).runtime().save_model(model, directory)
    write_manifest(directory)


def train(data: Any, recipe: Mapping[str, Any], *, seed: int, progress: Progress) -> Any:
    """Train a version 1. The recipe's `architecture` (default `gcn`) decides how the rest of it is read.

    Raises:
        UnknownArchitectureError: There is no such architecture.
        ValueError: The recipe has an unknown or wrong field, or does not fit the data.
    """
    architecture = get_architecture(FAMILY, str(recipe.get("architecture", "gcn")))
    return architecture.runtime().train(data, recipe, seed=seed, progress=progress)


def retrain(model: Any, data: Any, *, seed: int, progress: Progress) -> Any:
    """Train anew on the training part of `data`, as `model` was trained, from another seed.

    Raises:
        ValueError: The data do not fit the model.
    """
    architecture = get_architecture(FAMILY, model.architecture).runtime()
    return architecture.retrain(model, data, seed=seed, progress=progress)


def recipe(model: Any) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data and its seed.

    An architecture that does not say so in a function `recipe(model)` of its own is taken by its whole configuration.
    """
    architecture = get_architecture(FAMILY, model.architecture).runtime()
    own = getattr(architecture, "recipe", None)
    said: Mapping[str, Any] = architecture.config(model) if own is None else own(model)
    return {"family": FAMILY, "architecture": model.architecture, **said}


def untrained(model: Any, *, seed: int) -> Any | None:
    """Return the model at a random initialisation, or None where its architecture has no `untrained(model, seed=)`."""
    own = getattr(get_architecture(FAMILY, model.architecture).runtime(), "untrained", None)
    return None if own is None else own(model, seed=seed)


def describe(model: Any) -> Mapping[str, Any]:
    """Return `family`, `architecture` and what the planner wants to know; the same as `describe_config` says."""
    architecture = get_architecture(FAMILY, model.architecture)
    return architecture.describe(architecture.runtime().config(model))
