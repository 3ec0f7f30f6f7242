"""Small random graphs with networks that fit them, for methods that look at neighbourhoods."""

import torch

from models.contracts import ForgetSet
from models.graph.configuration import GraphConfig
from models.graph.data import GraphData
from models.graph.elements import edge_record, feature_record, node_record
from models.graph.network import GraphModel, initialise
from tests.reference.random_graphs import draw_edges

WIDTH = 6
CLASSES = ("ant", "bee", "cow")


def little_graph(*, seed: int = 0, directed: bool = False, nodes: int = 60, edges: int = 120) -> GraphData:
    """Draw a graph with a hub, an isolated node, and a fifth of its nodes held out."""
    generator = torch.Generator().manual_seed(seed)
    ends = draw_edges(generator, directed=directed, nodes=nodes, count=edges).ends
    labels = torch.arange(nodes) % len(CLASSES)
    features = torch.randn(nodes, WIDTH, generator=generator)
    features[:, : len(CLASSES)] += 2.0 * torch.nn.functional.one_hot(labels, len(CLASSES))
    return GraphData(
        node_ids=tuple(f"n{place}" for place in range(nodes)),
        features=features,
        feature_names=tuple(f"f{column}" for column in range(WIDTH)),
        labels=labels,
        classes=CLASSES,
        held_out_nodes=torch.arange(nodes) % 5 == 4,
        edges=ends,
        held_out_edges=torch.zeros(ends.shape[1], dtype=torch.bool),
        relations=torch.zeros(ends.shape[1], dtype=torch.int64),
        edge_classes=("knows",),
        directed=directed,
    )


def little_model(
    data: GraphData, architecture: str = "gcn", *, task: str = "link_prediction", seed: int = 1
) -> GraphModel:
    """Draw a network for the graph whose biases are not zero."""
    generator = torch.Generator().manual_seed(seed)
    config = GraphConfig(
        architecture=architecture,
        classes=data.classes if task == "node_classification" else (),
        width=data.width,
        nodes=data.nodes,
        edges=data.message_edges().shape[1],
        seed=seed,
        recipe={"architecture": architecture, "task": task, "hidden": (8, 4)},
    )
    model = initialise(config, generator)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def edges_at(data: GraphData, *places: int) -> ForgetSet:
    """Ask for the edges that stand at these places."""
    names = (
        edge_record(data.node_ids[one], data.node_ids[other], directed=data.directed)
        for one, other in data.edges[:, list(places)].T.tolist()
    )
    return ForgetSet(tuple(sorted(names)))


def some_of_each(data: GraphData) -> ForgetSet:
    """Ask for two edges, two nodes and a feature of a third."""
    names = [
        *edges_at(data, -1, -5).record_ids,
        node_record("n3"),
        node_record("n11"),
        feature_record("n7", "f1"),
    ]
    return ForgetSet(tuple(sorted(names)))
