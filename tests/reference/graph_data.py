"""Small graphs whose every part is known."""

import torch

from models.graph.data import GraphData
from models.graph.elements import edge_record, node_record

CLASSES = ("cat", "dog")
RELATIONS = ("cites", "follows")


def path_graph(nodes: int = 6, *, directed: bool = False) -> GraphData:
    """Nodes `n0`, `n1`, … in a row, an edge between neighbours: classes and relations alternate, nothing is held out."""
    starts = torch.arange(nodes - 1)
    return GraphData(
        node_ids=tuple(f"n{index}" for index in range(nodes)),
        features=torch.arange(2.0 * nodes).reshape(nodes, 2) + 1.0,
        feature_names=("f0", "f1"),
        labels=torch.arange(nodes) % 2,
        classes=CLASSES,
        held_out_nodes=torch.zeros(nodes, dtype=torch.bool),
        edges=torch.stack([starts, starts + 1]),
        held_out_edges=torch.zeros(nodes - 1, dtype=torch.bool),
        relations=starts % 2,
        edge_classes=RELATIONS,
        directed=directed,
    )


def nodes_of(*numbers: int) -> list[str]:
    """Return the record ids of nodes of `path_graph`."""
    return [node_record(f"n{number}") for number in numbers]


def edges_of(*pairs: tuple[int, int], directed: bool = False) -> list[str]:
    """Return the record ids of edges of `path_graph`."""
    return [edge_record(f"n{one}", f"n{other}", directed=directed) for one, other in pairs]
