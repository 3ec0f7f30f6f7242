"""Graphs as files, and the slow, obvious store that snapshots are compared with."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Pair = tuple[str, str]


@dataclass
class PlainGraph:
    """A graph as dictionaries: what a snapshot must hold, whatever was done to it."""

    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Id -> label, subject and split; an empty string where there is none."""
    edges: dict[Pair, dict[str, str]] = field(default_factory=dict)
    """Ends, the earlier node first -> relation and split."""
    features: dict[str, list[float]] = field(default_factory=dict)
    directed: bool = False

    def node(
        self, name: str, features: Sequence[float], label: str = "", subject: str = "", split: str = ""
    ) -> None:
        """Add a node."""
        self.nodes[name] = {"label": label, "subject": subject, "split": split}
        self.features[name] = list(features)

    def edge(self, source: str, target: str, relation: str = "", split: str = "") -> None:
        """Add an edge between nodes that are there."""
        order = list(self.nodes)
        ends = (source, target)
        if not self.directed and order.index(source) > order.index(target):
            ends = (target, source)
        self.edges[ends] = {"relation": relation, "split": split}

    def drop_nodes(self, names: Iterable[str]) -> None:
        """Delete nodes and every edge at one of them."""
        for name in names:
            self.nodes.pop(name)
            self.features.pop(name)
        self.edges = {
            ends: about
            for ends, about in self.edges.items()
            if ends[0] in self.nodes and ends[1] in self.nodes
        }

    def drop_edges(self, pairs: Iterable[Pair]) -> None:
        """Delete edges."""
        for pair in pairs:
            self.edges.pop(pair)

    def write(self, directory: Path) -> list[Path]:
        """Write a table of nodes, a list of edges and features in the nodes' order."""
        directory.mkdir(exist_ok=True)
        has_relations = any(about["relation"] for about in self.edges.values())
        columns = ["source", "target", *(["relation"] if has_relations else []), "split"]
        paths = [
            write_csv(
                directory / "nodes.csv",
                ["id", "label", "subject", "split"],
                [[name, *about.values()] for name, about in self.nodes.items()],
            ),
            write_csv(
                directory / "edges.csv",
                columns,
                [
                    [*ends, *([about["relation"]] if has_relations else []), about["split"]]
                    for ends, about in self.edges.items()
                ],
            ),
            directory / "features.npz",
        ]
        np.savez(paths[2], features=np.array(list(self.features.values()), np.float32))
        if self.directed:
            paths.append(directory / "options.json")
            paths[-1].write_text(json.dumps({"directed": True}))
        return paths


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write lines of JSON."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def small_graph(*, directed: bool = False) -> PlainGraph:
    """Six papers with strange ids, three authors, six citations; one paper and one citation are held out."""
    graph = PlainGraph(directed=directed)
    graph.node("1", [1.0, 0.0, 2.0], "math", "ann")
    graph.node("01", [0.0, 3.0, 0.0], "math", "bob")
    graph.node("node:x", [0.0, 0.0, 4.0], "art", "ann")
    graph.node('a "b", c', [5.0, 0.0, 0.0], "art", "")
    graph.node("é", [0.0, 6.0, 7.0], "", "cy", "holdout")
    graph.node("10", [8.0, 0.0, 0.0], "art", "cy", "train")
    graph.edge("1", "01", "cites")
    graph.edge("01", "node:x", "cites")
    graph.edge("node:x", 'a "b", c', "likes")
    graph.edge('a "b", c', "é", "likes")
    graph.edge("1", "10", "cites", "holdout")
    graph.edge("é", "10", "cites")
    return graph
