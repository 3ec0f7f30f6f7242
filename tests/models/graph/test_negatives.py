import pytest
import torch

from models.graph.negatives import NegativeSampler
from tests.reference.random_graphs import draw_edges


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("directed", [False, True])
def test_no_draw_is_a_positive_nor_a_node_with_itself(directed):
    edges = draw_edges(seeded(), directed=directed, nodes=12, count=60)
    pairs = NegativeSampler(edges.ends, 12, directed=directed).sample(5000, seeded(1))
    assert pairs.shape == (2, 5000)
    assert not edges.dense[pairs[1], pairs[0]].any()
    assert (pairs[0] != pairs[1]).all()
    assert directed or (pairs[0] < pairs[1]).all()


@pytest.mark.parametrize("directed", [False, True])
def test_every_pair_without_an_edge_is_drawn_about_equally_often(directed):
    edges = draw_edges(seeded(2), directed=directed, nodes=8, count=20)
    pairs = NegativeSampler(edges.ends, 8, directed=directed).sample(20_000, seeded(3))
    drawn = torch.bincount(pairs[0] * 8 + pairs[1], minlength=64).reshape(8, 8).double()
    free = (1.0 - edges.dense.T) * (1.0 - torch.eye(8))
    free = free if directed else free.triu()
    expected = 20_000 / free.sum()
    assert torch.equal(drawn > 0, free > 0)
    # Five standard deviations of a count.
    assert ((drawn - expected)[free > 0].abs() < 5 * expected.sqrt()).all()


def test_the_only_free_pair_of_a_nearly_complete_graph_is_found():
    ends = torch.combinations(torch.arange(60)).T
    sampler = NegativeSampler(ends[:, 1:], 60, directed=False)
    assert sampler.sample(3, seeded()).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_both_directions_of_an_undirected_edge_and_repeats_are_one_positive():
    ends = torch.tensor([[0, 1, 0], [1, 0, 1]])
    assert NegativeSampler(ends, 3, directed=False).sample(50, seeded()).unique(dim=1).T.tolist() == [
        [0, 2],
        [1, 2],
    ]


@pytest.mark.parametrize(("nodes", "directed"), [(0, False), (1, True), (2, False)])
def test_a_complete_graph_is_refused(nodes, directed):
    ends = torch.combinations(torch.arange(nodes)).T.reshape(2, -1)
    with pytest.raises(ValueError, match="every pair of nodes"):
        NegativeSampler(ends, nodes, directed=directed)


def test_the_seed_decides_and_none_are_none():
    sampler = NegativeSampler(torch.tensor([[0], [1]]), 50, directed=False)
    assert torch.equal(sampler.sample(20, seeded(4)), sampler.sample(20, seeded(4)))
    assert not torch.equal(sampler.sample(20, seeded(4)), sampler.sample(20, seeded(5)))
    assert sampler.sample(0, seeded()).shape == (2, 0)
