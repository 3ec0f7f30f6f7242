"""Small graph networks that have memorised what they learned, for tests of methods that make them forget."""

import functools

import torch

from models.contracts import ForgetSet
from models.graph import architectures
from models.graph.data import GraphData
from models.graph.elements import edge_record, feature_record, node_record
from models.graph.network import GraphModel
from tests.reference.classifier_data import silent
from unlearning.catalog import graph as catalog

LINKS, NODES = "link_prediction", "node_classification"
ARCHITECTURES = ("gcn", "gat", "gin", "sage")
SPECS = {spec.name: spec for spec in catalog.METHODS}


@functools.cache
def drawn_graph(task: str, nodes: int = 160, width: int = 24) -> GraphData:
    """Return nodes of three classes with words and neighbours mostly of their own; a quarter is held out."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (nodes,), generator=generator)
    like = labels[:, None] == labels[None, :]
    edges = torch.rand(nodes, nodes, generator=generator) < torch.where(like, 0.07, 0.01)
    pairs = edges.triu(1).nonzero().T.contiguous()
    own = (torch.arange(width) % 3)[None, :] == labels[:, None]
    words = torch.rand(nodes, width, generator=generator) < torch.where(own, 0.3, 0.15)
    held_nodes, held_edges = (torch.zeros(count, dtype=torch.bool) for count in (nodes, pairs.shape[1]))
    held = held_edges if task == LINKS else held_nodes
    held[torch.randperm(len(held), generator=generator)[: len(held) // 4]] = True
    return GraphData(
        node_ids=tuple(f"n{index}" for index in range(nodes)),
        features=words.float(),
        feature_names=tuple(f"w{index}" for index in range(width)),
        labels=labels,
        classes=("a", "b", "c"),
        held_out_nodes=held_nodes,
        edges=pairs,
        held_out_edges=held_edges,
        relations=torch.arange(pairs.shape[1]) % 2,
        edge_classes=("r", "s"),
        directed=False,
    )


@functools.cache
def trained(task: str, architecture: str = "gcn", seed: int = 1) -> GraphModel:
    """Return a network trained for long enough to remember single edges and nodes."""
    recipe = {
        "architecture": architecture,
        "task": task,
        "hidden": (16, 8),
        "epochs": 80,
        "patience": 80,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "learning_rate": 0.02,
        **({"heads": 2} if architecture == "gat" else {}),
    }
    # Without a score the last epoch is kept, which remembers most.
    data = drawn_graph(task).training()
    return architectures.train(data, recipe, seed=seed, progress=silent)


def some_edges(data: GraphData, count: int = 12) -> tuple[str, ...]:
    """Return record ids of training edges, spread over the graph."""
    known = data.training_edges()
    names = data.node_ids
    pairs = known[:, :: max(1, known.shape[1] // count)][:, :count]
    return tuple(sorted(edge_record(names[u], names[v], directed=data.directed) for u, v in pairs.T.tolist()))


def some_nodes(data: GraphData, count: int = 8) -> tuple[str, ...]:
    """Return record ids of training nodes, spread over the graph."""
    places = data.training_nodes()[:: max(1, len(data.training_nodes()) // count)][:count]
    return tuple(sorted(node_record(data.node_ids[place]) for place in places.tolist()))


def some_features(data: GraphData, count: int = 6) -> tuple[str, ...]:
    """Return record ids of features that are there, one for each of some training nodes."""
    places = data.training_nodes()[:count].tolist()
    return tuple(
        sorted(
            feature_record(data.node_ids[place], data.feature_names[int(data.features[place].argmax())])
            for place in places
        )
    )


def usual(task: str) -> tuple[str, ...]:
    """Return what the task is mostly asked to forget: edges, or nodes."""
    return some_edges(drawn_graph(task)) if task == LINKS else some_nodes(drawn_graph(task))


def forget(
    method: str,
    record_ids: tuple[str, ...] | None = None,
    *,
    task: str = LINKS,
    architecture: str = "gcn",
    classes: tuple[str, ...] = (),
    data: GraphData | None = None,
    model: GraphModel | None = None,
    seed: int = 3,
    progress=silent,
    **parameters,
) -> GraphModel:
    """Run a method as the pipeline does: without the audit half."""
    spec = SPECS[method]
    return spec.load()(
        model or trained(task, architecture),
        (data or drawn_graph(task)).for_methods(),
        ForgetSet(usual(task) if record_ids is None else tuple(record_ids), classes),
        spec.configure(parameters),
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )


def same_bits(model: GraphModel, other: GraphModel) -> bool:
    """Whether all weights and buffers are equal, bit by bit."""
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
