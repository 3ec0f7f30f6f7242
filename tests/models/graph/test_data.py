import dataclasses

import pytest
import torch

from models.graph.data import GraphData
from models.graph.elements import feature_record
from models.holdout import in_audit_half
from tests.reference.graph_data import edges_of, nodes_of, path_graph


def held_out(graph: GraphData, nodes: slice, edges: slice) -> GraphData:
    """Hold some nodes and edges out."""
    hidden_nodes, hidden_edges = graph.held_out_nodes.clone(), graph.held_out_edges.clone()
    hidden_nodes[nodes] = hidden_edges[edges] = True
    return dataclasses.replace(graph, held_out_nodes=hidden_nodes, held_out_edges=hidden_edges)


def test_records_are_nodes_then_edges():
    graph = path_graph(3)
    assert graph.ids == ("node:n0", "node:n1", "node:n2", 'edge:["n0","n1"]', 'edge:["n1","n2"]')
    assert len(graph) == 5
    assert graph.positions['edge:["n1","n2"]'] == 4


def test_a_deleted_node_takes_its_edges_along_and_positions_are_renumbered():
    graph = path_graph(5)
    left = graph.without(nodes_of(1))
    assert left.node_ids == ("n0", "n2", "n3", "n4")
    assert left.edges.tolist() == [[1, 2], [2, 3]]  # n2-n3, n3-n4
    assert left.relations.tolist() == [0, 1]
    assert left.labels.tolist() == [0, 0, 1, 0]
    assert torch.equal(left.features, graph.features[[0, 2, 3, 4]])
    assert graph.nodes == 5


def test_a_deleted_edge_leaves_its_ends():
    left = path_graph(4).without(edges_of((2, 1), (7, 8)))
    assert left.nodes == 4
    assert left.edges.tolist() == [[0, 2], [1, 3]]


def test_the_other_direction_is_another_edge_of_a_directed_graph():
    graph = path_graph(3, directed=True)
    assert len(graph.without(edges_of((1, 0), directed=True))) == len(graph)
    assert len(graph.without(edges_of((0, 1), directed=True))) == len(graph) - 1


def test_a_removed_feature_is_zero_and_missing_from_then_on():
    graph = path_graph(3)
    name = feature_record("n1", "f0")
    left = graph.without([name, feature_record("n9", "f0"), feature_record("n1", "f9")])
    assert left.features.tolist() == [[1.0, 2.0], [0.0, 4.0], [5.0, 6.0]]
    assert left.removed_features == {("n1", "f0")}
    assert graph.missing([name]) == []
    assert left.missing([name]) == [name]
    assert left.elements([name]).features.tolist() == []
    assert left.without(nodes_of(1)).removed_features == frozenset()


def test_missing_records_keep_their_order():
    asked = [*nodes_of(9, 1), "r7", *edges_of((0, 1), (0, 2)), feature_record("n1", "f9")]
    assert path_graph(3).missing(asked) == [asked[0], "r7", asked[4], asked[5]]


def test_elements_are_positions():
    graph = path_graph(5)
    found = graph.elements([*nodes_of(3, 1, 8), *edges_of((4, 3), (0, 1)), feature_record("n2", "f1")])
    assert found.nodes.tolist() == [1, 3]
    assert found.edges.tolist() == [[0, 3], [1, 4]]
    assert found.features.tolist() == [[2, 1]]
    assert graph.incident_edges(found.nodes).tolist() == [True, True, True, True]
    assert graph.incident_edges(torch.tensor([0])).tolist() == [True, False, False, False]


def test_a_selection_holds_an_edge_only_with_both_ends():
    chosen = path_graph(5).only([*nodes_of(0, 1, 2), *edges_of((0, 1), (2, 3))])
    assert chosen.node_ids == ("n0", "n1", "n2")
    assert chosen.edges.tolist() == [[0], [1]]


def test_messages_pass_both_ways_only_where_edges_have_no_direction():
    assert path_graph(3).message_edges().tolist() == [[0, 1, 1, 2], [1, 2, 0, 1]]
    assert path_graph(3, directed=True).message_edges().tolist() == [[0, 1], [1, 2]]


def test_held_out_nodes_keep_features_and_edges_but_not_their_label():
    graph = held_out(path_graph(6), slice(4, 6), slice(0, 1))
    training = graph.training()
    assert training.node_ids == graph.node_ids
    assert torch.equal(training.features, graph.features)
    assert training.labels.tolist() == [0, 1, 0, 1, -1, -1]
    assert training.training_nodes().tolist() == [0, 1, 2, 3]
    assert training.edges.tolist() == graph.edges[:, 1:].tolist()


def test_held_out_edges_carry_no_messages():
    graph = held_out(path_graph(6), slice(0), slice(0, 2))
    assert graph.message_edges().shape == (2, 6)
    assert graph.message_edges().min() == 2


def test_the_halves_follow_the_record_ids_whatever_is_beside_them():
    graph = held_out(path_graph(80), slice(10, 70), slice(5, 70))
    nodes, edges = graph.audit_nodes(), graph.audit_edges()
    assert all(in_audit_half(name) for name in nodes_of(*nodes.tolist()))
    assert all(in_audit_half(name) for name in edges_of(*edges.T.tolist()))
    assert len(nodes) + len(graph.calibration_nodes()) == 60
    assert edges.shape[1] + graph.calibration_edges().shape[1] == 65
    assert min(len(nodes), len(graph.calibration_nodes())) > 10
    fewer = graph.without(nodes_of(*range(10, 30)))
    assert {fewer.node_ids[place] for place in fewer.audit_nodes().tolist()} == {
        f"n{place}" for place in nodes.tolist() if place >= 30
    }


def test_methods_never_receive_labels_or_edges_of_the_audit_half():
    graph = held_out(path_graph(80), slice(10, 70), slice(5, 70))
    visible = graph.for_methods()
    assert len(visible.audit_nodes()) == 0
    assert visible.audit_edges().shape[1] == 0
    assert (visible.labels[graph.audit_nodes()] == -1).all()
    assert torch.equal(visible.calibration_nodes(), graph.calibration_nodes())
    assert torch.equal(visible.calibration_edges(), graph.calibration_edges())
    assert torch.equal(visible.message_edges(), graph.message_edges())
    assert torch.equal(graph.calibration().calibration_edges(), graph.calibration_edges())
    assert torch.equal(graph.audit().audit_nodes(), graph.audit_nodes())


def test_the_digest_tells_apart_what_training_depends_on_and_nothing_else():
    graph = held_out(path_graph(80), slice(10, 70), slice(5, 70))
    digest = graph.training_digest()
    assert graph.for_methods().training_digest() == digest
    relabelled = graph.labels.clone()
    relabelled[graph.audit_nodes()] = 0
    assert dataclasses.replace(graph, labels=relabelled).training_digest() == digest
    for left in (
        graph.without(nodes_of(3)),
        graph.without(edges_of((3, 4))),
        graph.without([feature_record("n3", "f0")]),
        graph.without(edges_of(tuple(graph.calibration_edges()[:, 0].tolist()))),
        dataclasses.replace(graph, labels=graph.labels.roll(1)),
        dataclasses.replace(graph, relations=graph.relations.roll(1)),
        dataclasses.replace(graph, directed=True),
    ):
        assert left.training_digest() != digest


def test_changes_name_what_to_unlearn_and_what_to_learn():
    graph = path_graph(6)
    features, labels, relations = graph.features.clone(), graph.labels.clone(), graph.relations.clone()
    features[1] += 1.0
    labels[2] = 1
    relations[4] = 1
    target = dataclasses.replace(graph, features=features, labels=labels, relations=relations)
    target = target.without([*edges_of((0, 1)), *nodes_of(3)])
    assert graph.changes_to(target) == (
        (*nodes_of(1, 2, 3), *edges_of((0, 1), (2, 3), (3, 4), (4, 5))),
        (*nodes_of(1, 2), *edges_of((4, 5))),
    )
    assert graph.changes_to(graph) == ((), ())


def test_changes_do_not_depend_on_the_order_of_nodes_and_classes():
    graph = path_graph(4)
    backwards = dataclasses.replace(
        graph,
        node_ids=graph.node_ids[::-1],
        features=graph.features.flip(0),
        labels=1 - graph.labels.flip(0),
        classes=graph.classes[::-1],
        edges=(3 - graph.edges).flip(0),
    )
    assert graph.changes_to(backwards) == ((), ())


def test_a_node_that_becomes_held_out_loses_its_label():
    graph = path_graph(6)
    assert graph.changes_to(held_out(graph, slice(3, 4), slice(0)))[0] == tuple(nodes_of(3))


def test_labels_are_translated_to_a_models_classes():
    graph = dataclasses.replace(path_graph(4), labels=torch.tensor([0, 1, -1, 0]))
    assert graph.labels_among(("emu", "dog", "cat")).tolist() == [2, 1, -1, 2]
    with pytest.raises(ValueError, match="does not know these classes: cat"):
        graph.labels_among(("dog",))


def test_a_graph_without_edges_or_nodes_is_a_graph():
    graph = path_graph(3)
    bare = graph.without(edges_of((0, 1), (1, 2)))
    assert bare.message_edges().shape == (2, 0)
    assert bare.changes_to(graph) == ((), tuple(edges_of((0, 1), (1, 2))))
    empty = graph.without(nodes_of(0, 1, 2))
    assert len(empty) == 0
    assert empty.changes_to(graph) == ((), graph.ids)
