"""Which nodes or edges of a graph an audit looks at, by their positions in the graph before the deletion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.contracts import ForgetSet
from models.graph.configuration import Task
from models.graph.data import GraphData
from models.graph.elements import EDGE, NODE
from models.graph.negatives import NegativeSampler
from unlearning.audits.evidence import RETAINED_AT_MOST, Records

NEGATIVE_SEED = 9_000_000
"""Seed of the pairs without an edge: the same ones for every model and every audit of the same graph."""
LEAST_NEGATIVES = 1000
"""Pairs without an edge, at least, so that their choice adds little noise to an AUC."""


@dataclass(frozen=True)
class Items:
    """Nodes, or pairs of nodes.

    Attributes:
        places: Node positions, shape (k,); or the ends of pairs, shape (2, k).
    """

    places: Tensor

    def __len__(self) -> int:
        return self.places.shape[-1]


@dataclass(frozen=True)
class Deletion:
    """What a forget set takes out of a graph.

    Attributes:
        nodes: Which nodes go, shape (n,), bool.
        edges: Which edges go, those of deleted nodes included, shape (e,), bool.
        bare: Which nodes lose features, shape (n,), bool.
    """

    nodes: Tensor
    edges: Tensor
    bare: Tensor

    @classmethod
    def of(cls, data: GraphData, forget: ForgetSet) -> "Deletion":
        """Find it."""
        named = data.elements(forget.record_ids)
        keys = named.edges[0] * data.nodes + named.edges[1]
        return cls(
            nodes=_marked(data.nodes, named.nodes),
            edges=torch.isin(data.edge_keys, keys) | data.incident_edges(named.nodes),
            bare=_marked(data.nodes, named.features[:, 0]),
        )


def sets_of(data: GraphData, forget: ForgetSet, task: Task, seed: int) -> dict[Records, Items]:
    """Choose the items of an audit.

    Forgotten are training examples that concern what was deleted: of a node classifier the deleted nodes, the ends of
    deleted edges, and nodes that lost features; of a link predictor the deleted edges, those of deleted nodes, and those
    of nodes that lost features. Unlabelled and held-out nodes are no examples: nothing was learned of their label.

    Args:
        data: The graph before the deletion, held-out parts included.
        forget: What was deleted.
        task: The models'.
        seed: Draws the sample of retained items.
    """
    gone = Deletion.of(data, forget)
    choose = _nodes if task == "node_classification" else _edges
    forgotten, retained, never_seen = choose(data, forget, gone)
    return {
        Records.FORGOTTEN: Items(forgotten),
        Records.RETAINED: Items(_sample(retained, seed)),
        Records.NEVER_SEEN: Items(never_seen),
    }


def never_seen_of(data: GraphData, forget: ForgetSet, task: Task) -> Items:
    """Return the items of the audit half that are neither deleted nor of a class that is forgotten whole."""
    choose = _nodes if task == "node_classification" else _edges
    return Items(choose(data, forget, Deletion.of(data, forget))[2])


def negatives_of(data: GraphData, forget: ForgetSet) -> Items:
    """Draw pairs of remaining nodes that never had an edge, with a fixed seed.

    Raises:
        ValueError: Every pair of nodes has an edge.
    """
    gone = Deletion.of(data, forget)
    sampler = NegativeSampler(data.edges, data.nodes, directed=data.directed)
    count = max(LEAST_NEGATIVES, data.audit_edges().shape[1])
    pairs = sampler.sample(count, torch.Generator().manual_seed(NEGATIVE_SEED))
    return Items(pairs[:, ~gone.nodes[pairs].any(dim=0)])


def _nodes(data: GraphData, forget: ForgetSet, gone: Deletion) -> tuple[Tensor, Tensor, Tensor]:
    named = torch.isin(data.edge_keys, _named_edge_keys(data, forget))
    ends = _marked(data.nodes, data.edges[:, named & ~data.held_out_edges].flatten())
    known, audit = data.training_nodes(), data.audit_nodes()
    concerned = (gone.nodes | gone.bare | ends)[known]
    dropped = _classes(forget, NODE, data.classes)[data.labels[audit]]
    return known[concerned], known[~concerned], audit[~gone.nodes[audit] & ~dropped]


def _edges(data: GraphData, forget: ForgetSet, gone: Deletion) -> tuple[Tensor, Tensor, Tensor]:
    known, audit = ~data.held_out_edges, _audited(data)
    concerned = gone.edges | gone.bare[data.edges].any(dim=0)
    dropped = _classes(forget, EDGE, data.edge_classes)[data.relations]
    never_seen = audit & ~gone.edges & ~dropped
    return data.edges[:, known & concerned], data.edges[:, known & ~concerned], data.edges[:, never_seen]


def _audited(data: GraphData) -> Tensor:
    audit = data.audit_edges()
    return torch.isin(data.edge_keys, audit[0] * data.nodes + audit[1])


def _named_edge_keys(data: GraphData, forget: ForgetSet) -> Tensor:
    edges = data.elements(forget.record_ids).edges
    return edges[0] * data.nodes + edges[1]


def _classes(forget: ForgetSet, prefix: str, classes: tuple[str, ...]) -> Tensor:
    """Tell which classes are forgotten whole; a last entry stands for -1, no class."""
    return torch.tensor([*(prefix + name in forget.classes for name in classes), False])


def _marked(length: int, places: Tensor) -> Tensor:
    mask = torch.zeros(length, dtype=torch.bool)
    mask[places] = True
    return mask


def _sample(places: Tensor, seed: int) -> Tensor:
    count = places.shape[-1]
    if count <= RETAINED_AT_MOST:
        return places
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:RETAINED_AT_MOST]
    return places[..., chosen.sort().values]
