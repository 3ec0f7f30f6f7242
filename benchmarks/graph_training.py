"""How good are graph networks trained by the default recipes, and what does an epoch cost beside plain PyTorch Geometric?

GCN, GAT, GIN and GraphSAGE on Cora, CiteSeer and DBLP, for links (a tenth of the edges held out, test AUC against pairs
without an edge) and for classes of nodes (a fifth held out, test accuracy). Half of what is held out picks the best epoch,
the other half is the test. Beside the milliseconds of our epoch stand those of the same network written with PyTorch
Geometric's layers on dense features, its own negative sampling, and a forward pass on the validation half, as here.

    python -m benchmarks.graph_training [--json] [--quick] [--data FOLDER]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional
from torch_geometric.utils import negative_sampling

from benchmarks.graph_unlearning import DATA_FOLDER, LINKS, NODES, load_graph
from benchmarks.harness import environment, interleaved_medians
from models.graph import architectures
from models.graph.configuration import ARCHITECTURES
from models.graph.data import GraphData
from models.graph.negatives import NegativeSampler
from models.graph.network import GraphModel
from models.graph.training import auc, full_batch_epochs
from models.threads import one_thread


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        graphs: Names of files, or `made`.
        seeds: Of weights and of splits.
        epochs: At most, where not the recipe's own number.
        repeats: Turns of timed epochs.
    """

    graphs: tuple[str, ...]
    seeds: int
    epochs: int | None
    repeats: int


FULL = Sizes(graphs=("cora", "citeseer", "dblp"), seeds=3, epochs=None, repeats=5)
QUICK = Sizes(graphs=("made",), seeds=1, epochs=8, repeats=1)


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Measure every network on every graph, on one thread."""
    with one_thread():
        return {
            "rows": [
                measure_case(name, task, architecture, sizes, folder)
                for name in sizes.graphs
                for task in (LINKS, NODES)
                for architecture in ARCHITECTURES
            ]
        }


def measure_case(name: str, task: str, architecture: str, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Train from every seed, and time epochs."""
    recipe: dict[str, Any] = {"architecture": architecture, "task": task}
    if sizes.epochs is not None:
        recipe |= {"epochs": sizes.epochs}
    scores, epochs, seconds = [], [], []
    for seed in range(sizes.seeds):
        data, seen = load_graph(name, task, folder, seed), _Validation()
        started = time.perf_counter()
        model = architectures.train(data, recipe, seed=seed, progress=seen)
        seconds.append(time.perf_counter() - started)
        scores.append(test_score(model, data))
        epochs.append(1 + seen.scores.index(max(seen.scores)))
    times = interleaved_medians(
        {"ours": our_epoch(model, data), "plain": plain_epoch(model, data)}, sizes.repeats
    )
    return {
        "data": name,
        "task": task,
        "architecture": architecture,
        "test_score": statistics.mean(scores),
        "test_score_range": [min(scores), max(scores)],
        "best_epoch": statistics.mean(epochs),
        "training_s": statistics.mean(seconds),
        "epoch_ms": 1e3 * times["ours"],
        "plain_epoch_ms": 1e3 * times["plain"],
        "speedup": times["plain"] / times["ours"],
    }


class _Validation:
    """Keeps the score of each epoch."""

    def __init__(self) -> None:
        self.scores: list[float] = []

    def __call__(self, *step: Any) -> None:
        self.scores.append(step[3]["validation score"])


def test_score(model: GraphModel, data: GraphData) -> float:
    """Return the AUC of test edges against as many pairs without an edge, or the accuracy on test nodes."""
    embeddings = model.embeddings(data)
    if model.task == NODES:
        nodes = data.audit_nodes()
        predicted = model.node_logits(embeddings[nodes]).argmax(dim=1)
        return float((predicted == data.labels[nodes]).double().mean())
    edges = data.audit_edges()
    sampler = NegativeSampler(data.edges, data.nodes, directed=False)
    pairs = sampler.sample(edges.shape[1], torch.Generator().manual_seed(0))
    return auc(model.edge_logits(embeddings, edges), model.edge_logits(embeddings, pairs))


def our_epoch(model: GraphModel, data: GraphData) -> Callable[[], object]:
    """Return a function that trains for one epoch more."""
    recipe = model.config.recipe.model_copy(update={"epochs": 1_000_000})
    epochs = full_batch_epochs(model, data, recipe, generator=torch.Generator().manual_seed(0))
    return lambda: next(epochs)


def plain_epoch(model: GraphModel, data: GraphData) -> Callable[[], object]:
    """Return a function that trains the same network for one epoch, layer by layer as PyTorch Geometric has them."""
    trained, recipe = model.trainable(), model.config.recipe
    optimizer = torch.optim.Adam(
        trained.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    messages, known = data.message_edges(), data.training_edges()
    labels, nodes = data.labels, data.training_nodes()

    def embed(share: float) -> torch.Tensor:
        hidden = data.features
        for layer, conv in enumerate(trained.convs):
            hidden = conv(functional.dropout(hidden, share), messages)
            hidden = hidden.relu() if layer + 1 < trained.layers else hidden
        return hidden

    def epoch() -> None:
        hidden = embed(recipe.dropout)
        if isinstance(trained.head, nn.Linear):
            loss = functional.cross_entropy(trained.head(hidden[nodes]), labels[nodes])
        else:
            apart = negative_sampling(messages, data.nodes, known.shape[1])
            scores = [(hidden[one] * hidden[other]).sum(dim=1) for one, other in (known, apart)]
            wanted = torch.cat([torch.ones_like(scores[0]), torch.zeros_like(scores[1])])
            loss = functional.binary_cross_entropy_with_logits(torch.cat(scores), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            embed(0.0)

    return epoch


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table, one row for each network."""
    table = Table("data", "task", "network", "test", "best epoch", "seconds", "ms/epoch", "plain", "speed-up")
    for row in rows:
        table.add_row(
            row["data"],
            row["task"],
            row["architecture"],
            f"{row['test_score']:.3f}",
            f"{row['best_epoch']:.0f}",
            f"{row['training_s']:.1f}",
            f"{row['epoch_ms']:.1f}",
            f"{row['plain_epoch_ms']:.1f}",
            f"{row['speedup']:.1f}",
        )
    Console().print(table)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="a small graph that is drawn, to see that it runs"
    )
    parser.add_argument("--data", type=Path, default=DATA_FOLDER, help="where the graphs are")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL, arguments.data)
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
        return
    print_rows(figures["rows"])


if __name__ == "__main__":
    main()
