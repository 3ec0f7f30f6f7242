"""The nodes around what is deleted, and what the frozen layers of a network make of them on the retained graph.

Nodes keep the positions that they have before the deletion. Outputs come from a cache: of the graph as it was, with the
rows that the deletion changes laid over it, which costs the neighbourhood; or of the retained graph, computed anew,
which costs the graph and is the quicker way where most rows change. Both give the same rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.graph.adjacency import Adjacency
from models.graph.data import Elements
from models.graph.network import GraphModel
from models.graph.refresh import LayerCache, Refresh

_MOST_ROUNDS = 100
"""Draws of random pairs, after which a graph counts as complete."""

Outputs = Callable[[int, Tensor], Tensor]
"""What layer l puts out for some nodes, shape (k,) -> (k, d)."""


@dataclass(frozen=True)
class Retained:
    """The graph less what is deleted, and the frozen network's outputs on it.

    Attributes:
        graph: Its messages.
        gone: Nodes that are deleted, ascending.
        ends: Nodes that stay and are an end of something deleted, once for each such thing: shape (m,).
        outputs: Deletion operators applied that the model has already.
        arrived: Before activation and operators.
    """

    graph: Adjacency
    gone: Tensor
    ends: Tensor
    outputs: Outputs
    arrived: Outputs

    @classmethod
    def nearby(cls, cache: LayerCache, elements: Elements, refresh: Refresh) -> "Retained":
        """Lay what the deletion changes over a cache of the graph as it was; the cache is left as it is.

        Args:
            cache: Of the graph as it was.
            elements: What is deleted.
            refresh: What `cache.refreshed(elements)` returned.
        """

        def outputs(layer: int, rows: Tensor) -> Tensor:
            # What the next layer reads is what this one puts out.
            return cache.inputs_of(layer + 1, rows, refresh.layers[layer])

        def arrived(layer: int, rows: Tensor) -> Tensor:
            return cache.accumulated(layer, rows, refresh.layers[layer])

        return cls(refresh.after, elements.nodes, ends_of(cache.adjacency, elements), outputs, arrived)

    @classmethod
    def afresh(
        cls, model: GraphModel, features: Tensor, before: Adjacency, elements: Elements, keys: Tensor | None
    ) -> "Retained":
        """Compute everything on the retained graph.

        Args:
            model: The network.
            features: Of the graph as it was, shape (n, width); they are left as they are.
            before: The graph as it was.
            elements: What is deleted.
            keys: Whose rows the features are, shape (n,); needed where the model has deletion operators.
        """
        features = features.clone()
        features[elements.nodes] = 0.0
        features[elements.features[:, 0], elements.features[:, 1]] = 0.0
        cache = LayerCache(model, features, before.without(elements), keys)
        return cls(
            cache.adjacency, elements.nodes, ends_of(before, elements), cache.outputs, cache.accumulated
        )


def ends_of(graph: Adjacency, elements: Elements) -> Tensor:
    """Return the nodes that stay and lose an edge or a feature: shape (m,), each once for each edge that it loses.

    Args:
        graph: As it was.
        elements: What is deleted. An edge that carried no messages, such as one held out, counts for nothing.
    """
    removed = graph.removed_messages(elements)
    # Of an undirected edge both directions are removed, so that either end stands once among the receivers.
    ends = removed.flatten() if graph.directed else removed[1]
    stripped: Tensor = elements.features[:, 0].unique()  # type: ignore[no-untyped-call]
    ends = torch.cat([ends, stripped])
    return ends[~torch.isin(ends, elements.nodes)]


def strangers(graph: Adjacency, gone: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw nodes at random from pairs that no message passes between: shape (count,).

    Only what is drawn is looked at, not the graph.

    Raises:
        ValueError: Hardly any pair of nodes is without an edge.
    """
    found: list[Tensor] = []
    missing, rounds = count, 0
    while missing > 0:
        rounds += 1
        if rounds > _MOST_ROUNDS:
            raise ValueError("nearly every pair of nodes has an edge: there are no strangers to be like")
        pairs = torch.randint(graph.nodes, (2, (missing + 1) // 2 + 8), generator=generator)
        apart = (pairs[0] != pairs[1]) & ~_joined(graph, pairs) & ~torch.isin(pairs, gone).any(dim=0)
        drawn = pairs[:, apart].T.flatten()[:missing]
        found.append(drawn)
        missing -= len(drawn)
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _joined(graph: Adjacency, pairs: Tensor) -> Tensor:
    """Tell which pairs, (2, k), a message passes between, in either direction."""
    joined = torch.zeros(pairs.shape[1], dtype=torch.bool)
    for rows in (graph.incoming, graph.outgoing) if graph.directed else (graph.incoming,):
        entries, counts = rows.gather(pairs[1])
        owners = torch.arange(pairs.shape[1]).repeat_interleave(counts)
        joined[owners[entries == pairs[0][owners]]] = True
    return joined
