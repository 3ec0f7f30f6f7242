import copy

import pytest
import torch

from models.graph.adjacency import messages_along
from models.graph.configuration import ARCHITECTURES, GraphConfig
from models.graph.deletion import Deletion
from models.graph.network import GraphModel, initialise
from models.graph.sparse import SparseMatrix
from tests.reference.graph_data import path_graph
from tests.reference.random_graphs import draw_edges, draw_model

WIDTH = 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def case(architecture, *, directed=True, hidden=(8, 4)):
    """A float64 model, features and edges with a hub and a node without edges."""
    edges = draw_edges(seeded(1), directed=directed)
    model = draw_model(seeded(2), architecture, WIDTH, hidden=hidden)
    return model, torch.randn(edges.nodes, WIDTH, generator=seeded(3), dtype=torch.float64), edges.messages


def by_pyg(model: GraphModel, features, messages):
    """Return every layer's output as PyTorch Geometric computes it: message by message."""
    outputs = []
    for layer, conv in enumerate(model.convs):
        features = conv(features, messages)
        features = features.relu() if layer + 1 < model.layers else features
        outputs.append(features)
    return outputs


@pytest.mark.parametrize("directed", [True, False], ids=["directed", "undirected"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_layer_gives_what_pytorch_geometric_gives(architecture, directed):
    model, features, messages = case(architecture, directed=directed, hidden=(8, 8, 4))
    for ours, theirs in zip(
        model.layer_outputs(features, messages), by_pyg(model, features, messages), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_and_second_derivatives_are_those_of_pytorch_geometric(architecture):
    model, features, messages = case(architecture)
    model = model.trainable()
    weights = list(model.parameters())

    def derivatives(embeddings):
        first = torch.autograd.grad(embeddings.square().sum(), weights, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), weights)
        return [*first, *second]

    ours = derivatives(model.encode(features, messages))
    theirs = derivatives(by_pyg(model, features, messages)[-1])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bags_of_words_take_the_sparse_way_to_the_same_outputs(architecture):
    model, features, messages = case(architecture)
    words = (features > 1.5).double()
    sparse = model.inputs(words)
    assert isinstance(sparse, SparseMatrix)
    assert isinstance(model.inputs(features), torch.Tensor)
    torch.testing.assert_close(model.encode(words, messages), by_pyg(model, words, messages)[-1])
    torch.testing.assert_close(model.encode(sparse, messages), by_pyg(model, words, messages)[-1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_messages_into_some_nodes_give_their_rows_alone(architecture):
    from models.graph.adjacency import adjacency_along

    model, features, messages = case(architecture)
    local, sources = adjacency_along(messages, 30, directed=True).messages_into(torch.tensor([7, 0, 29]))
    whole = model.convolve(0, features, messages)
    torch.testing.assert_close(model.convolve(0, features[sources], local), whole[[7, 0, 29]])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_graph_without_edges_and_one_without_nodes_have_outputs(architecture):
    model, features, _ = case(architecture)
    none = torch.empty(2, 0, dtype=torch.int64)
    assert model.encode(features, none).isfinite().all()
    assert model.encode(features[:0], none).shape == (0, 4)


def test_attention_survives_scores_that_an_exponential_does_not():
    model, features, messages = case("gat")
    torch.testing.assert_close(
        model.encode(features * 1e4, messages), by_pyg(model, features * 1e4, messages)[-1]
    )


def test_nothing_is_remembered_from_one_graph_to_the_next():
    model, features, messages = case("gcn")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = model.encode(features, messages)
    fewer = model.encode(features, messages[:, 5:])
    assert not torch.equal(first, fewer)
    assert torch.equal(model.encode(features, messages), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules())


def test_models_are_frozen_and_copies_train_apart_from_them():
    model, features, messages = case("gcn")
    trained = model.trainable()
    assert not model.encode(features, messages).requires_grad
    trained.encode(features, messages).sum().backward()
    with torch.no_grad():
        next(trained.parameters()).zero_()
    kept = trained.frozen()
    assert not any(parameter.requires_grad for parameter in kept.parameters())
    assert next(model.parameters()).abs().sum() > 0
    assert next(kept.parameters()).abs().sum() == 0


def test_making_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    draw_model(seeded(), "gat", WIDTH)
    assert torch.equal(torch.rand(1), expected)


def test_the_seed_decides_the_first_weights():
    config = draw_model(seeded(), "sage", WIDTH).config
    one, same, other = (initialise(config, seeded(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["convs.0.lin_l.weight"], other["convs.0.lin_l.weight"])


def test_a_link_is_scored_by_the_inner_product():
    model, *_ = case("gcn")
    embeddings = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
    assert model.edge_logits(embeddings, torch.tensor([[0, 2], [1, 0]])).tolist() == [1.0, 1.5]
    with pytest.raises(ValueError, match="no classes"):
        model.node_logits(embeddings)


def test_features_of_another_width_and_messages_of_other_nodes_are_refused():
    model, features, messages = case("gcn")
    with pytest.raises(ValueError, match=r"shape \(n, 5\)"):
        model.encode(features[:, :4], messages)
    with pytest.raises(ValueError, match="cannot be the 40 nodes"):
        model.convolve(0, features, messages_along(messages, 40))


def test_deletion_operators_change_the_rows_of_their_nodes_and_want_to_know_them():
    model, features, messages = case("gcn")
    keys = torch.arange(30)
    weights = [2.0 * torch.eye(width) for width in (8, 4)]
    changed = model.with_deletions([Deletion(weights, [keys[:0], keys[3:4]])]).double()
    plain, bent = model.encode(features, messages), changed.encode(features, messages, keys)
    assert torch.equal(bent[3], 2.0 * plain[3])
    assert torch.equal(bent[keys != 3], plain[keys != 3])
    assert changed.config.deletions == 1
    with pytest.raises(ValueError, match="whose rows"):
        changed.encode(features, messages)
    again = changed.with_deletions([])
    assert torch.equal(again.encode(features, messages), plain)


def test_a_graphs_embeddings_follow_its_training_edges():
    data = path_graph(6)
    model = draw_model(seeded(), "gcn", data.width).float()
    held = copy.copy(data)
    object.__setattr__(held, "held_out_edges", torch.tensor([True, False, False, False, False]))
    assert torch.equal(model.embeddings(held), model.encode(data.features, held.message_edges()))
    assert not torch.equal(model.embeddings(held), model.embeddings(data))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_configuration_counts_the_weights(architecture):
    config = GraphConfig(
        architecture=architecture,
        classes=("a", "b", "c"),
        width=WIDTH,
        nodes=10,
        edges=4,
        seed=0,
        recipe={"architecture": architecture, "task": "node_classification", "hidden": (8, 4)},
    )
    model = initialise(config, seeded())
    assert config.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert model.node_logits(torch.zeros(2, 4)).shape == (2, 3)
