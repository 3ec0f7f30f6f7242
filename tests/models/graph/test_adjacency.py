import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph import adjacency as module
from models.graph.adjacency import adjacency_along, adjacency_of, messages_along
from models.graph.data import Elements
from tests.reference.graph_data import path_graph
from tests.reference.random_graphs import NONE, Edges, draw_edges, draw_elements


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def along(edges: Edges):
    return adjacency_along(edges.messages, edges.nodes, directed=edges.directed)


def of(*, nodes=NONE, edges=None):
    ends = torch.empty(2, 0, dtype=torch.int64) if edges is None else torch.tensor(edges)
    return Elements(torch.as_tensor(nodes), ends, torch.empty(0, 2, dtype=torch.int64))


def agree(adjacency, edges: Edges) -> bool:
    """Whether the messages are these, forwards and backwards."""
    incoming, whole = adjacency.messages().incoming, torch.eye(edges.nodes)
    return torch.equal(incoming @ whole, edges.dense) and torch.equal(
        incoming.transposed @ whole, edges.dense.T
    )


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["rows written anew", "rows replaced"])
@given(seed=st.integers(0, 10_000), directed=st.booleans())
@settings(max_examples=25, deadline=None)
def test_request_after_request_the_messages_are_those_of_what_is_left(share, seed, directed):
    generator = seeded(seed)
    edges = draw_edges(generator, directed=directed)
    adjacency = along(edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "REBUILD_SHARE", share)
        for _ in range(4):
            assert agree(adjacency, edges)
            before, kept = adjacency, edges
            elements = draw_elements(generator, edges, width=2)
            adjacency, edges = adjacency.without(elements), edges.without(elements)
            assert agree(before, kept)
    assert agree(adjacency, edges)


@given(seed=st.integers(0, 10_000), directed=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_walk_reaches_what_the_powers_of_the_matrix_reach(seed, directed):
    generator = seeded(seed)
    edges = draw_edges(generator, directed=directed, count=30)
    seeds = torch.randint(30, (3,), generator=generator)
    there = torch.zeros(30)
    there[seeds] = 1.0
    for found in along(edges).reached(seeds, 3):
        assert torch.equal(found, there.nonzero().flatten())
        there = ((edges.dense @ there + there) > 0).float()


@given(seed=st.integers(0, 10_000), directed=st.booleans())
@settings(max_examples=25, deadline=None)
def test_messages_into_some_nodes_are_their_rows_with_whole_degrees(seed, directed):
    generator = seeded(seed)
    edges = draw_edges(generator, directed=directed)
    adjacency = along(edges).without(of(edges=edges.ends[:, :2].tolist()))
    dense = edges.without(of(edges=edges.ends[:, :2].tolist())).dense
    targets = torch.randperm(30, generator=generator)[:5]
    messages, sources = adjacency.messages_into(targets)
    assert torch.equal(sources[:5], targets)
    assert torch.equal(messages.incoming @ torch.eye(len(sources)), dense[targets][:, sources])
    assert torch.equal(messages.degrees, dense.sum(dim=1).long()[sources])


def test_taking_out_an_edge_leaves_the_rows_of_others_where_they_are():
    edges = draw_edges(seeded(), directed=False, nodes=500, count=2000)
    adjacency = along(edges)
    less = adjacency.without(of(edges=edges.ends[:, :1].tolist()))
    assert less.incoming.columns.data_ptr() == adjacency.incoming.columns.data_ptr()
    assert sorted(less.incoming.replaced) == edges.ends[:, 0].tolist()


def test_both_directions_of_an_undirected_edge_name_one_and_the_absent_are_ignored():
    adjacency = adjacency_of(path_graph(4))
    once = adjacency.removed_messages(of(edges=[[2], [1]]))
    assert once.T.tolist() == [[1, 2], [2, 1]]
    assert adjacency.removed_messages(of(edges=[[1, 2, 0], [2, 1, 3]])).T.tolist() == once.T.tolist()
    assert adjacency.removed_messages(of()).shape == (2, 0)


def test_one_direction_of_a_directed_edge_leaves_the_other():
    adjacency = adjacency_along(torch.tensor([[0, 1], [1, 0]]), 2, directed=True)
    left = adjacency.without(of(edges=[[0], [1]]))
    assert (left.messages().incoming @ torch.eye(2)).tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_a_node_takes_its_messages_along_and_an_isolated_one_none():
    adjacency = adjacency_of(path_graph(4)).without(of(nodes=[1]))
    assert adjacency.degrees(torch.arange(4)).tolist() == [0, 0, 1, 1]
    assert adjacency.without(of(nodes=[1])).degrees(torch.arange(4)).tolist() == [0, 0, 1, 1]
    assert adjacency.reached(torch.tensor([1]), 2)[-1].tolist() == [1]


def test_an_edge_from_a_node_to_itself_carries_no_message():
    assert messages_along(torch.tensor([[0, 1], [0, 0]]), 2).incoming.columns.tolist() == [1]


@pytest.mark.parametrize("end", [-1, 3])
def test_an_end_that_is_no_node_is_refused(end):
    with pytest.raises(ValueError, match="not one of the 3 nodes"):
        adjacency_along(torch.tensor([[0], [end]]), 3, directed=True)
