"""A graph's nodes and edges in memory."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.graph.elements import edge_records, feature_record, node_record, parse_records
from models.graph.records import HOLDOUT, UNLABELLED, SparseRows, read_graph
from models.holdout import in_audit_half

_ELSEWHERE = -2


@dataclass(frozen=True)
class Elements:
    """What a forget set names, by position in one graph. Edges that go with a named node are not listed."""

    nodes: Tensor
    """(k,) positions of nodes, ascending."""
    edges: Tensor
    """(2, m) the ends of edges, in the order and direction in which the graph holds them."""
    features: Tensor
    """(j, 2) node positions and feature columns."""


@dataclass(frozen=True)
class GraphData:
    """One graph, training and held out. Never changed in place: selections are new objects.

    Held-out nodes stay in the graph with their features and edges; only their labels are hidden from training. Held-out
    edges carry no messages and are no training examples.

    Attributes:
        node_ids: The nodes' ids, distinct.
        features: Shape (n, width), float32.
        feature_names: One per column, distinct.
        labels: Shape (n,), int64 indices into `classes`; -1 for a node without a label.
        classes: The names of the nodes' classes.
        held_out_nodes: Shape (n,), bool.
        edges: Shape (2, e), int64 node positions, no edge twice and none from a node to itself. Of an undirected
            edge the smaller position comes first.
        held_out_edges: Shape (e,), bool.
        relations: Shape (e,), int64 indices into `edge_classes`; all 0 where there are none.
        edge_classes: The names of the edges' classes.
        directed: Whether an edge has a direction.
        removed_features: Node ids and feature names that `without` has removed: their values are 0, as if never given.
    """

    node_ids: tuple[str, ...]
    features: Tensor
    feature_names: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    held_out_nodes: Tensor
    edges: Tensor
    held_out_edges: Tensor
    relations: Tensor
    edge_classes: tuple[str, ...]
    directed: bool
    removed_features: frozenset[tuple[str, str]] = frozenset()

    def __len__(self) -> int:
        """Return how many records there are: nodes and edges."""
        return self.nodes + self.edges.shape[1]

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.node_ids)

    @property
    def width(self) -> int:
        """Features per node."""
        return self.features.shape[1]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The record id of every node, then of every edge. Long for a large graph: prefer positions there."""
        return (*map(node_record, self.node_ids), *self._edge_records(range(self.edges.shape[1])))

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each record id in `ids`."""
        return {record_id: position for position, record_id in enumerate(self.ids)}

    @cached_property
    def node_positions(self) -> dict[str, int]:
        """Position of each node id."""
        return {node: position for position, node in enumerate(self.node_ids)}

    @cached_property
    def feature_positions(self) -> dict[str, int]:
        """Column of each feature name."""
        return {name: column for column, name in enumerate(self.feature_names)}

    def missing(self, record_ids: Iterable[str]) -> list[str]:
        """Return those record ids that are not here. A feature is missing once it has been removed."""
        asked = list(record_ids)
        named = parse_records(asked, directed=self.directed)
        known = {node_record(node) for node in named.nodes if node in self.node_positions}
        rows = self._edge_mask(named.edges).nonzero().flatten().tolist()
        known.update(self._edge_records(rows))
        for node, feature in named.features:
            if self._has_feature(node, feature):
                known.add(feature_record(node, feature))
        return [record_id for record_id in asked if record_id not in known]

    def without(self, record_ids: Iterable[str]) -> "GraphData":
        """Return the graph less these records; ids not here are ignored.

        A deleted node takes its edges along, a deleted feature becomes 0. The other nodes and edges keep their order.
        """
        named = parse_records(record_ids, directed=self.directed)
        gone = torch.zeros(self.nodes, dtype=torch.bool)
        gone[self._node_places(named.nodes)] = True
        cleared = self._less_features(named.features)
        kept = cleared._select(~gone, ~self._edge_mask(named.edges))  # noqa: SLF001 - of this class
        if not kept.removed_features or not gone.any():
            return kept
        still = frozenset(pair for pair in kept.removed_features if pair[0] in kept.node_positions)
        return dataclasses.replace(kept, removed_features=still)

    def only(self, record_ids: Iterable[str]) -> "GraphData":
        """Return the graph of these nodes and, of these edges, those both of whose ends are among the nodes."""
        named = parse_records(record_ids, directed=self.directed)
        kept = torch.zeros(self.nodes, dtype=torch.bool)
        kept[self._node_places(named.nodes)] = True
        return self._select(kept, self._edge_mask(named.edges))

    def elements(self, record_ids: Iterable[str]) -> Elements:
        """Find what record ids name; ids not here are ignored."""
        named = parse_records(record_ids, directed=self.directed)
        features = [
            [self.node_positions[node], self.feature_positions[feature]]
            for node, feature in named.features
            if self._has_feature(node, feature)
        ]
        return Elements(
            nodes=self._node_places(set(named.nodes)).sort().values,
            edges=self.edges[:, self._edge_mask(named.edges)],
            features=torch.tensor(features, dtype=torch.int64).reshape(-1, 2),
        )

    def incident_edges(self, nodes: Tensor) -> Tensor:
        """Tell which edges begin or end at one of these node positions, shape (e,)."""
        marked = torch.zeros(self.nodes, dtype=torch.bool)
        marked[nodes] = True
        return marked[self.edges].any(dim=0)

    def message_edges(self) -> Tensor:
        """Return the edges that messages pass along, (2, m): those of training, both ways if undirected."""
        edges = self.training_edges()
        return edges if self.directed else torch.cat([edges, edges.flip(0)], dim=1)

    def training_edges(self) -> Tensor:
        """Return the edges that models learn, (2, k)."""
        return self.edges[:, ~self.held_out_edges]

    def calibration_edges(self) -> Tensor:
        """Return the held-out edges that methods may use as target and stopping rule, (2, k)."""
        return self.edges[:, self.held_out_edges & ~self._audited_edges]

    def audit_edges(self) -> Tensor:
        """Return the held-out edges that no method ever receives, (2, k)."""
        return self.edges[:, self.held_out_edges & self._audited_edges]

    def training_nodes(self) -> Tensor:
        """Return the positions of the nodes whose labels models learn, (k,)."""
        return self._labelled(~self.held_out_nodes)

    def calibration_nodes(self) -> Tensor:
        """Return the positions of the held-out nodes whose labels methods may use, (k,)."""
        return self._labelled(self.held_out_nodes & ~self._audited_nodes)

    def audit_nodes(self) -> Tensor:
        """Return the positions of the held-out nodes whose labels no method ever receives, (k,)."""
        return self._labelled(self.held_out_nodes & self._audited_nodes)

    def training(self) -> "GraphData":
        """Return what training learns: all nodes, without the labels of those held out, and the training edges."""
        return self._visible(~self.held_out_nodes, ~self.held_out_edges)

    def calibration(self) -> "GraphData":
        """Return all nodes with the labels and the edges of the calibration half alone."""
        return self._visible(
            self.held_out_nodes & ~self._audited_nodes, self.held_out_edges & ~self._audited_edges
        )

    def audit(self) -> "GraphData":
        """Return all nodes with the labels and the edges of the audit half alone."""
        return self._visible(
            self.held_out_nodes & self._audited_nodes, self.held_out_edges & self._audited_edges
        )

    def for_methods(self) -> "GraphData":
        """Return everything but the labels and the edges of the audit half."""
        return self._visible(
            ~(self.held_out_nodes & self._audited_nodes), ~(self.held_out_edges & self._audited_edges)
        )

    def training_digest(self) -> str:
        """Return the SHA-256 of everything that training depends on, in its order: all but the audit half.

        The calibration half counts, because training picks its best epoch by it.
        """
        known = self.for_methods()
        described = [
            known.node_ids,
            known.feature_names,
            known.classes,
            known.edge_classes,
            known.directed,
            list(known.features.shape),
        ]
        digest = hashlib.sha256(json.dumps(described).encode())
        for tensor in (
            known.features,
            known.labels,
            known.held_out_nodes,
            known.edges,
            known.held_out_edges,
            known.relations,
        ):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def changes_to(self, target: "GraphData") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Compare what training learns here and in `target`.

        Returns:
            The ids of records of this graph to unlearn, and of records of `target` to learn. A node whose features or
            label differ, or an edge whose class does, is in both. They are ids, not graphs, because an edge can
            change while its ends do not.
        """
        mine, theirs = self.training(), target.training()
        return mine.unlike(theirs), theirs.unlike(mine)

    def unlike(self, other: "GraphData") -> tuple[str, ...]:
        """Return the ids of those records that `other` lacks or holds with other features, label or class."""
        there = torch.tensor(
            [other.node_positions.get(node, -1) for node in self.node_ids], dtype=torch.int64
        )
        nodes, edges = ~self._same_nodes(other, there), ~self._same_edges(other, there)
        return (
            *(node_record(self.node_ids[place]) for place in nodes.nonzero().flatten().tolist()),
            *self._edge_records(edges.nonzero().flatten().tolist()),
        )

    def labels_among(self, classes: Sequence[str]) -> Tensor:
        """Return the nodes' labels as indices into `classes`, a model's, shape (n,); -1 stays -1.

        Raises:
            ValueError: A node's class is not among them.
        """
        labels = _translated(self.classes, classes)[self.labels]
        if (labels == _ELSEWHERE).any():
            strange = sorted({self.classes[label] for label in self.labels[labels == _ELSEWHERE].tolist()})
            raise ValueError(f"the model does not know these classes: {', '.join(strange[:20])}")
        return labels

    @cached_property
    def edge_keys(self) -> Tensor:
        """One number per edge, (e,), the same for the same ends."""
        return self.edges[0] * self.nodes + self.edges[1]

    @cached_property
    def _audited_nodes(self) -> Tensor:
        """True for held-out nodes of the audit half, (n,)."""
        rows = self.held_out_nodes.nonzero().flatten()
        halves = [in_audit_half(node_record(self.node_ids[row])) for row in rows.tolist()]
        return _scattered(self.nodes, rows, halves)

    @cached_property
    def _audited_edges(self) -> Tensor:
        """True for held-out edges of the audit half, (e,)."""
        rows = self.held_out_edges.nonzero().flatten()
        halves = [in_audit_half(record_id) for record_id in self._edge_records(rows.tolist())]
        return _scattered(self.edges.shape[1], rows, halves)

    def _edge_records(self, rows: Iterable[int]) -> list[str]:
        sources, targets = self.edges[:, torch.tensor(list(rows), dtype=torch.int64)].tolist()
        return edge_records(self.node_ids, sources, targets, directed=self.directed)

    def _has_feature(self, node: str, feature: str) -> bool:
        return (
            node in self.node_positions
            and feature in self.feature_positions
            and (node, feature) not in self.removed_features
        )

    def _node_places(self, nodes: Iterable[str]) -> Tensor:
        places = [self.node_positions[node] for node in nodes if node in self.node_positions]
        return torch.tensor(places, dtype=torch.int64)

    def _edge_mask(self, pairs: Iterable[tuple[str, str]]) -> Tensor:
        """Tell which edges are among these pairs of node ids, (e,)."""
        place = self.node_positions
        known = [
            (place[source], place[target]) for source, target in pairs if source in place and target in place
        ]
        ends = torch.tensor(known, dtype=torch.int64).reshape(-1, 2)
        if not self.directed:
            ends = ends.sort(dim=1).values
        # A few edges are compared one by one, many are sorted: either way it takes one look at the graph's edges.
        return torch.isin(self.edge_keys, ends[:, 0] * self.nodes + ends[:, 1])

    def _labelled(self, mask: Tensor) -> Tensor:
        return (mask & (self.labels != UNLABELLED)).nonzero().flatten()

    def _visible(self, labelled: Tensor, kept_edges: Tensor) -> "GraphData":
        """Return all nodes, only these with their labels, and only these edges."""
        return dataclasses.replace(
            self,
            labels=self.labels.where(labelled, UNLABELLED),
            edges=self.edges[:, kept_edges],
            held_out_edges=self.held_out_edges[kept_edges],
            relations=self.relations[kept_edges],
        )

    def _select(self, nodes: Tensor, edges: Tensor) -> "GraphData":
        """Return these nodes and, of these edges, those between them; both masks."""
        if nodes.all():
            return dataclasses.replace(
                self,
                edges=self.edges[:, edges],
                held_out_edges=self.held_out_edges[edges],
                relations=self.relations[edges],
            )
        edges = edges & nodes[self.edges].all(dim=0)
        # Counting the kept nodes before each keeps their order, and with it the smaller end first.
        place = nodes.cumsum(0) - 1
        return dataclasses.replace(
            self,
            node_ids=tuple(compress(self.node_ids, nodes.tolist())),
            features=self.features[nodes],
            labels=self.labels[nodes],
            held_out_nodes=self.held_out_nodes[nodes],
            edges=place[self.edges[:, edges]],
            held_out_edges=self.held_out_edges[edges],
            relations=self.relations[edges],
        )

    def _same_nodes(self, other: "GraphData", there: Tensor) -> Tensor:
        """Tell which nodes `other` holds alike, (n,); `there` has each node's position in it, or -1."""
        same = there >= 0
        if self.feature_names != other.feature_names:
            return torch.zeros_like(same)
        here, place = same.nonzero().flatten(), there[same]
        labels = _translated(other.classes, self.classes)[other.labels[place]]
        same[here] = (self.features[here] == other.features[place]).all(dim=1) & (self.labels[here] == labels)
        return same

    def _same_edges(self, other: "GraphData", there: Tensor) -> Tensor:
        """Tell which edges `other` holds alike, (e,)."""
        ends = there[self.edges] if self.directed else there[self.edges].sort(dim=0).values
        here = (ends >= 0).all(dim=0) & (self.directed == other.directed)
        keys, order = other.edge_keys.sort()
        wanted = ends[0] * other.nodes + ends[1]
        here &= torch.isin(wanted, keys)
        place = order[torch.searchsorted(keys, wanted[here])]
        relations = _translated(other.edge_classes, self.edge_classes)[other.relations[place]]
        here[here.clone()] = self.relations[here] == relations
        return here

    def _less_features(self, pairs: Iterable[tuple[str, str]]) -> "GraphData":
        found = [pair for pair in pairs if self._has_feature(*pair)]
        if not found:
            return self
        features = self.features.clone()
        rows = torch.tensor([self.node_positions[node] for node, _ in found])
        columns = torch.tensor([self.feature_positions[feature] for _, feature in found])
        features[rows, columns] = 0.0
        return dataclasses.replace(
            self, features=features, removed_features=self.removed_features.union(found)
        )


def load_data(directory: Path) -> GraphData:
    """Load a snapshot directory.

    Raises:
        DatasetError: It is not a snapshot of a graph.
    """
    graph, schema = read_graph(directory)
    features = graph.features.dense() if isinstance(graph.features, SparseRows) else np.array(graph.features)
    return GraphData(
        node_ids=tuple(graph.node_ids),
        features=torch.from_numpy(features),
        feature_names=schema.names.all(),
        labels=torch.from_numpy(graph.labels),
        classes=schema.node_classes,
        held_out_nodes=torch.from_numpy(graph.node_split == HOLDOUT),
        edges=torch.from_numpy(graph.edges),
        held_out_edges=torch.from_numpy(graph.edge_split == HOLDOUT),
        relations=torch.from_numpy(graph.relations),
        edge_classes=schema.edge_classes,
        directed=schema.directed,
    )


def _scattered(length: int, rows: Tensor, values: Sequence[bool]) -> Tensor:
    mask = torch.zeros(length, dtype=torch.bool)
    mask[rows] = torch.tensor(values, dtype=torch.bool)
    return mask


def _translated(names: Sequence[str], into: Sequence[str]) -> Tensor:
    """Return for each index into `names` that into `into`, or -2; the last entry, where -1 points to, is -1."""
    known = {name: index for index, name in enumerate(into)}
    return torch.tensor([*(known.get(name, _ELSEWHERE) for name in names), UNLABELLED])
