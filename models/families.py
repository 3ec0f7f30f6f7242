"""Torch-free: which families there are, and where their code is.

A family has three modules. `snapshots` (torch-free) turns uploaded files into snapshots and derives new ones, `targets`
(torch-free) says which records a target is about; the HTTP process uses both. `runtime` (torch) loads, saves and trains;
only workers and notebooks import it.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from models.contracts import FamilyRuntime, FamilySnapshots, FamilyTargets
from models.errors import UnknownFamilyError


@dataclass(frozen=True)
class Family:
    """One family of models."""

    name: str
    title: str
    target_kinds: frozenset[str]
    """Kinds of target its models can be asked to forget (`unlearning.targets`)."""
    data_suffixes: frozenset[str]
    """File-name suffixes accepted as data."""
    checkpoint_suffixes: frozenset[str]
    """File-name suffixes accepted in a checkpoint."""
    snapshots_module: str
    targets_module: str
    runtime_module: str

    def snapshots(self) -> FamilySnapshots:
        """Import the torch-free data module."""
        return cast("FamilySnapshots", importlib.import_module(self.snapshots_module))

    def targets(self) -> FamilyTargets:
        """Import the torch-free module that maps targets onto records."""
        return cast("FamilyTargets", importlib.import_module(self.targets_module))

    def runtime(self) -> FamilyRuntime:
        """Import the torch module."""
        return cast("FamilyRuntime", importlib.import_module(self.runtime_module))


_CLASSIFIER = Family(
    name="classifier",
    title="Classifiers",
    target_kinds=frozenset({"records", "subjects", "classes"}),
    data_suffixes=frozenset({".npz", ".csv", ".jsonl", ".parquet"}),
    checkpoint_suffixes=frozenset({".json", ".safetensors"}),
    snapshots_module="models.classifier.snapshots",
    targets_module="models.record_targets",
    runtime_module="models.classifier.runtime",
)

_RECOMMENDER = Family(
    name="recommender",
    title="Recommenders",
    target_kinds=frozenset({"users", "items", "interactions", "subjects"}),
    data_suffixes=frozenset({".csv", ".inter", ".json", ".parquet", ".tsv", ".txt"}),
    checkpoint_suffixes=frozenset({".json", ".safetensors"}),
    snapshots_module="models.recommender.snapshots",
    targets_module="models.recommender.targets",
    runtime_module="models.recommender.runtime",
)

_GRAPH = Family(
    name="graph",
    title="Graph networks",
    target_kinds=frozenset({"nodes", "node_features", "edges", "node_classes", "edge_classes", "subjects"}),
    data_suffixes=frozenset({".npz", ".csv", ".json", ".jsonl", ".parquet", ".safetensors"}),
    checkpoint_suffixes=frozenset({".json", ".safetensors"}),
    snapshots_module="models.graph.snapshots",
    targets_module="models.graph.targets",
    runtime_module="models.graph.runtime",
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (_CLASSIFIER, _GRAPH, _RECOMMENDER)}
)


def get_family(name: str) -> Family:
    """Return the family called `name`.

    Raises:
        UnknownFamilyError: There is none; the message lists those there are.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        raise UnknownFamilyError(
            f"There is no model family {name!r}; installed families: {', '.join(sorted(FAMILIES))}."
        ) from None
