"""Outputs of every layer for every node, kept up to date at the cost of what a deletion changes.

Deleting an edge changes its ends' rows in the first layer, their neighbours' in the second, and so on; where messages
are scaled by degrees (GCN), the ends' neighbours change in the first layer already, for the ends send on another scale.
All other rows stay as they are, to the bit.

A changed row need not be computed anew. What arrives at a node is a sum over its neighbours, so it is enough to add what
the changed ones send now less what they sent before: a hub with ten thousand neighbours of which two have changed costs
two additions. Rows that lose a message themselves, and those where most of the sum changes, are added up afresh, so that
no difference of large numbers is left where a small one belongs. Attention (GAT) weighs all neighbours against each
other: there each changed row is computed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.graph.adjacency import Adjacency, adjacency_of
from models.graph.data import Elements, GraphData
from models.graph.network import GraphModel
from models.graph.sparse import matches
from models.graph.spread import Spread

AFRESH_SHARE = 0.5
"""Share of a row's messages that must have changed for it to be added up afresh; the work is then at most twice as much."""


@dataclass(frozen=True)
class RowChanges:
    """Some rows of a matrix and what stands there from now on.

    Attributes:
        rows: Shape (k,), ascending.
        values: Shape (k, d).
    """

    rows: Tensor
    values: Tensor

    def over(self, base: Tensor, rows: Tensor) -> Tensor:
        """Return some rows of `base` with these changes: shape (m,) -> (m, d)."""
        chosen = base.index_select(0, rows)
        # Rows by position, here and below: by a mask they take two to four times as long.
        changed, mine = matches(self.rows, rows)
        return chosen.index_copy_(0, changed, self.values.index_select(0, mine))


@dataclass(frozen=True)
class Refresh:
    """What a deletion changes in a cache; `LayerCache.apply` carries it out.

    Attributes:
        before: The graph it was computed for.
        after: The graph less what is deleted.
        features: Rows of the features.
        layers: Rows of what arrives in each layer.
    """

    before: Adjacency
    after: Adjacency
    features: RowChanges
    layers: tuple[RowChanges, ...]

    @property
    def changed(self) -> Tensor:
        """The nodes whose embedding changes, ascending: shape (k,)."""
        return self.layers[-1].rows

    @property
    def computed(self) -> int:
        """How many rows of all layers were computed."""
        return sum(len(layer.rows) for layer in self.layers)


class LayerCache:
    """What arrives at every node in every layer of one model on one graph.

    Nodes keep their positions: one that is deleted stays behind as a node without messages and with features of 0, so
    that nothing of it is left.

    Attributes:
        model: Frozen.
        adjacency: The graph as it is now.
    """

    def __init__(
        self, model: GraphModel, features: Tensor, adjacency: Adjacency, keys: Tensor | None = None
    ) -> None:
        """Compute every layer once, over the whole graph.

        Args:
            model: Whose outputs are wanted.
            features: Shape (n, width), dense; they are left as they are.
            adjacency: The graph.
            keys: Whose rows these are, shape (n,); needed where the model has deletion operators.
        """
        self.model, self.adjacency = model, adjacency
        self._features, self._keys = features, keys
        self._feature_changes = _no_changes(features)
        self._accumulated: list[Tensor] = []
        messages, hidden = adjacency.messages(), model.inputs(features)
        with torch.no_grad():
            for layer in range(model.layers):
                arrived = model.accumulate(layer, hidden, messages)
                self._accumulated.append(arrived)
                hidden = model.delete(layer, model.finish(layer, arrived), keys)

    @classmethod
    def of(cls, model: GraphModel, data: GraphData) -> "LayerCache":
        """Compute the cache of a graph along its training edges."""
        return cls(model, data.features, adjacency_of(data), model.keys_of(data))

    def outputs(self, layer: int, rows: Tensor | None = None) -> Tensor:
        """Return what a layer puts out, deletion operators applied.

        Args:
            layer: Which one, from 0.
            rows: Positions, shape (k,); all of them where None.

        Returns:
            Shape (k, d).
        """
        arrived = self._accumulated[layer] if rows is None else self._accumulated[layer][rows]
        return self._finished(layer, arrived, rows)

    def embeddings(self, rows: Tensor | None = None) -> Tensor:
        """Return the embeddings of some nodes, or of all: shape (k, d)."""
        return self.outputs(self.model.layers - 1, rows)

    def refreshed(self, elements: Elements) -> Refresh:
        """Compute what changes when these nodes, edges and features are deleted; nothing is changed yet."""
        removed = self.adjacency.removed_messages(elements)
        after, receivers = self.adjacency.less(removed), _distinct(removed[1])
        features = self._less_features(elements)
        layers: list[RowChanges] = []
        with torch.no_grad():
            for layer in range(self.model.layers):
                inputs = layers[-1] if layers else features
                layers.append(_LayerStep(self, layer, after, receivers, inputs).changes())
        return Refresh(self.adjacency, after, features, tuple(layers))

    def apply(self, refresh: Refresh) -> None:
        """Write the changed rows into the cache.

        Raises:
            ValueError: The refresh was computed for another state of the graph.
        """
        if refresh.before is not self.adjacency:
            raise ValueError("this refresh was computed for another state of the graph")
        for arrived, changes in zip(self._accumulated, refresh.layers, strict=True):
            arrived.index_copy_(0, changes.rows, changes.values)
        self._feature_changes = _merged(self._feature_changes, refresh.features)
        self.adjacency = refresh.after

    def adopt(self, model: GraphModel, keys: Tensor, arrivals: Sequence[RowChanges]) -> None:
        """Go over to the same network with further deletion operators.

        Args:
            model: The network, all its operators included.
            keys: Whose rows these are, shape (n,).
            arrivals: Rows of what arrives in each layer but the first, where the new operators change it.
        """
        for arrived, changes in zip(self._accumulated[1:], arrivals, strict=True):
            arrived.index_copy_(0, changes.rows, changes.values)
        self.model, self._keys = model, keys

    def inputs_of(self, layer: int, rows: Tensor, changes: RowChanges | None = None) -> Tensor:
        """Return what a layer reads of some nodes.

        Args:
            layer: Which one, from 0; the first one reads the features.
            rows: Positions, shape (k,).
            changes: Of what the layer before accumulates, or of the features; not applied yet.
        """
        if layer == 0:
            known = self._feature_changes
            return (known if changes is None else _merged(known, changes)).over(self._features, rows)
        return self._finished(layer - 1, self.accumulated(layer - 1, rows, changes), rows)

    def accumulated(self, layer: int, rows: Tensor, changes: RowChanges | None = None) -> Tensor:
        """Return what arrives at some nodes, a copy, with changes that are not applied yet: shape (k, d)."""
        base = self._accumulated[layer]
        return base.index_select(0, rows) if changes is None else changes.over(base, rows)

    def _finished(self, layer: int, arrived: Tensor, rows: Tensor | None) -> Tensor:
        keys = self._keys if self._keys is None or rows is None else self._keys[rows]
        with torch.no_grad():
            return self.model.delete(layer, self.model.finish(layer, arrived), keys)

    def _less_features(self, elements: Elements) -> RowChanges:
        """Return the rows of features in which something becomes 0."""
        rows = _distinct(torch.cat([elements.nodes, elements.features[:, 0]]))
        values = self._feature_changes.over(self._features, rows)
        values[torch.isin(rows, elements.nodes)] = 0.0
        values[torch.searchsorted(rows, elements.features[:, 0].contiguous()), elements.features[:, 1]] = 0.0
        return RowChanges(rows, values)


@dataclass(frozen=True)
class _LayerStep:
    """How one layer changes.

    Attributes:
        after: The graph less what is deleted.
        receivers: Nodes that lose a message, ascending.
        inputs: What has changed before this layer.
    """

    cache: LayerCache
    layer: int
    after: Adjacency
    receivers: Tensor
    inputs: RowChanges

    def changes(self) -> RowChanges:
        """Compute the rows that change."""
        senders = self._senders()
        heard, _ = self.after.outgoing.gather(senders)
        rows = _distinct(torch.cat([self.receivers, senders, heard]))
        values = self.cache.accumulated(self.layer, rows)
        afresh = self._afresh(rows, heard)
        whole, adjusted = afresh.nonzero()[:, 0], (~afresh).nonzero()[:, 0]
        if len(whole):
            values.index_copy_(0, whole, self._added_up(rows[whole]))
        if len(adjusted):
            values.index_add_(0, adjusted, self._difference(rows[adjusted], senders))
        return RowChanges(rows, values)

    def _senders(self) -> Tensor:
        """Return the nodes that send something else than before, ascending."""
        if self.cache.model.architecture != "gcn":
            return self.inputs.rows
        return _distinct(torch.cat([self.inputs.rows, self.receivers]))

    def _afresh(self, rows: Tensor, heard: Tensor) -> Tensor:
        """Tell which rows are added up afresh: shape (k,)."""
        if self.cache.model.architecture == "gat":
            return torch.ones(len(rows), dtype=torch.bool)
        changed = torch.bincount(torch.searchsorted(rows, heard), minlength=len(rows))
        mostly = changed >= AFRESH_SHARE * self.after.degrees(rows)
        return mostly | torch.isin(rows, self.receivers)

    def _added_up(self, rows: Tensor) -> Tensor:
        """Compute some rows from all that arrives there."""
        messages, sources = self.after.messages_into(rows)
        return self.cache.model.accumulate(self.layer, self._now(sources), messages)

    def _difference(self, rows: Tensor, senders: Tensor) -> Tensor:
        """Return what arrives at some rows now less what arrived before; their degrees are as before."""
        now, before = self._now(senders), self.cache.inputs_of(self.layer, senders)
        spread = Spread(self.cache.model, self.layer, self.after, senders, rows)
        return spread.arrived(spread.sent(now) - spread.sent(before, self.cache.adjacency), now - before)

    def _now(self, nodes: Tensor) -> Tensor:
        return self.cache.inputs_of(self.layer, nodes, self.inputs)


def _no_changes(base: Tensor) -> RowChanges:
    return RowChanges(torch.empty(0, dtype=torch.int64), base[:0])


def _merged(older: RowChanges, newer: RowChanges) -> RowChanges:
    """Return both changes, the newer one where both have a row."""
    if not len(older.rows):
        return newer
    rows = _distinct(torch.cat([older.rows, newer.rows]))
    values = newer.values.new_empty(len(rows), newer.values.shape[1])
    for changes in (older, newer):
        values[torch.searchsorted(rows, changes.rows)] = changes.values
    return RowChanges(rows, values)


def _distinct(values: Tensor) -> Tensor:
    """Return each value once, ascending."""
    distinct: Tensor = values.unique()  # type: ignore[no-untyped-call]
    return distinct
