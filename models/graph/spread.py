"""How changes at a few nodes arrive at others in one layer, at the cost of these nodes' messages.

Without attention, what arrives at a node is a weighted sum of what its neighbours send and of its own share. So the change
of the sum is the same sum of changes, whoever else stands in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.graph.adjacency import Adjacency, gcn_scale, places_of
from models.graph.network import GraphModel
from models.graph.sparse import SparseMatrix, from_pairs, matches


@dataclass(frozen=True)
class Spread:
    """The messages from some nodes to others in one layer of a network without attention.

    Attributes:
        model: Whose layer.
        layer: Which one, from 0.
        graph: The messages.
        senders: Nodes that change, ascending: shape (c,).
        rows: Nodes whose sums are asked for, ascending: shape (k,).
    """

    model: GraphModel
    layer: int
    graph: Adjacency
    senders: Tensor
    rows: Tensor

    def sent(self, inputs: Tensor, graph: Adjacency | None = None) -> Tensor:
        """Return what the senders send to each neighbour: shape (c, d_in) -> (c, d_out).

        Args:
            inputs: What the layer reads of them.
            graph: In which they have the degrees to go by; this one where None.
        """
        match self.model.architecture:
            case "gcn":
                degrees = (graph or self.graph).degrees(self.senders)
                projected = functional.linear(inputs, self._conv.lin.weight)
                return projected * gcn_scale(degrees).to(projected.dtype)[:, None]
            case "sage":
                return functional.linear(inputs, self._conv.lin_l.weight)
            case _:
                return functional.linear(inputs, self._conv.nn[0].weight)

    def arrived(self, sent: Tensor, inputs: Tensor) -> Tensor:
        """Return how the rows' sums change.

        Args:
            sent: Change of what the senders send, shape (c, d_out).
            inputs: Change of what the layer reads of them, shape (c, d_in).

        Returns:
            Shape (k, d_out).
        """
        total = self._messages @ sent
        if self.model.architecture == "sage":
            total /= self.graph.degrees(self.rows).clamp(min=1)[:, None]
        # A node hears itself, too: GCN as one more neighbour, the others in their own way.
        senders, rows = self._themselves
        total.index_add_(0, rows, self._own(sent, inputs).index_select(0, senders))
        if self.model.architecture == "gcn":
            total *= gcn_scale(self.graph.degrees(self.rows)).to(total.dtype)[:, None]
        return total

    @property
    def _conv(self) -> Any:
        return self.model.convs[self.layer]

    @cached_property
    def _messages(self) -> SparseMatrix:
        heard, counts = self.graph.outgoing.gather(self.senders)
        senders = torch.arange(len(self.senders)).repeat_interleave(counts)
        inside, places = matches(self.rows, heard)
        return from_pairs(places, senders[inside], (len(self.rows), len(self.senders)))

    @cached_property
    def _themselves(self) -> tuple[Tensor, Tensor]:
        """Places of the senders that are rows themselves, and their places among the rows."""
        return matches(self.rows, self.senders)

    def _own(self, sent: Tensor, inputs: Tensor) -> Tensor:
        """Return what the senders contribute to their own sums."""
        match self.model.architecture:
            case "sage":
                return functional.linear(inputs, self._conv.lin_r.weight)
            case "gin":
                weighted: Tensor = sent * (1.0 + self._conv.eps)
                return weighted
            case _:
                return sent


class Rereading:
    """What arrives at some nodes as the inputs of a few others change again and again, the graph staying as it is."""

    def __init__(
        self,
        model: GraphModel,
        layer: int,
        graph: Adjacency,
        *,
        senders: Tensor,
        rows: Tensor,
        inputs: Callable[[Tensor], Tensor],
        arrived: Callable[[Tensor], Tensor],
    ) -> None:
        """Look up what stays the same.

        Args:
            model: Whose layer.
            layer: Which one, from 0.
            graph: The messages.
            senders: Nodes that change, ascending: shape (c,).
            rows: Nodes that are asked for, ascending: shape (k,).
            inputs: What the layer reads of some nodes as long as nothing changes: shape (m,) -> (m, d_in).
            arrived: What arrives at some nodes as long as nothing changes: shape (m,) -> (m, d_out).
        """
        self._model, self._layer = model, layer
        self._spread: Spread | None = None
        if model.architecture == "gat":
            self._messages, sources = graph.messages_into(rows)
            self._inputs, self._places = inputs(sources), places_of(sources, senders)
        else:
            self._spread = Spread(model, layer, graph, senders, rows)
            self._inputs, self._arrived = inputs(senders), arrived(rows)

    def arrived(self, values: Tensor) -> Tensor:
        """Return what arrives once the senders' inputs are these: shape (c, d_in) -> (k, d_out)."""
        if self._spread is not None:
            change = values - self._inputs
            return self._arrived + self._spread.arrived(self._spread.sent(change), change)
        inputs = self._inputs.clone()
        inputs[self._places] = values
        return self._model.accumulate(self._layer, inputs, self._messages)
