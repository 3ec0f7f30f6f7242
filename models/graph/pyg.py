"""Graphs as PyTorch Geometric's `Data`, and back; needs `torch_geometric` and torch.

`to_pyg` is for trying other libraries' models and explainers on a data set of Expunge's::

    from models.graph.data import load_data
    from models.graph.pyg import to_pyg
    data = to_pyg(load_data(snapshot_directory))

| field of `Data` | what it holds |
| --- | --- |
| `x` | (n, width) features |
| `y` | (n,) labels as positions in `classes`, -1 for none |
| `edge_index`, `edge_type` | the training edges and their relations; of an undirected graph both directions, the second half turned round |
| `val_edge_index`, `val_edge_type` | held-out edges that methods may see, each once |
| `test_edge_index`, `test_edge_type` | held-out edges for audits alone, each once |
| `train_mask`, `val_mask`, `test_mask` | (n,) which nodes' labels are for training, for methods, for audits |
| `held_out_mask` | (n,) which nodes are held out, those without a label too |
| `node_ids`, `classes`, `feature_names`, `edge_classes`, `directed` | as in `GraphData` |
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from models.graph.data import GraphData
from models.graph.records import UNLABELLED


def to_pyg(data: GraphData) -> Data:
    """Return a graph as `Data`; the tensors are shared where they can be."""
    kept, calibration, audit = ~data.held_out_edges, data.calibration(), data.audit()
    relations = data.relations[kept]
    return Data(
        x=data.features,
        edge_index=data.message_edges(),
        y=data.labels,
        edge_type=relations if data.directed else relations.repeat(2),
        val_edge_index=calibration.edges,
        val_edge_type=calibration.relations,
        test_edge_index=audit.edges,
        test_edge_type=audit.relations,
        train_mask=_mask(data, data.training_nodes()),
        val_mask=_mask(data, data.calibration_nodes()),
        test_mask=_mask(data, data.audit_nodes()),
        held_out_mask=data.held_out_nodes,
        node_ids=list(data.node_ids),
        classes=list(data.classes),
        feature_names=list(data.feature_names),
        edge_classes=list(data.edge_classes),
        directed=data.directed,
    )


def from_pyg(data: Data) -> GraphData:
    """Return `Data` as a graph, as far as it says: `x` and `edge_index` are needed, the other fields may be missing.

    Without `node_ids` nodes are called by their number, without `classes` a label is called by its. A graph whose every edge
    is there in both directions is undirected unless `directed` says otherwise. The edges come in the order: training,
    validation, test. Which half of what is held out methods may see is a matter of ids here, not of `val_mask` and
    `test_mask`: both mean held out.

    Raises:
        ValueError: A field is missing, an edge is there twice or leads from a node to itself, or labels and relations
            have no name.
    """
    if data.x is None or data.edge_index is None:
        raise ValueError("the data have no x or no edge_index")
    nodes = int(data.x.shape[0])
    directed = bool(data["directed"]) if "directed" in data else not data.is_undirected()
    labels = data.y.to(torch.int64) if data.y is not None else torch.full((nodes,), UNLABELLED)
    parts = [
        (data.edge_index, _relations(data, "edge_type", data.edge_index), False),
        *(
            (
                data[f"{name}_edge_index"],
                _relations(data, f"{name}_edge_type", data[f"{name}_edge_index"]),
                True,
            )
            for name in ("val", "test")
            if f"{name}_edge_index" in data
        ),
    ]
    edges, relations, held_out = (
        torch.cat([part[0] for part in parts], dim=1),
        torch.cat([part[1] for part in parts]),
        torch.cat([torch.full((part[0].shape[1],), part[2]) for part in parts]),
    )
    kept = _each_once(edges, nodes, directed=directed)
    ends = edges[:, kept] if directed else edges[:, kept].sort(dim=0).values
    return GraphData(
        node_ids=tuple(_given(data, "node_ids", [str(node) for node in range(nodes)])),
        features=data.x.to(torch.float32),
        feature_names=tuple(
            _given(data, "feature_names", [f"f{column}" for column in range(data.x.shape[1])])
        ),
        labels=labels,
        classes=tuple(_given(data, "classes", _numbers(labels))),
        held_out_nodes=_held_out(data, nodes),
        edges=ends,
        held_out_edges=held_out[kept],
        relations=relations[kept],
        edge_classes=tuple(_given(data, "edge_classes", _numbers(relations) if relations.any() else [])),
        directed=directed,
    )


def _mask(data: GraphData, nodes: Tensor) -> Tensor:
    mask = torch.zeros(data.nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask


def _relations(data: Data, name: str, edges: Tensor) -> Tensor:
    if name in data:
        relations: Tensor = data[name].to(torch.int64)
        return relations
    return torch.zeros(edges.shape[1], dtype=torch.int64)


def _held_out(data: Data, nodes: int) -> Tensor:
    held_out = torch.zeros(nodes, dtype=torch.bool)
    for name in ("held_out_mask", "val_mask", "test_mask"):
        if name in data:
            held_out |= data[name].to(torch.bool)
    return held_out


def _each_once(edges: Tensor, nodes: int, *, directed: bool) -> Tensor:
    """Return which edges to keep: of both directions of an undirected one the first."""
    if (edges[0] == edges[1]).any():
        raise ValueError(
            "an edge leads from a node to itself; torch_geometric.utils.remove_self_loops removes it"
        )
    ends = edges if directed else edges.sort(dim=0).values
    keys = ends[0] * nodes + ends[1]
    order = torch.argsort(keys, stable=True)
    again = torch.zeros(len(keys), dtype=torch.bool)
    again[order[1:]] = keys[order][1:] == keys[order][:-1]
    exactly = edges[0] * nodes + edges[1]
    if (exactly.sort().values.diff() == 0).any():
        raise ValueError("an edge is there twice; torch_geometric.utils.coalesce joins them")
    return ~again


def _given(data: Data, name: str, otherwise: Sequence[str]) -> Sequence[str]:
    return [str(value) for value in data[name]] if name in data else otherwise


def _numbers(codes: Tensor) -> list[str]:
    return [str(code) for code in range(int(codes.max()) + 1)] if codes.numel() else []
