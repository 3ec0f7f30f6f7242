"""The two sides of a forgetting on a graph, as every method that moves shared weights sees them: what goes, what stays.

All of it lies on one graph, the *stage*: the nodes that are retained, in their order, and behind them *ghosts*. A ghost
stands for a node whose learned input is to be forgotten: it has the node's old features and listens to the node's
retained neighbours, but nobody listens to it. So messages among retained nodes are exactly those of the retained graph,
and one forward pass shows both what is kept and how the model answers to what it shall not know any more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from models.contracts import ForgetSet
from models.graph.data import GraphData
from models.graph.deletion import node_keys
from models.graph.network import GraphModel
from models.graph.records import UNLABELLED
from models.threads import one_thread
from unlearning.errors import MethodError, MethodUnsuitableError


@dataclass(frozen=True)
class Stage:
    """The retained graph and its ghosts.

    Attributes:
        features: Shape (retained + ghosts, width).
        message_edges: Shape (2, m), positions in `features`.
        node_ids: Whose rows these are.
    """

    features: Tensor
    message_edges: Tensor
    node_ids: tuple[str, ...]

    def keys(self) -> Tensor:
        """Return the nodes' keys (`models.graph.deletion`), shape (retained + ghosts,): a ghost's are its node's."""
        return node_keys(self.node_ids)


@dataclass(frozen=True)
class Sides:
    """What a model has learned, on either side. Held-out nodes and edges are on neither: they were never learned.

    Attributes:
        retained: The data without what is forgotten.
        stage: Where everything below has its positions, `sources` excepted.
        sources: Shape (retained,): where the retained nodes stand in the data.
        retained_edges: Shape (2, r): training edges that stay.
        retained_nodes: Shape (k,): training nodes that stay.
        forgotten_edges: Shape (2, f): training edges that go. For node classification those of deleted nodes are
            not among them: what such a model learned of a node is its label.
        forgotten_nodes: Shape (g,): ghosts of training nodes that are deleted; none for link prediction, which learned
            the node's edges.
        labels: Shape (retained + ghosts,), int64 indices into the model's classes; -1 where there is none.
        replayed_nodes: Shape (2, p): ghosts of nodes that stay but lose features, and the nodes themselves. None for
            link prediction.
        replayed_edges: Shape (2, q): retained training edges of such nodes, with the ghost at one end. None for node
            classification.
        replayed_twins: Shape (2, q): the same edges with the nodes themselves.
        touched: Whether anything is to be forgotten that messages or labels have carried into the weights.
    """

    retained: GraphData
    stage: Stage
    sources: Tensor
    retained_edges: Tensor
    retained_nodes: Tensor
    forgotten_edges: Tensor
    forgotten_nodes: Tensor
    labels: Tensor
    replayed_nodes: Tensor
    replayed_edges: Tensor
    replayed_twins: Tensor
    touched: bool

    @classmethod
    def of(cls, model: GraphModel, data: GraphData, forget: ForgetSet) -> "Sides":
        """Divide the data, each side in the order of the data, whatever the order of the forget set.

        Raises:
            MethodError: Something to forget is not in the data.
        ValueError: A node's class is none of the model's.
        """
        refuse_missing(data, forget)
        retained = data.without(forget.record_ids)
        elements = data.elements(forget.record_ids)
        places = _Places.of(data, elements.nodes, elements.features)
        learned = data.training_edges()
        going = _going(data, learned, elements.nodes, elements.edges)
        classifies = model.task == "node_classification"
        forgotten = learned[:, going]
        if classifies:
            forgotten = forgotten[:, places.kept[forgotten].all(dim=0)]
        nodes = data.training_nodes()
        deleted = nodes[~places.kept[nodes]] if classifies else nodes[:0]
        labels = data.labels_among(model.classes) if classifies else torch.full_like(data.labels, UNLABELLED)
        retained_edges = retained.training_edges()
        replayed = torch.stack([places.ghost[places.stripped], places.place[places.stripped]])
        with_ghost, twins = _replays(retained_edges, replayed[:, :0] if classifies else replayed)
        return cls(
            retained=retained,
            stage=places.stage(data, retained, listens=classifies),
            sources=places.kept.nonzero()[:, 0],
            retained_edges=retained_edges,
            retained_nodes=retained.training_nodes(),
            forgotten_edges=places.anywhere(forgotten),
            forgotten_nodes=places.ghost[deleted],
            labels=torch.cat([labels[places.kept], labels[places.haunting]]),
            replayed_nodes=replayed if classifies else replayed[:, :0],
            replayed_edges=with_ghost,
            replayed_twins=twins,
            touched=bool(going.any()) or bool(len(deleted)) or bool(len(places.stripped)),
        )

    @property
    def asks(self) -> bool:
        """Whether anything is to be forgotten that the model answers for: a label or an edge, or a lost feature."""
        edges, nodes = (
            (self.forgotten_edges, self.replayed_edges),
            (self.forgotten_nodes, self.replayed_nodes),
        )
        return any(part.numel() for part in (*edges, *nodes))

    def require_retained(self, model: GraphModel) -> None:
        """Refuse to go on where nothing stays.

        Raises:
            MethodUnsuitableError: Every training node, or every training edge, is to be forgotten.
        """
        kept = self.retained_nodes if model.task == "node_classification" else self.retained_edges[0]
        if not len(kept):
            raise MethodUnsuitableError(
                "Everything that the model was trained on is to be forgotten, so nothing is left to keep."
            )


@dataclass(frozen=True)
class _Places:
    """Where nodes of the data stand on the stage.

    Attributes:
        kept: Shape (n,): whether a node stays.
        place: Shape (n,): a retained node's position; meaningless for others.
        ghost: Shape (n,): a ghost's position; meaningless for nodes without one.
        haunting: Shape (ghosts,): the nodes that have a ghost, ascending.
        stripped: Shape (s,): nodes that stay and lose features, ascending.
    """

    kept: Tensor
    place: Tensor
    ghost: Tensor
    haunting: Tensor
    stripped: Tensor

    @classmethod
    def of(cls, data: GraphData, deleted: Tensor, features: Tensor) -> "_Places":
        n = data.nodes
        kept = torch.ones(n, dtype=torch.bool)
        kept[deleted] = False
        haunts = ~kept
        haunts[features[:, 0]] = True
        haunting = haunts.nonzero()[:, 0]
        ghost = torch.zeros(n, dtype=torch.int64)
        ghost[haunting] = int(kept.sum()) + torch.arange(len(haunting))
        return cls(kept, kept.cumsum(0) - 1, ghost, haunting, (haunts & kept).nonzero()[:, 0])

    def anywhere(self, pairs: Tensor) -> Tensor:
        """Translate positions of the data to the stage: retained nodes stand for themselves, deleted ones haunt."""
        return torch.where(self.kept[pairs], self.place[pairs], self.ghost[pairs])

    def stage(self, data: GraphData, retained: GraphData, *, listens: bool) -> Stage:
        """Build the stage; ghosts of deleted nodes listen only where `listens`.

        A link predictor learned a deleted node's edges, and edges that it is asked for must not carry messages.
        """
        heard = _into(retained.message_edges(), self.place[self.stripped], self.ghost[self.stripped])
        if listens:
            source, target = data.message_edges()
            lost = self.kept[source] & ~self.kept[target]
            heard = torch.cat(
                [heard, torch.stack([self.place[source[lost]], self.ghost[target[lost]]])], dim=1
            )
        return Stage(
            torch.cat([retained.features, data.features[self.haunting]]),
            torch.cat([retained.message_edges(), heard], dim=1),
            (*retained.node_ids, *(data.node_ids[node] for node in self.haunting.tolist())),
        )


def refuse_missing(data: GraphData, forget: ForgetSet) -> None:
    """Refuse to forget what is not there.

    Raises:
        MethodError: Something to forget is not in the data.
    """
    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")


def forget_names(model: GraphModel, data: GraphData, forget: ForgetSet) -> GraphModel:
    """Return the model with no deletion operator that names a node which is deleted from `data`."""
    if model.deletion_operators is None:
        return model
    gone = data.elements(forget.record_ids).nodes.tolist()
    return model.naming_none_of(node_keys(data.node_ids[node] for node in gone))


@contextmanager
def as_method_errors() -> Iterator[None]:
    """Compute on one thread, so that the seed decides alone, and turn what training raises into method errors.

    Raises:
        MethodError: The data do not fit the model, or the weights left the numbers.
    """
    try:
        with one_thread():
            yield
    except ValueError as error:
        raise MethodError(f"It is not possible: {error}.") from error


def _going(data: GraphData, edges: Tensor, deleted_nodes: Tensor, deleted_edges: Tensor) -> Tensor:
    """Tell of each edge, shape (2, e), whether it is deleted, itself or with one of its ends: shape (e,)."""
    n = data.nodes
    named = torch.isin(edges[0] * n + edges[1], deleted_edges[0] * n + deleted_edges[1])
    return named | torch.isin(edges, deleted_nodes).any(dim=0)


def _into(messages: Tensor, nodes: Tensor, ghosts: Tensor) -> Tensor:
    """Return the messages, shape (2, m), into these nodes, into their ghosts instead."""
    return _haunted(messages, 1, nodes, ghosts)[0]


def _replays(edges: Tensor, replayed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the edges of nodes that lose features, once with the node's ghost at that end and once as they are.

    Args:
        edges: Shape (2, r).
        replayed: Ghosts and their nodes, shape (2, p).

    Returns:
        Two of shape (2, q). An edge between two such nodes stands there twice, once for each ghost.
    """
    ghosts, nodes = replayed
    first, first_twins = _haunted(edges, 0, nodes, ghosts)
    second, second_twins = _haunted(edges, 1, nodes, ghosts)
    return torch.cat([first, second], dim=1), torch.cat([first_twins, second_twins], dim=1)


def _haunted(pairs: Tensor, end: int, nodes: Tensor, ghosts: Tensor) -> tuple[Tensor, Tensor]:
    """Return those pairs that have one of `nodes`, ascending, at one end: with its ghost there, and as they are."""
    concerned = pairs[:, torch.isin(pairs[end], nodes)]
    haunted = concerned.clone()
    haunted[end] = ghosts[torch.searchsorted(nodes, concerned[end])]
    return haunted, concerned
