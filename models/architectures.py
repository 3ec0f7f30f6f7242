"""Torch-free: which architectures there are, built in and from other packages, and where their code is.

Another package adds one by an entry point of the group `expunge.architectures` that loads an `Architecture`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

from models.classifier.configuration import describe_analytic
from models.classifier.network_configuration import describe_network
from models.contracts import Progress
from models.errors import UnknownArchitectureError
from models.graph.configuration import describe_graph
from models.plugins import offers
from models.recommender.configuration import describe_ease, describe_gfcf
from models.recommender.neural_configuration import describe_neural

ENTRY_POINTS = "expunge.architectures"


class ArchitectureRuntime(Protocol):
    """Module protocol: one architecture in memory. Imports torch.

    Models carry their architecture's name as the attribute `architecture`. Those of classifiers also have `classes`, a
    tuple of names, and `predict(inputs)`, indices into them: shape (n, width) -> (n,). Those that can be audited
    beyond their accuracy offer `logits(inputs)` too, (n, width) -> (n, classes), and `embeddings(inputs)`, -> (n, d).

    A module may also offer `recipe(model)`, what `retrain` depends on besides data and seed (without it, all of
    `config` is taken for that), and `untrained(model, *, seed)`, the model at a random initialisation.
    """

    def load_model(self, directory: Path, config: Mapping[str, Any]) -> Any:
        """Load a verified checkpoint directory whose parsed `config.json` is `config`.

        Raises:
            CheckpointError: It is malformed.
        """
        ...

    def save_model(self, model: Any, directory: Path) -> None:
        """Write the checkpoint's files; the caller writes the manifest."""
        ...

    def config(self, model: Any) -> Mapping[str, Any]:
        """Return what `save_model` writes as `config.json`."""
        ...

    def train(self, data: Any, recipe: Mapping[str, Any], *, seed: int, progress: Progress) -> Any:
        """Train on the training records of `data`.

        Raises:
            ValueError: The recipe is wrong or does not fit the data.
        """
        ...

    def retrain(self, model: Any, data: Any, *, seed: int, progress: Progress) -> Any:
        """Train anew on the training records of `data`, as `model` was trained."""
        ...


@dataclass(frozen=True)
class Architecture:
    """One architecture of a family."""

    family: str
    name: str
    """What `config.json` holds under `architecture`."""
    title: str
    describe: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """Torch-free: parsed `config.json` to what the planner wants to know, `family` and `architecture` included."""
    runtime_module: str
    """A module that keeps to `ArchitectureRuntime`."""

    def runtime(self) -> ArchitectureRuntime:
        """Import the torch module."""
        return cast("ArchitectureRuntime", importlib.import_module(self.runtime_module))


_BUILT_IN = (
    Architecture(
        family="classifier",
        name="analytic",
        title="Random ReLU features and a ridge head, on exact sums",
        describe=describe_analytic,
        runtime_module="models.classifier.analytic",
    ),
    Architecture(
        family="classifier",
        name="mlp",
        title="Multilayer perceptron, trained by gradient descent",
        describe=describe_network,
        runtime_module="models.classifier.network",
    ),
    Architecture(
        family="classifier",
        name="cnn",
        title="Small convolutional network, trained by gradient descent",
        describe=describe_network,
        runtime_module="models.classifier.network",
    ),
    Architecture(
        family="graph",
        name="gcn",
        title="Graph convolutional network",
        describe=describe_graph,
        runtime_module="models.graph.architectures",
    ),
    Architecture(
        family="graph",
        name="gat",
        title="Graph attention network",
        describe=describe_graph,
        runtime_module="models.graph.architectures",
    ),
    Architecture(
        family="graph",
        name="gin",
        title="Graph isomorphism network",
        describe=describe_graph,
        runtime_module="models.graph.architectures",
    ),
    Architecture(
        family="graph",
        name="sage",
        title="GraphSAGE with the mean of all neighbours",
        describe=describe_graph,
        runtime_module="models.graph.architectures",
    ),
    Architecture(
        family="recommender",
        name="lightgcn",
        title="LightGCN: plain message passing over users and items",
        describe=describe_neural,
        runtime_module="models.recommender.neural",
    ),
    Architecture(
        family="recommender",
        name="simgcl",
        title="SimGCL: LightGCN with a contrast of noisy views",
        describe=describe_neural,
        runtime_module="models.recommender.neural",
    ),
    Architecture(
        family="recommender",
        name="ultragcn",
        title="UltraGCN: constraints instead of message passing",
        describe=describe_neural,
        runtime_module="models.recommender.neural",
    ),
    Architecture(
        family="recommender",
        name="lightgcl",
        title="LightGCL: LightGCN with a contrast of singular vectors",
        describe=describe_neural,
        runtime_module="models.recommender.neural",
    ),
    Architecture(
        family="recommender",
        name="ease",
        title="EASE: item-item weights in closed form, on exact counts",
        describe=describe_ease,
        runtime_module="models.recommender.ease",
    ),
    Architecture(
        family="recommender",
        name="gfcf",
        title="GF-CF: a graph filter in closed form, on exact sums",
        describe=describe_gfcf,
        runtime_module="models.recommender.gfcf",
    ),
)


@lru_cache
def architectures() -> Mapping[tuple[str, str], Architecture]:
    """Return every installed architecture under its family and name.

    Raises:
        PluginError: An installed package offers an architecture that cannot be taken.
    """
    found = {(built_in.family, built_in.name): built_in for built_in in _BUILT_IN}
    for offer in offers(ENTRY_POINTS):
        architecture = offer.value
        if not isinstance(architecture, Architecture):
            raise offer.refusal("it is not an Architecture")
        key = (architecture.family, architecture.name)
        if key in found:
            raise offer.refusal(f"the architecture {'/'.join(key)} is installed already")
        found[key] = architecture
    return MappingProxyType(found)


def get_architecture(family: str, name: str) -> Architecture:
    """Return one architecture.

    Raises:
        UnknownArchitectureError: There is none of this name; the message lists those there are.
        PluginError: An installed package offers an architecture that cannot be taken.
    """
    try:
        return architectures()[family, name]
    except KeyError:
        known = ", ".join(sorted(known for of, known in architectures() if of == family)) or "none"
        raise UnknownArchitectureError(
            f"There is no {family} architecture {name!r}; installed: {known}."
        ) from None


def describe_config(family: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe a checkpoint by its parsed `config.json`, without torch.

    Raises:
        UnknownArchitectureError: `config` names no installed architecture of the family.
        CheckpointError: `config` is malformed.
    """
    return get_architecture(family, str(config.get("architecture"))).describe(config)
