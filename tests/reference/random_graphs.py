"""Random edges, networks with random weights, and graphs that there is something to learn from."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from models.graph.configuration import GraphConfig
from models.graph.data import Elements, GraphData
from models.graph.network import GraphModel, initialise

NONE = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Edges:
    """Edges among the nodes 0 to n - 1; the first node is a hub, the last one has none."""

    nodes: int
    ends: Tensor
    directed: bool

    @property
    def messages(self) -> Tensor:
        """(2, m): both ways if undirected."""
        return self.ends if self.directed else torch.cat([self.ends, self.ends.flip(0)], dim=1)

    @property
    def dense(self) -> Tensor:
        """(n, n): 1 where the column's node sends to the row's."""
        matrix = torch.zeros(self.nodes, self.nodes)
        matrix[self.messages[1], self.messages[0]] = 1.0
        return matrix

    def without(self, elements: Elements) -> "Edges":
        """Leave out these edges and those of these nodes."""
        gone = (self.ends[:, :, None] == elements.edges[:, None, :]).all(dim=0).any(dim=1)
        gone |= torch.isin(self.ends, elements.nodes).any(dim=0)
        return Edges(self.nodes, self.ends[:, ~gone], self.directed)


def draw_edges(generator: torch.Generator, *, directed: bool, nodes: int = 30, count: int = 90) -> Edges:
    """Draw edges, none twice and none from a node to itself."""
    ends = torch.randint(nodes - 1, (2, count), generator=generator)
    ends[0, : count // 4] = 0
    if not directed:
        ends = ends.sort(dim=0).values
    return Edges(nodes, ends[:, ends[0] != ends[1]].unique(dim=1), directed)


def draw_elements(generator: torch.Generator, edges: Edges, width: int) -> Elements:
    """Draw up to three edges, up to one node and up to two features to delete."""
    count, ends = int(torch.randint(4, (1,), generator=generator)), edges.ends
    chosen = torch.randperm(ends.shape[1], generator=generator)[:count]
    nodes = torch.randint(
        edges.nodes, (int(torch.randint(2, (1,), generator=generator)),), generator=generator
    )
    features = torch.randint(min(edges.nodes, width), (count % 3, 2), generator=generator)
    return Elements(nodes, ends[:, chosen], features)


def draw_model(
    generator: torch.Generator, architecture: str, width: int, *, hidden: tuple[int, ...] = (8, 4)
) -> GraphModel:
    """Draw a float64 network for links whose biases are not zero."""
    config = GraphConfig(
        architecture=architecture,
        classes=(),
        width=width,
        nodes=1,
        edges=0,
        seed=0,
        recipe={"architecture": architecture, "task": "link_prediction", "hidden": hidden},
    )
    model = initialise(config, generator).double()
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.1)
    return model


@functools.cache
def three_communities(*, held_out: str, nodes: int = 90, width: int = 24) -> GraphData:
    """Draw nodes of three classes with words and neighbours mostly of their own.

    Args:
        held_out: `nodes` or `edges`: of which a quarter is held out.
        nodes: How many.
        width: Words there are.
    """
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(nodes) % 3
    like = labels[:, None] == labels
    edges = (torch.rand(nodes, nodes, generator=generator) < torch.where(like, 0.15, 0.015)).triu(1)
    pairs = edges.nonzero().T.contiguous()
    own = torch.arange(width) % 3 == labels[:, None]
    words = torch.rand(nodes, width, generator=generator) < torch.where(own, 0.3, 0.1)
    held_nodes = (torch.rand(nodes, generator=generator) < 0.25) & (held_out == "nodes")
    held_edges = (torch.rand(pairs.shape[1], generator=generator) < 0.25) & (held_out == "edges")
    return GraphData(
        node_ids=tuple(f"n{place}" for place in range(nodes)),
        features=words.float(),
        feature_names=tuple(f"w{column}" for column in range(width)),
        labels=labels,
        classes=("a", "b", "c"),
        held_out_nodes=held_nodes,
        edges=pairs,
        held_out_edges=held_edges,
        relations=torch.zeros_like(pairs[0]),
        edge_classes=("edge",),
        directed=False,
    )
