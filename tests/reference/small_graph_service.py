"""A graph and a network trained on it as files to upload: two communities, or a part of Cora where it is at hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.families import get_family
from tests.reference.graph_files import PlainGraph

RECIPE = {
    "architecture": "gcn",
    "task": "node_classification",
    "hidden": [16, 8],
    "epochs": 60,
    "patience": 20,
}


@dataclass(frozen=True)
class GraphFiles:
    """What a client uploads."""

    data: dict[str, bytes]
    checkpoint: dict[str, bytes]


def two_communities(nodes: int = 240, seed: int = 0) -> PlainGraph:
    """Draw two groups with a class each, friends mostly within; a tenth of nodes and edges is held out.

    Node `pN` is of the subject `sM` with M = N // 2. Within a group every node follows the next two.
    """
    rng = np.random.default_rng(seed)
    graph = PlainGraph()
    for number in range(nodes):
        group = number % 2
        features = rng.normal(size=4)
        features[0] += 2.0 * group
        graph.node(
            f"p{number}",
            [float(np.float32(value)) for value in features],
            ("cat", "dog")[group],
            f"s{number // 2}",
            "holdout" if number % 5 == 4 else "train",
        )
    for number in range(nodes):
        for step in (2, 4):
            if number + step < nodes:
                split = "holdout" if (number * 7 + step) % 10 == 0 else "train"
                graph.edge(f"p{number}", f"p{number + step}", ("friend", "family")[step == 4], split)
    for number in range(0, nodes - 1, 8):
        graph.edge(f"p{number}", f"p{number + 1}", "friend", "train")
    return graph


def files_of(graph: PlainGraph, directory: Path, recipe: dict[str, Any] = RECIPE) -> GraphFiles:
    """Write a graph and train a network on it."""
    return trained(graph.write(directory / "data"), directory, recipe)


def trained(paths: list[Path], directory: Path, recipe: dict[str, Any] = RECIPE) -> GraphFiles:
    """Train a network on data files."""
    family, runtime = get_family("graph"), get_family("graph").runtime()
    snapshot, checkpoint = directory / "snapshot", directory / "checkpoint"
    snapshot.mkdir(parents=True)
    checkpoint.mkdir()
    family.snapshots().ingest(paths, snapshot, data_schema=None)
    model = runtime.train(runtime.load_data(snapshot), recipe, seed=0, progress=lambda *_: None)
    runtime.save_model(model, checkpoint)
    return GraphFiles(
        {path.name: path.read_bytes() for path in paths},
        {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.name != "manifest.json"},
    )
