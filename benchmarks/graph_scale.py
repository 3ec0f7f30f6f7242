"""Does forgetting one edge of a large graph cost its neighbourhood, and not the graph?

Generated power-law graphs of 10⁴, 10⁵ and 10⁶ nodes with ten edges a node, a GCN of widths 128 and 64 for links, and edges
at the 10th, 50th and 90th percentile of the sum of their ends' degrees. What one request costs by `drop_edges` (all of
whose work is to refresh the outputs that change) and by `gnndelete` stands beside one full pass forwards and backwards
over the graph in the same run. The outputs refreshed request after request are compared with computing them anew. What an
audit computes at least, and writing the new version's files, are timed apart.

    python -m benchmarks.graph_scale [--json] [--quick]

The largest graph takes about 6 GB of memory and half a dozen minutes on one core.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.harness import PeakMemory, environment, print_table
from models.graph import runtime
from models.graph.adjacency import Adjacency, adjacency_along
from models.graph.configuration import GraphConfig
from models.graph.data import Elements
from models.graph.network import GraphModel, initialise
from models.graph.refresh import LayerCache
from models.graph.training import auc, edge_loss
from models.threads import one_thread
from unlearning.catalog.graph import GnnDeleteConfig
from unlearning.methods.graph.gnndelete import delete_locally

EDGES_PER_NODE = 10
EXPONENT = 2.5
"""Of the degrees' power law; those of citation and friendship graphs lie between 2 and 3."""
PERCENTILES = (10, 50, 90)
WIDTH = 64
"""Features per node, dense."""
BAR = 1 / 50
"""Share of a full pass that one request may take."""
AUDITED = 10_000
"""Edges, and as many pairs without, that the audit's part scores."""


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        nodes: One graph each.
        requests: Edges forgotten one after the other at each percentile and by each method.
        epochs: Of `gnndelete`, for each layer.
        passes: Full passes timed, after one that is not.
    """

    nodes: tuple[int, ...]
    requests: int
    epochs: int
    passes: int


FULL = Sizes(nodes=(10_000, 100_000, 1_000_000), requests=5, epochs=200, passes=2)
QUICK = Sizes(nodes=(1_000, 3_000), requests=2, epochs=20, passes=2)


@dataclass(frozen=True)
class Case:
    """One generated graph and its model.

    Attributes:
        edges: Shape (2, e), none twice, the smaller end first.
    """

    model: GraphModel
    features: Tensor
    edges: Tensor
    graph: Adjacency

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.features)

    @property
    def graph_mb(self) -> float:
        """Memory of the graph itself: features and both directions of every edge."""
        rows = self.graph.incoming
        return (
            sum(
                tensor.numel() * tensor.element_size()
                for tensor in (self.features, rows.offsets, rows.columns)
            )
            / 2**20
        )


def power_law_edges(nodes: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw distinct edges whose ends' degrees follow a power law (Chung and Lu 2002): shape (2, about `count`).

    The largest expected degree is kept below the root of twice the number of edges, beyond which pairs of hubs would be
    drawn more often than once.
    """
    slope = 1.0 / (EXPONENT - 1.0)
    ranks = torch.arange(nodes, dtype=torch.float64)
    first = 1.0
    while True:
        weights = (ranks + first).pow(-slope)
        if float(weights[0] / weights.sum()) * 2 * count <= (2 * count) ** 0.5:
            break
        first *= 1.5
    shares = weights.cumsum(0) / weights.sum()
    keys = torch.empty(0, dtype=torch.int64)
    while len(keys) < 0.99 * count:
        uniform = torch.rand(2, count - len(keys), generator=generator, dtype=torch.float64)
        ends = torch.searchsorted(shares, uniform).clamp_(max=nodes - 1).sort(dim=0).values
        ends = ends[:, ends[0] != ends[1]]
        keys = torch.cat([keys, ends[0] * nodes + ends[1]]).sort().values
        keys = keys[keys.diff(prepend=keys.new_full((1,), -1)) > 0]
    # Hubs would have the smallest numbers and lie side by side, which no real graph's do.
    names = torch.randperm(nodes, generator=generator)
    return torch.stack([names[keys // nodes], names[keys % nodes]]).sort(dim=0).values


def draw_case(nodes: int, *, seed: int = 0) -> Case:
    """Generate a graph, its features and a model; what the weights are makes no difference to the time."""
    generator = torch.Generator().manual_seed(seed)
    edges = power_law_edges(nodes, EDGES_PER_NODE * nodes, generator)
    features = torch.randn(nodes, WIDTH, generator=generator)
    config = GraphConfig(
        architecture="gcn",
        classes=(),
        width=WIDTH,
        nodes=nodes,
        edges=2 * edges.shape[1],
        seed=seed,
        recipe={"architecture": "gcn", "task": "link_prediction"},
    )
    graph = adjacency_along(torch.cat([edges, edges.flip(0)], dim=1), nodes, directed=False)
    return Case(initialise(config, generator), features, edges, graph)


def edges_at(case: Case, percentile: int, count: int) -> Tensor:
    """Return edges whose ends' degrees add up to about that percentile of all edges': shape (2, count)."""
    sums = case.graph.degrees(torch.arange(case.nodes))[case.edges].sum(dim=0)
    order = sums.argsort(stable=True)
    place = round((len(order) - 1) * percentile / 100)
    start = min(max(0, place - count // 2), len(order) - count)
    return case.edges[:, order[start : start + count]]


def measure(sizes: Sizes) -> dict[str, Any]:
    """Measure every graph, on one thread."""
    rows: list[dict[str, Any]] = []
    graphs: list[dict[str, Any]] = []
    with one_thread():
        for nodes in sizes.nodes:
            figures, of_requests = measure_graph(nodes, sizes)
            graphs.append(figures)
            rows.extend(of_requests)
    largest = [row for row in rows if row["nodes"] == sizes.nodes[-1]]
    return {
        "nodes": sizes.nodes[-1],
        "worst_share_of_pass": max(row["share_of_pass"] for row in largest),
        "worst_share_of_epoch": max(row["share_of_epoch"] for row in largest),
        "bar": BAR,
        "largest_relative_error": max(graph["relative_error"] for graph in graphs),
        "largest_relative_error_with_operators": max(
            graph["relative_error_with_operators"] for graph in graphs
        ),
        "graphs": graphs,
        "rows": rows,
    }


def measure_graph(nodes: int, sizes: Sizes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure one graph: its own figures, and one row for each percentile and method."""
    case = draw_case(nodes)
    passes, epoch = _full_passes(case, sizes.passes)
    keys = torch.randperm(nodes, generator=torch.Generator().manual_seed(1))
    growth = PeakMemory()
    started = time.perf_counter()
    cache = LayerCache(case.model, case.features, case.graph, keys)
    seconds = time.perf_counter() - started
    figures = {
        "nodes": nodes,
        "edges": case.edges.shape[1],
        "largest_degree": int(case.graph.degrees(torch.arange(nodes)).max()),
        "pass_s": passes,
        "epoch_s": epoch,
        "cache_s": seconds,
        "graph_mb": case.graph_mb,
        "cache_grown_mb": growth.grown_mb(),
    }
    # One request of each is for warming up, and the last one for its memory, which takes time to measure.
    chosen = {percentile: edges_at(case, percentile, 2 * (sizes.requests + 2)) for percentile in PERCENTILES}
    rows = _dropped(case, cache, chosen)
    figures["relative_error"] = _relative_error(cache, case.features, keys)
    rows += _with_operators(case, cache, keys, chosen, sizes.epochs)
    figures["relative_error_with_operators"] = _relative_error(cache, case.features, keys)
    for row in rows:
        row["share_of_pass"] = row["seconds"] / passes
        row["share_of_epoch"] = row["seconds"] / epoch
    figures["audit_s"] = _audit_seconds(case, cache, keys)
    figures["writing_s"] = _writing_seconds(case, cache)
    return figures, rows


def _full_passes(case: Case, count: int) -> tuple[float, float]:
    """Time full passes forwards and backwards, and those of an epoch of link prediction: the least seconds of each.

    The least, not the median: what else runs on the machine can only make a pass longer, and a longer pass would flatter
    the requests.
    """
    messages, trained = case.graph.messages(), case.model.trainable()
    drawn = torch.randint(case.nodes, case.edges.shape, generator=torch.Generator().manual_seed(2))

    def alone() -> None:
        trained.encode(case.features, messages).square().mean().backward()  # type: ignore[no-untyped-call]

    def with_links() -> None:
        edge_loss(trained, trained.encode(case.features, messages), case.edges, drawn).backward()  # type: ignore[no-untyped-call]

    return _least_seconds(alone, count), _least_seconds(with_links, count)


def _dropped(case: Case, cache: LayerCache, chosen: Mapping[int, Tensor]) -> list[dict[str, Any]]:
    """Forget every other chosen edge by `drop_edges`."""
    return [
        {"nodes": case.nodes, "percentile": percentile, "method": "drop_edges"}
        | _timed(case, cache, edges[:, ::2], lambda elements: cache.apply(cache.refreshed(elements)))
        for percentile, edges in chosen.items()
    ]


def _with_operators(
    case: Case, cache: LayerCache, keys: Tensor, chosen: Mapping[int, Tensor], epochs: int
) -> list[dict[str, Any]]:
    """Forget the other edges by `gnndelete`, whose operators grow more with every request."""
    generator = torch.Generator().manual_seed(3)
    config = GnnDeleteConfig(epochs=epochs, scope="local")

    def forget(elements: Elements) -> None:
        delete_locally(cache, keys, elements, config, generator=generator, progress=_silent)

    return [
        {"nodes": case.nodes, "percentile": percentile, "method": "gnndelete"}
        | _timed(case, cache, edges[:, 1::2], forget)
        for percentile, edges in chosen.items()
    ]


def _timed(
    case: Case, cache: LayerCache, edges: Tensor, forget: Callable[[Elements], None]
) -> dict[str, Any]:
    nothing = torch.empty(0, dtype=torch.int64)
    first, *timed, last = (Elements(nothing, edge[:, None], nothing.reshape(0, 2)) for edge in edges.T)
    forget(first)
    seconds: list[float] = []
    for elements in timed:
        started = time.perf_counter()
        forget(elements)
        seconds.append(time.perf_counter() - started)
    ends = last.edges[:, 0]
    reached = cache.adjacency.reached(ends, case.model.layers)[-1]
    computed = cache.refreshed(last).computed
    growth = PeakMemory()
    forget(last)
    return {
        "degrees": case.graph.degrees(ends).tolist(),
        "nodes_within_2_hops": len(reached),
        "rows_computed": computed,
        "seconds": statistics.median(seconds),
        "slowest_s": max(seconds),
        "grown_mb": growth.grown_mb(),
    }


def _relative_error(cache: LayerCache, features: Tensor, keys: Tensor) -> float:
    """Return the largest difference from computing all embeddings anew, relative to the largest embedding."""
    with torch.no_grad():
        anew = cache.model.encode(features, cache.adjacency.messages(), keys)
        return float((cache.embeddings() - anew).abs().max() / anew.abs().max())


def _audit_seconds(case: Case, cache: LayerCache, keys: Tensor) -> float:
    """Time what every audit does at least: parent and new model embed the graph anew and score edges against pairs."""
    started = time.perf_counter()
    with torch.no_grad():
        messages = cache.adjacency.messages()
        generator = torch.Generator().manual_seed(4)
        edges = case.edges[:, torch.randint(case.edges.shape[1], (AUDITED,), generator=generator)]
        pairs = torch.randint(case.nodes, (2, AUDITED), generator=generator)
        for model in (case.model, cache.model):
            embeddings = model.encode(case.features, messages, keys)
            auc(model.edge_logits(embeddings, edges), model.edge_logits(embeddings, pairs))
    return time.perf_counter() - started


def _writing_seconds(case: Case, cache: LayerCache) -> float:
    """Time writing the new version's checkpoint and its graph's arrays, digests included for the checkpoint."""
    rows = cache.adjacency.incoming.all()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "checkpoint"
        directory.mkdir()
        started = time.perf_counter()
        runtime.save_model(cache.model, directory)
        arrays = {"features": case.features, "offsets": rows.offsets, "columns": rows.columns}
        save_file(arrays, Path(scratch) / "graph.safetensors")
        return time.perf_counter() - started


def _least_seconds(task: Callable[[], None], count: int) -> float:
    task()
    seconds: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _silent(*_: object) -> None:
    """Take no notice of progress."""


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table, one row for each graph, method and percentile."""
    table = Table(
        "nodes",
        "method",
        "percentile",
        "degrees",
        "nodes within 2 hops",
        "ms",
        "of a pass",
        "of an epoch",
        "MiB",
    )
    for row in rows:
        grown = row["grown_mb"]
        table.add_row(
            f"{row['nodes']:,}",
            row["method"],
            str(row["percentile"]),
            " + ".join(map(str, row["degrees"])),
            f"{row['nodes_within_2_hops']:,}",
            f"{1e3 * row['seconds']:.1f}",
            f"1/{1 / row['share_of_pass']:.0f}",
            f"1/{1 / row['share_of_epoch']:.0f}",
            "" if grown is None else f"{grown:.0f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small graphs, to see that it runs")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
        return
    graphs, rows = figures.pop("graphs"), figures.pop("rows")
    print_table(figures, "Forgetting one edge of a large graph")
    for graph in graphs:
        print_table(graph, f"{graph['nodes']:,} nodes")
    print_rows(rows)


if __name__ == "__main__":
    main()
