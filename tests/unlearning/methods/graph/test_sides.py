import dataclasses

import pytest
import torch

from models.contracts import ForgetSet
from models.graph.elements import edge_record, feature_record, node_record
from models.graph.network import GraphModel
from tests.reference.graph_data import edges_of, nodes_of, path_graph
from tests.reference.small_graph_case import (
    ARCHITECTURES,
    LINKS,
    NODES,
    drawn_graph,
    some_edges,
    some_nodes,
    trained,
)
from unlearning.errors import MethodError
from unlearning.methods.graph.sides import Sides
from unlearning.methods.graph.student import Scene

FEATURE = [feature_record("n2", "f1")]


def sides(records, task=LINKS, **graph) -> Sides:
    model = trained(task)
    known = dataclasses.replace(path_graph(**graph), classes=("a", "b"))
    return Sides.of(model, known, ForgetSet(tuple(sorted(records))))


def pairs(tensor) -> list[tuple[int, ...]]:
    return [tuple(pair) for pair in tensor.T.tolist()]


def test_an_edge_goes_from_messages_and_from_what_is_learned():
    """Of n0-n1-n2-n3-n4-n5 the edge n1-n2 goes: four edges stay."""
    divided = sides(edges_of((1, 2)))
    assert pairs(divided.forgotten_edges) == [(1, 2)]
    assert pairs(divided.retained_edges) == [(0, 1), (2, 3), (3, 4), (4, 5)]
    assert {(1, 2), (2, 1)}.isdisjoint(pairs(divided.stage.message_edges))
    assert len(divided.stage.features) == 6
    assert divided.touched
    assert divided.asks


def test_a_link_predictor_forgets_a_deleted_nodes_edges_and_its_ghost_hears_nobody():
    """Without n2 the others are numbered 0 to 4 anew, and n2's ghost is number 5."""
    divided = sides(nodes_of(2))
    assert pairs(divided.forgotten_edges) == [(1, 5), (5, 2)]
    assert divided.stage.node_ids == ("n0", "n1", "n3", "n4", "n5", "n2")
    assert divided.stage.features[5].tolist() == [5.0, 6.0]
    assert 5 not in divided.stage.message_edges
    assert not len(divided.forgotten_nodes)


def test_a_classifier_forgets_a_deleted_nodes_label_and_its_ghost_hears_its_neighbours_unheard():
    divided = sides(nodes_of(2), NODES)
    assert divided.forgotten_nodes.tolist() == [5]
    assert divided.labels[5] == 0
    heard = [pair for pair in pairs(divided.stage.message_edges) if 5 in pair]
    assert sorted(heard) == [(1, 5), (2, 5)]
    assert not divided.forgotten_edges.shape[1]


def test_a_feature_goes_and_a_ghost_replays_it():
    """n2 stays with the feature 0; its ghost, number 6, still has it and hears n1 and n3."""
    divided = sides(FEATURE, NODES)
    assert divided.stage.features[2].tolist() == [5.0, 0.0]
    assert divided.stage.features[6].tolist() == [5.0, 6.0]
    assert divided.replayed_nodes.tolist() == [[6], [2]]
    assert sorted(pair for pair in pairs(divided.stage.message_edges) if 6 in pair) == [(1, 6), (3, 6)]
    linked = sides(FEATURE)
    assert pairs(linked.replayed_edges) == [(6, 3), (1, 6)]
    assert pairs(linked.replayed_twins) == [(2, 3), (1, 2)]
    assert not linked.replayed_nodes.numel()


def test_a_directed_edge_carries_messages_one_way():
    divided = sides([edge_record("n1", "n2", directed=True)], directed=True)
    assert pairs(divided.stage.message_edges) == [(0, 1), (2, 3), (3, 4), (4, 5)]


def test_an_isolated_node_was_never_an_example_of_link_prediction():
    alone = path_graph().without(edges_of((0, 1)))
    divided = Sides.of(trained(LINKS), alone, ForgetSet(tuple(nodes_of(0))))
    assert not divided.touched


def test_the_order_of_the_forget_set_is_irrelevant_and_what_is_not_there_refused():
    records = (*edges_of((1, 2)), *nodes_of(4))
    one = Sides.of(trained(LINKS), path_graph(), ForgetSet(records))
    other = Sides.of(trained(LINKS), path_graph(), ForgetSet(records[::-1]))
    assert torch.equal(one.forgotten_edges, other.forgotten_edges)
    with pytest.raises(MethodError, match="2 of the records"):
        sides([*nodes_of(7), "node:node:1"])


def test_held_out_things_are_on_neither_side():
    data = drawn_graph(LINKS)
    names = data.node_ids
    held_out = [
        edge_record(names[u], names[v], directed=False) for u, v in data.calibration_edges().T.tolist()[:3]
    ]
    divided = Sides.of(trained(LINKS), data.for_methods(), ForgetSet(tuple(held_out)))
    assert not divided.touched
    assert not divided.asks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", [LINKS, NODES])
def test_retained_nodes_are_embedded_as_on_the_retained_graph(task, architecture):
    data, model = drawn_graph(task), trained(task, architecture)
    asked = ForgetSet((*some_edges(data, 3), *some_nodes(data, 4)))
    divided = Sides.of(model, data, asked)
    retained = data.without(asked.record_ids)
    staged = Scene.of(model, divided.stage).embed(model)
    torch.testing.assert_close(staged[: retained.nodes], model.embeddings(retained), rtol=1e-5, atol=1e-6)
    assert retained.node_ids == divided.stage.node_ids[: retained.nodes]
    assert torch.equal(data.features[divided.sources], retained.features)
    assert node_record(divided.stage.node_ids[-1]) in asked.record_ids
    assert isinstance(model, GraphModel)
