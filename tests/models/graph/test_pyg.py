import dataclasses

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from models.graph.data import GraphData
from models.graph.pyg import from_pyg, to_pyg
from tests.reference.graph_data import path_graph


def held_out(graph: GraphData) -> GraphData:
    return dataclasses.replace(
        graph,
        held_out_nodes=torch.arange(graph.nodes) % 3 == 0,
        held_out_edges=torch.arange(graph.nodes - 1) % 4 == 1,
    )


def fields(graph: GraphData) -> dict[str, object]:
    return {
        field.name: value.tolist() if isinstance(value := getattr(graph, field.name), torch.Tensor) else value
        for field in dataclasses.fields(graph)
    }


def in_edge_order(graph: GraphData) -> GraphData:
    """Return the graph with the edges in the order in which they come back: training, validation, test."""
    order = torch.cat(
        [
            (~graph.held_out_edges).nonzero().flatten(),
            *(
                torch.tensor(
                    [graph.edges.T.tolist().index(edge) for edge in part.T.tolist()], dtype=torch.int64
                )
                for part in (graph.calibration_edges(), graph.audit_edges())
            ),
        ]
    )
    return dataclasses.replace(
        graph,
        edges=graph.edges[:, order],
        held_out_edges=graph.held_out_edges[order],
        relations=graph.relations[order],
    )


@pytest.mark.parametrize("directed", [False, True])
def test_a_graph_goes_and_comes_back(directed):
    graph = held_out(path_graph(40, directed=directed))
    assert fields(from_pyg(to_pyg(graph))) == fields(in_edge_order(graph))


def test_the_fields_are_those_that_geometric_models_read():
    graph = held_out(path_graph(40))
    data = to_pyg(graph)
    data.validate()
    assert data.num_nodes == 40
    assert data.is_undirected()
    assert data.edge_index.shape[1] == len(data.edge_type) == 2 * int((~graph.held_out_edges).sum())
    assert torch.equal(data.train_mask | data.val_mask | data.test_mask, torch.ones(40, dtype=torch.bool))
    assert torch.equal(data.val_mask | data.test_mask, graph.held_out_nodes)


def test_data_that_say_little_are_a_graph_too():
    edges = to_undirected(torch.tensor([[0, 1], [1, 2]]))
    graph = from_pyg(Data(x=torch.ones(3, 2), edge_index=edges, y=torch.tensor([1, 0, 1])))
    assert graph.node_ids == ("0", "1", "2")
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert (graph.classes, graph.edge_classes, graph.directed) == (("0", "1"), (), False)
    assert from_pyg(Data(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))).directed


@pytest.mark.parametrize(("edges", "message"), [([[0, 0], [1, 1]], "twice"), ([[0], [0]], "to itself")])
def test_graphs_that_cannot_be_are_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        from_pyg(Data(x=torch.ones(3, 2), edge_index=torch.tensor(edges)))


def test_data_without_features_are_refused():
    with pytest.raises(ValueError, match="no x"):
        from_pyg(Data(edge_index=torch.zeros(2, 0, dtype=torch.int64)))
