"""Who sends messages to whom, in compressed rows."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from models.graph.sparse import SparseMatrix, from_pairs


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
        """One over the root of each source's degree, its own message to itself counted: shape (sources,), float64."""
        return self.degrees.double().add(1.0).rsqrt()


def messages_along(edges: Tensor, nodes: int) -> Messages:
    """Prepare the messages of a whole graph.

    An edge from a node to itself carries none: every architecture gives each node its own share anyway.

    Args:
        edges: Shape (2, m): messages go from the first to the second row. Both directions of an undirected edge are
            two messages.
        nodes: Number of nodes.

    Raises:
        ValueError: An end of an edge is not among the nodes.
    """
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise ValueError(f"an edge's end is not one of the {nodes} nodes")
    edges = edges[:, edges[0] != edges[1]]
    incoming = from_pairs(edges[1], edges[0], (nodes, nodes))
    return Messages(incoming, incoming.counts)
