"""Who sends messages to whom: compressed rows that are walked, and thinned out, at the cost of what is touched.

`torch_geometric.utils.k_hop_subgraph` looks at every edge of the graph in every hop. Here a hop looks at the rows of its
frontier alone, and taking edges out writes new rows for their ends alone.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from models.graph.data import Elements, GraphData
from models.graph.sparse import SparseMatrix, from_pairs, linked, offsets_of

REBUILD_SHARE = 0.02
"""Share of rows that were thinned out one by one beyond which the rows are written anew, which takes a look at each."""


@dataclass(frozen=True)
class Messages:
    """The messages into some nodes: what one layer passes on. Never changed in place, so nothing here goes stale.

    Sources and targets are numbered apart from the graph. The first sources are the targets, in the same order.

    Attributes:
        incoming: A row for each target, a column for each source; entries are messages. Nobody sends to itself.
        degrees: How many messages each *source* receives in the whole graph, shape (sources,).
    """

    incoming: SparseMatrix
    degrees: Tensor

    @property
    def targets(self) -> int:
        """Number of nodes that receive."""
        return self.incoming.shape[0]

    @property
    def sources(self) -> int:
        """Number of nodes that send or receive."""
        return self.incoming.shape[1]

    @cached_property
    def scale(self) -> Tensor:
        """`gcn_scale` of the sources, shape (sources,)."""
        return gcn_scale(self.degrees)


@dataclass(frozen=True)
class Rows:
    """For each node a list of nodes, in compressed rows; some rows replaced by others. Never changed in place.

    Attributes:
        offsets: Where each row begins in `columns`, and where the last one ends; shape (n + 1,).
        columns: Shape (entries,), ascending within a row.
        replaced: Rows that are used instead: what was thinned out since the rows were written.
    """

    offsets: Tensor
    columns: Tensor
    replaced: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    @cached_property
    def _replaced(self) -> Tensor:
        """The numbers of the replaced rows, ascending."""
        return torch.tensor(sorted(self.replaced), dtype=torch.int64)

    def counts(self, rows: Tensor) -> Tensor:
        """Return the lengths of some rows: shape (k,) -> (k,), int64."""
        counts = (self.offsets[rows + 1] - self.offsets[rows]).to(torch.int64)
        for place in self._places_replaced(rows):
            counts[place] = len(self.replaced[int(rows[place])])
        return counts

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what stands in some rows.

        Args:
            rows: Shape (k,).

        Returns:
            Their entries one row after the other, shape (m,) int64, and how many each row has, shape (k,).
        """
        counts = self.counts(rows)
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        begins = ends - counts
        # Replaced rows are no longer than what they replace, so that reading past them stays within `columns`.
        shift = (self.offsets[rows].to(torch.int64) - begins).repeat_interleave(counts, output_size=total)
        entries = self.columns[torch.arange(total) + shift].to(torch.int64)
        for place in self._places_replaced(rows):
            entries[begins[place] : ends[place]] = self.replaced[int(rows[place])]
        return entries, counts

    def without(self, rows: Tensor, columns: Tensor) -> "Rows":
        """Return the lists less these entries; what is not there is ignored.

        Args:
            rows: Shape (k,).
            columns: Shape (k,).
        """
        touched = rows.unique()  # type: ignore[no-untyped-call]
        if len(touched) + len(self.replaced) > REBUILD_SHARE * self.nodes:
            return self._rewritten(rows, columns)
        entries, counts = self.gather(touched)
        owners = touched.repeat_interleave(counts)
        kept = ~torch.isin(owners * self.nodes + entries, rows * self.nodes + columns)
        left = torch.zeros(len(touched), dtype=torch.int64).index_add_(
            0, torch.arange(len(touched)).repeat_interleave(counts), kept.to(torch.int64)
        )
        lists = torch.split(entries[kept], left.tolist())
        return Rows(
            self.offsets, self.columns, {**self.replaced, **dict(zip(touched.tolist(), lists, strict=True))}
        )

    def all(self) -> SparseMatrix:
        """Return every row as a matrix of ones; nothing is copied unless rows were replaced."""
        if not self.replaced:
            return SparseMatrix(self.offsets, self.columns, None, self.nodes)
        entries, counts = self.gather(torch.arange(self.nodes))
        return SparseMatrix(
            offsets_of(counts).to(self.offsets.dtype), entries.to(self.columns.dtype), None, self.nodes
        )

    def _places_replaced(self, rows: Tensor) -> list[int]:
        if not self.replaced:
            return []
        return torch.isin(rows, self._replaced).nonzero().flatten().tolist()

    def _rewritten(self, rows: Tensor, columns: Tensor) -> "Rows":
        whole = self.all()
        kept = ~torch.isin(whole.rows * self.nodes + whole.columns, rows * self.nodes + columns)
        counts = torch.bincount(whole.rows[kept], minlength=self.nodes)
        return Rows(offsets_of(counts).to(self.offsets.dtype), whole.columns[kept])


@dataclass(frozen=True)
class Adjacency:
    """The messages of a graph, from either end. Never changed in place: what `without` returns shares most of it.

    Nodes keep their positions. A node that is taken out stays behind as one without messages.

    Attributes:
        incoming: For each node, who sends to it.
        outgoing: For each node, whom it sends to; the same object if the graph is undirected.
    """

    incoming: Rows
    outgoing: Rows

    @property
    def nodes(self) -> int:
        """Number of nodes, those taken out included."""
        return self.incoming.nodes

    @property
    def directed(self) -> bool:
        """Whether messages need not go both ways."""
        return self.incoming is not self.outgoing

    @property
    def entries(self) -> int:
        """Number of messages when the rows were last written."""
        return len(self.incoming.columns)

    def degrees(self, nodes: Tensor) -> Tensor:
        """Return how many messages some nodes receive: shape (k,) -> (k,)."""
        return self.incoming.counts(nodes)

    def messages(self) -> Messages:
        """Return all messages."""
        whole = self.incoming.all()
        if self.directed:
            whole = linked(whole, self.outgoing.all())
        else:
            whole = dataclasses.replace(whole, symmetric=True)
        return Messages(whole, whole.counts)

    def messages_into(self, targets: Tensor) -> tuple[Messages, Tensor]:
        """Return the messages into some nodes, at the cost of these.

        Args:
            targets: Distinct positions, shape (t,).

        Returns:
            The messages, and the positions of their sources, shape (s,), which begin with the targets.
        """
        senders, counts = self.incoming.gather(targets)
        strangers = senders.unique()  # type: ignore[no-untyped-call]
        sources = torch.cat([targets, strangers[~torch.isin(strangers, targets)]])
        incoming = SparseMatrix(offsets_of(counts), places_of(sources, senders), None, len(sources))
        return Messages(incoming, self.degrees(sources)), sources

    def reached(self, seeds: Tensor, hops: int) -> list[Tensor]:
        """Walk along the messages.

        Args:
            seeds: Positions to start from, shape (k,).
            hops: How far to go.

        Returns:
            For 0 to `hops` steps the positions reached within them, ascending.
        """
        within = [_distinct(seeds)]
        frontier = within[0]
        for _ in range(hops):
            found = _distinct(self.outgoing.gather(frontier)[0])
            frontier = found[~torch.isin(found, within[-1])]
            within.append(_distinct(torch.cat([within[-1], frontier])))
        return within

    def removed_messages(self, elements: Elements) -> Tensor:
        """Return the messages that go with these nodes and edges: shape (2, m), none twice; both ways if undirected.

        An edge that carries no messages, such as one held out, has none to lose.
        """
        nodes = elements.nodes
        senders, received = self.incoming.gather(nodes)
        receivers, sent = self.outgoing.gather(nodes)
        pairs = [
            elements.edges,
            torch.stack([senders, nodes.repeat_interleave(received)]),
            torch.stack([nodes.repeat_interleave(sent), receivers]),
        ]
        if not self.directed:
            pairs.append(elements.edges.flip(0))
        keys = _distinct(torch.cat([sources * self.nodes + targets for sources, targets in pairs]))
        found = torch.stack([keys // max(1, self.nodes), keys % max(1, self.nodes)])
        return found[:, self._there(found)]

    def without(self, elements: Elements) -> "Adjacency":
        """Return the graph less these nodes' and edges' messages."""
        return self.less(self.removed_messages(elements))

    def less(self, messages: Tensor) -> "Adjacency":
        """Return the graph less these messages, (2, m), which go both ways if it is undirected."""
        sources, targets = messages
        incoming = self.incoming.without(targets, sources)
        if not self.directed:
            return Adjacency(incoming, incoming)
        return Adjacency(incoming, self.outgoing.without(sources, targets))

    def _there(self, pairs: Tensor) -> Tensor:
        """Tell which messages, (2, m), there are."""
        targets = _distinct(pairs[1])
        senders, counts = self.incoming.gather(targets)
        known = senders * self.nodes + targets.repeat_interleave(counts)
        return torch.isin(pairs[0] * self.nodes + pairs[1], known)


def adjacency_of(data: GraphData) -> Adjacency:
    """Write the rows of a graph's messages: those along its training edges."""
    return adjacency_along(data.message_edges(), data.nodes, directed=data.directed)


def adjacency_along(edges: Tensor, nodes: int, *, directed: bool) -> Adjacency:
    """Write the rows of messages.

    An edge from a node to itself carries none: every architecture gives each node its own share anyway.

    Args:
        edges: Shape (2, m): messages go from the first to the second row. Both directions of an undirected edge are
            two messages, and both must be there.
        nodes: Number of nodes.
        directed: Whether messages need not go both ways.

    Raises:
        ValueError: An end of an edge is not among the nodes.
    """
    edges = _without_loops(edges, nodes)
    incoming = _rows(edges[1], edges[0], nodes)
    return Adjacency(incoming, _rows(edges[0], edges[1], nodes) if directed else incoming)


def messages_along(edges: Tensor, nodes: int) -> Messages:
    """Prepare messages of which nobody vouches that they go both ways; arguments as `adjacency_along` takes them."""
    edges = _without_loops(edges, nodes)
    incoming = from_pairs(edges[1], edges[0], (nodes, nodes))
    return Messages(incoming, incoming.counts)


def gcn_scale(degrees: Tensor) -> Tensor:
    """Return one over the root of each degree, a node's message to itself counted: shape (n,) -> (n,), float64."""
    return degrees.double().add(1.0).rsqrt()


def places_of(values: Tensor, wanted: Tensor) -> Tensor:
    """Return where each wanted value stands among distinct values, all of which are there: shape (n,), (m,) -> (m,)."""
    ordered, order = values.sort()
    return order[torch.searchsorted(ordered, wanted)]


def _without_loops(edges: Tensor, nodes: int) -> Tensor:
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise ValueError(f"an edge's end is not one of the {nodes} nodes")
    return edges[:, edges[0] != edges[1]]


def _rows(rows: Tensor, columns: Tensor, nodes: int) -> Rows:
    matrix = from_pairs(rows, columns, (nodes, nodes))
    return Rows(matrix.offsets, matrix.columns)


def _distinct(values: Tensor) -> Tensor:
    """Return each value once, ascending."""
    distinct: Tensor = values.unique()  # type: ignore[no-untyped-call]
    return distinct
