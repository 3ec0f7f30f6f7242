import dataclasses

import pytest
import torch

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.objectives import layer_sum
from tests.reference.recommender_data import table

DATA = table([("u1", "i1"), ("u1", "i2"), ("u2", "i2"), ("u3", "i3")], [("u2", "i1")])
GRAPH = InteractionGraph.of(DATA, DATA.users, DATA.items)


def dense(graph):
    ones = torch.zeros(graph.users, graph.items, dtype=torch.float64)
    ones[graph.user_index, graph.item_index] = 1
    return ones / (ones.sum(1).clamp(min=1)[:, None] * ones.sum(0).clamp(min=1)[None, :]).sqrt()


def embeddings(graph, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(graph.users, width, generator=generator),
        torch.randn(graph.items, width, generator=generator),
    )


def test_held_out_interactions_are_no_edges():
    assert len(GRAPH) == 4
    assert GRAPH.user_degrees.tolist() == [2, 1, 1]
    assert GRAPH.item_degrees.tolist() == [1, 2, 1]


def test_a_step_is_a_product_with_the_normalised_matrix():
    users, items = embeddings(GRAPH)
    matrix = dense(GRAPH)
    new_users, new_items = GRAPH.step(users, items)
    torch.testing.assert_close(new_users, (matrix @ items.double()).float())
    torch.testing.assert_close(new_items, (matrix.T @ users.double()).float())


def test_a_layer_sum_and_its_gradient_are_those_of_dense_matrices():
    matrix = dense(GRAPH)
    square = torch.zeros(6, 6, dtype=torch.float64)
    square[:3, 3:], square[3:, :3] = matrix, matrix.T
    operator = torch.eye(6, dtype=torch.float64) + square + square @ square + square @ square @ square
    users, items = (tensor.requires_grad_() for tensor in embeddings(GRAPH))
    summed = torch.cat(layer_sum(GRAPH, users, items, 3))
    torch.testing.assert_close(
        summed.double(), operator @ torch.cat([users, items]).double(), rtol=1e-5, atol=1e-6
    )
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    (summed * weight).sum().backward()
    # The operator is symmetric, so its derivative is itself.
    torch.testing.assert_close(
        torch.cat([users.grad, items.grad]).double(), operator @ weight.double(), rtol=1e-5, atol=1e-6
    )


def test_nodes_without_edges_receive_nothing():
    lonely = InteractionGraph(2, 2, torch.tensor([0]), torch.tensor([1]))
    users, items = lonely.step(torch.ones(2, 3), torch.ones(2, 3))
    assert users.tolist() == [[1.0] * 3, [0.0] * 3]
    assert items.tolist() == [[0.0] * 3, [1.0] * 3]


def test_a_graph_without_edges_passes_nothing():
    nothing = torch.tensor([], dtype=torch.int64)
    users, items = InteractionGraph(2, 2, nothing, nothing).step(torch.ones(2, 3), torch.ones(2, 3))
    assert users.abs().sum() == items.abs().sum() == 0


def test_a_stranger_is_refused_and_a_model_may_know_more():
    with pytest.raises(ValueError, match="1 training interactions are of users or items"):
        InteractionGraph.of(DATA, ("u1", "u2"), DATA.items)
    wider = InteractionGraph.of(DATA, ("u0", *DATA.users), (*DATA.items, "i9"))
    assert (wider.users, wider.items, len(wider)) == (4, 4, 4)
    assert wider.user_index.tolist() == [1, 1, 2, 3]


def test_the_degrees_of_selections_are_their_own():
    fewer = dataclasses.replace(DATA, held_out=torch.tensor([True, False, False, False, False]))
    assert InteractionGraph.of(fewer, DATA.users, DATA.items).user_degrees.tolist() == [1, 2, 1]
