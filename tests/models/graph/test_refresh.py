import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph import refresh as module
from models.graph.adjacency import adjacency_along
from models.graph.configuration import ARCHITECTURES
from models.graph.data import Elements
from models.graph.deletion import Deletion
from models.graph.refresh import LayerCache
from tests.reference.graph_data import edges_of, nodes_of, path_graph
from tests.reference.random_graphs import NONE, Edges, draw_edges, draw_elements, draw_model

WIDTH = 5
NO_EDGES = torch.empty(2, 0, dtype=torch.int64)
NO_FEATURES = torch.empty(0, 2, dtype=torch.int64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cache_of(model, features, edges: Edges, keys=None):
    return LayerCache(
        model, features, adjacency_along(edges.messages, edges.nodes, directed=edges.directed), keys
    )


def cleared(features, elements: Elements):
    left = features.clone()
    left[elements.nodes] = 0.0
    left[elements.features[:, 0], elements.features[:, 1]] = 0.0
    return left


def follow(architecture, seed, *, directed, kind, tolerance, share=None, hidden=(8, 4)):
    """Delete five times, and compare each layer with computing it anew."""
    generator = seeded(seed)
    edges = draw_edges(generator, directed=directed)
    model = draw_model(generator, architecture, WIDTH, hidden=hidden).to(kind)
    features = torch.randn(edges.nodes, WIDTH, generator=generator, dtype=torch.float64).to(kind)
    cache = cache_of(model, features, edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AFRESH_SHARE", module.AFRESH_SHARE if share is None else share)
        for _ in range(5):
            elements = draw_elements(generator, edges, WIDTH)
            cache.apply(cache.refreshed(elements))
            edges, features = edges.without(elements), cleared(features, elements)
            exact = copy.deepcopy(model).double().layer_outputs(features.double(), edges.messages)
            for layer, anew in enumerate(model.layer_outputs(features, edges.messages)):
                # Where computing anew is itself not as exact as that, the refreshed rows need not be either.
                own = 2.0 * (anew - exact[layer]).abs().max()
                bound = max(tolerance * anew.abs().max(), own)
                assert (cache.outputs(layer) - anew).abs().max() <= bound


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(seed=st.integers(0, 10_000), directed=st.booleans())
@settings(max_examples=12, deadline=None)
def test_refreshed_rows_equal_a_full_recomputation_to_1e_12_in_float64(architecture, seed, directed):
    follow(architecture, seed, directed=directed, kind=torch.float64, tolerance=1e-12, hidden=(8, 8, 4))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(seed=st.integers(0, 10_000), directed=st.booleans())
@settings(max_examples=12, deadline=None)
def test_refreshed_rows_equal_a_full_recomputation_to_1e_6_in_float32(architecture, seed, directed):
    follow(architecture, seed, directed=directed, kind=torch.float32, tolerance=1e-6)


@pytest.mark.parametrize("share", [0.0, 10.0], ids=["all added up afresh", "only differences"])
@pytest.mark.parametrize("architecture", ["gcn", "sage", "gin"])
def test_adding_up_afresh_and_adding_differences_agree(architecture, share):
    for seed in range(5):
        follow(architecture, seed, directed=False, kind=torch.float64, tolerance=1e-12, share=share)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_outside_the_neighbourhood_keep_every_bit_and_the_changed_ones_are_named(architecture):
    data = path_graph(40)
    model = draw_model(seeded(), architecture, data.width)
    features = data.features.double()
    cache = LayerCache(model, features, adjacency_along(data.message_edges(), 40, directed=False))
    before = cache.embeddings().clone()
    refresh = cache.refreshed(data.elements(edges_of((20, 21))))
    assert torch.equal(cache.embeddings(), before)
    cache.apply(refresh)
    same = (cache.embeddings() == before).all(dim=1)
    # Two layers carry the change one edge further than the ends; GCN's degrees carry it one more.
    reach = 2 if architecture == "gcn" else 1
    assert refresh.changed.tolist() == list(range(20 - reach, 22 + reach))
    assert sorted((~same).nonzero().flatten().tolist()) == refresh.changed.tolist()
    assert torch.equal(cache.embeddings(torch.tensor([3, 20])), cache.embeddings()[[3, 20]])


def test_one_neighbour_of_a_hub_costs_the_hub_an_addition_and_not_a_walk_over_all_its_messages(monkeypatch):
    leaves = 3000
    star = torch.stack([torch.zeros(leaves, dtype=torch.int64), torch.arange(1, leaves + 1)])
    edges = Edges(leaves + 2, torch.cat([star, torch.tensor([[1], [leaves + 1]])], dim=1), directed=False)
    model = draw_model(seeded(), "gcn", WIDTH)
    cache = cache_of(model, torch.randn(edges.nodes, WIDTH, dtype=torch.float64, generator=seeded()), edges)
    asked = []
    gather = type(cache.adjacency).messages_into
    monkeypatch.setattr(
        type(cache.adjacency), "messages_into", lambda self, rows: asked.append(rows) or gather(self, rows)
    )
    elements = Elements(NONE, torch.tensor([[1], [leaves + 1]]), NO_FEATURES)
    refresh = cache.refreshed(elements)
    assert all(0 not in rows for rows in asked)
    cache.apply(refresh)
    anew = model.encode(cache._features, edges.without(elements).messages)
    torch.testing.assert_close(cache.embeddings(), anew, rtol=1e-12, atol=1e-12)


def test_nothing_of_a_deleted_node_is_left_in_the_cache():
    data = path_graph(6)
    model, features = draw_model(seeded(), "gcn", data.width), data.features.double()
    messages = adjacency_along(data.message_edges(), 6, directed=False)
    other = features.clone()
    other[2] = 100.0
    one, two = (LayerCache(model, given, messages) for given in (features, other))
    for cache in (one, two):
        cache.apply(cache.refreshed(data.elements(nodes_of(2))))
    for layer in range(model.layers):
        torch.testing.assert_close(one.outputs(layer), two.outputs(layer), rtol=1e-12, atol=1e-12)


def test_deletion_operators_are_applied_to_refreshed_rows():
    data = path_graph(8)
    model = draw_model(seeded(), "gcn", data.width)
    keys = torch.arange(8) * 11
    weights = [torch.randn(width, width, generator=seeded(width)) for width in model.config.hidden]
    model = model.with_deletions([Deletion(weights, [keys[2:5], keys[1:6]])]).double()
    features, edges = data.features.double(), Edges(8, data.edges, directed=False)
    cache = cache_of(model, features, edges, keys)
    elements = data.elements(edges_of((3, 4)))
    cache.apply(cache.refreshed(elements))
    anew = model.encode(features, edges.without(elements).messages, keys)
    torch.testing.assert_close(cache.embeddings(), anew, rtol=1e-12, atol=1e-12)


def test_an_empty_request_changes_nothing():
    edges = draw_edges(seeded(), directed=False)
    cache = cache_of(draw_model(seeded(), "sage", WIDTH), torch.ones(30, WIDTH, dtype=torch.float64), edges)
    refresh = cache.refreshed(Elements(NONE, NO_EDGES, NO_FEATURES))
    assert refresh.computed == 0
    cache.apply(refresh)


def test_a_refresh_of_another_state_is_refused():
    edges = draw_edges(seeded(), directed=False)
    cache = cache_of(draw_model(seeded(), "gcn", WIDTH), torch.ones(30, WIDTH, dtype=torch.float64), edges)
    refresh = cache.refreshed(Elements(NONE, edges.ends[:, :1], NO_FEATURES))
    cache.apply(refresh)
    with pytest.raises(ValueError, match="another state"):
        cache.apply(refresh)
