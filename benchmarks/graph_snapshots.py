"""What does it cost to take in a graph of up to 1 million nodes and 10 million edges, and to write it without one edge?

For each size: seconds by the clock and of the processor to make a snapshot of uploaded files (one npz file, dense features
of width 16), to load it, and to derive the next snapshot when one edge is forgotten; bytes of graph and of index. *Naming*
is what a method waits for: finding the edge by its record id in memory. Peak memory is the process's own, so each size has
that of the smaller ones beneath it. Edges are drawn with one end preferring low numbers, so that some nodes are hubs.

    python -m benchmarks.graph_snapshots [--json] [--quick]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.harness import environment, peak_memory_mb, print_table
from models.graph.data import load_data
from models.graph.elements import edge_record
from models.graph.snapshots import ingest, without
from models.id_index import INDEX_NAME

SEED = 0
EDGES_PER_NODE = 10
WIDTH = 16
CLASSES = 7
FULL = (10_000, 100_000, 1_000_000)
QUICK = (300, 1_000)

T = TypeVar("T")


def draw_edges(nodes: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw distinct undirected edges, (2, `EDGES_PER_NODE` · nodes), the earlier node first."""
    wanted, keys = EDGES_PER_NODE * nodes, np.empty(0, np.int64)
    while len(keys) < wanted:
        one = (nodes * rng.random(wanted) ** 2).astype(np.int64)
        other = rng.integers(0, nodes, wanted)
        first, second = np.minimum(one, other), np.maximum(one, other)
        keys = np.union1d(keys, (first * nodes + second)[first != second])
    keys = rng.permutation(keys)[:wanted]
    return np.stack([keys // nodes, keys % nodes])


def write_graph(path: Path, nodes: int) -> None:
    """Write a random graph as one data file."""
    rng = np.random.default_rng(SEED)
    np.savez(
        path,
        ids=np.array([f"user-{number}" for number in range(nodes)]),
        labels=np.char.mod("%d", np.arange(nodes) % CLASSES),
        edge_index=draw_edges(nodes, rng),
        features=rng.random((nodes, WIDTH), dtype=np.float32),
    )


def timed(figures: dict[str, Any], name: str, work: Callable[[], T]) -> T:
    """Do some work and note its seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    figures[f"{name}_s"] = time.perf_counter() - clock
    figures[f"{name}_cpu_s"] = time.process_time() - processor
    return result


def measure_size(nodes: int, directory: Path) -> dict[str, Any]:
    """Measure one size."""
    source, base, left = directory / f"{nodes}.npz", directory / f"{nodes}", directory / f"{nodes}-left"
    base.mkdir()
    left.mkdir()
    write_graph(source, nodes)
    figures: dict[str, Any] = {"nodes": nodes}
    summary = timed(figures, "ingest", lambda: ingest([source], base, data_schema=None))
    figures["records"] = summary.records
    name = load_and_name(base, figures)
    assert timed(figures, "without", lambda: without(base, [name], left)).records == summary.records - 1
    figures["graph_mb"] = (base / "graph.safetensors").stat().st_size / (1 << 20)
    figures["index_mb"] = (base / INDEX_NAME).stat().st_size / (1 << 20)
    figures["peak_mb"] = peak_memory_mb()
    return figures


def load_and_name(base: Path, figures: dict[str, Any]) -> str:
    """Load a snapshot, find the edge in its middle by its record id, and return that."""
    data = timed(figures, "load", lambda: load_data(base))
    ends = [data.node_ids[end] for end in data.edges[:, len(data.relations) // 2].tolist()]
    name = edge_record(*ends, directed=False)
    found = timed(figures, "naming", lambda: data.elements([name]))
    assert found.edges.shape == (2, 1)
    return name


def measure(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Measure all sizes, the smallest first."""
    with tempfile.TemporaryDirectory(prefix="expunge-graph-snapshots-") as directory:
        return [measure_size(nodes, Path(directory)) for nodes in sizes]


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    rows = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({"rows": rows, "seed": SEED, "environment": environment()}))
        return
    for row in rows:
        print_table(row, "Snapshots of a graph")


if __name__ == "__main__":
    main()
