"""Which nodes and edges a graph's audit looks at, on a graph of six nodes in a row: n0 - n1 - … - n5."""

import dataclasses

import pytest
import torch

from models.contracts import ForgetSet
from models.graph.elements import feature_record
from tests.reference.graph_data import edges_of, nodes_of, path_graph
from unlearning.audits.evidence import RETAINED_AT_MOST, Records
from unlearning.audits.graph.items import Deletion, negatives_of, sets_of

PATH = path_graph()
LONG = path_graph(30)
HELD_OUT = dataclasses.replace(
    LONG, held_out_nodes=torch.arange(30) >= 10, held_out_edges=torch.arange(29) >= 10
)
NODES, EDGES = "node_classification", "link_prediction"


def places(task, names, *, data=PATH, classes=()):
    found = sets_of(data, ForgetSet(tuple(sorted(names)), classes), task, seed=0)
    return {records.value: items.places.movedim(-1, 0).tolist() for records, items in found.items()}


def test_of_a_deleted_node_a_classifier_forgets_the_label_and_a_link_predictor_its_edges():
    assert places(NODES, nodes_of(2))["forgotten"] == [2]
    assert places(NODES, nodes_of(2))["retained"] == [0, 1, 3, 4, 5]
    assert places(EDGES, nodes_of(2))["forgotten"] == [[1, 2], [2, 3]]
    assert places(EDGES, nodes_of(2))["retained"] == [[0, 1], [3, 4], [4, 5]]


def test_of_a_deleted_edge_a_classifier_is_asked_about_both_ends():
    assert places(NODES, edges_of((2, 3)))["forgotten"] == [2, 3]
    assert places(EDGES, edges_of((2, 3)))["forgotten"] == [[2, 3]]


def test_of_a_removed_feature_the_node_is_asked_about_and_its_edges():
    names = [feature_record("n4", "f1")]
    assert places(NODES, names)["forgotten"] == [4]
    assert places(EDGES, names)["forgotten"] == [[3, 4], [4, 5]]


def test_held_out_and_unlabelled_nodes_and_held_out_edges_were_not_learned():
    data = dataclasses.replace(HELD_OUT, labels=LONG.labels.where(torch.arange(30) != 1, -1))
    assert places(NODES, nodes_of(0, 1, 20), data=data)["forgotten"] == [0]
    assert places(EDGES, edges_of((2, 3), (20, 21)), data=HELD_OUT)["forgotten"] == [[2, 3]]


def test_never_seen_are_those_of_the_audit_half_that_were_not_deleted():
    audited = HELD_OUT.audit_nodes().tolist()
    assert audited
    assert places(NODES, nodes_of(0), data=HELD_OUT)["never seen"] == audited
    gone = nodes_of(audited[0])
    assert places(NODES, gone, data=HELD_OUT)["never seen"] == audited[1:]
    edges = HELD_OUT.audit_edges().T.tolist()
    assert places(EDGES, nodes_of(0), data=HELD_OUT)["never seen"] == edges
    assert places(EDGES, edges_of(tuple(edges[0])), data=HELD_OUT)["never seen"] == edges[1:]


def test_of_a_class_that_is_forgotten_whole_nothing_is_never_seen():
    labels = HELD_OUT.labels[HELD_OUT.audit_nodes()].tolist()
    kept = [place for place, label in zip(HELD_OUT.audit_nodes().tolist(), labels, strict=True) if label != 1]
    assert places(NODES, nodes_of(0), data=HELD_OUT, classes=("node:dog",))["never seen"] == kept
    every = places(EDGES, nodes_of(0), data=HELD_OUT)["never seen"]
    relation = {
        tuple(pair): kind
        for pair, kind in zip(HELD_OUT.edges.T.tolist(), HELD_OUT.relations.tolist(), strict=True)
    }
    rest = [pair for pair in every if relation[tuple(pair)] != 1]
    assert places(EDGES, nodes_of(0), data=HELD_OUT, classes=("edge:follows",))["never seen"] == rest


def test_no_more_is_retained_than_is_looked_at_and_always_the_same():
    data = path_graph(RETAINED_AT_MOST + 200)
    one, other = (sets_of(data, ForgetSet(), task, seed=4)[Records.RETAINED] for task in (NODES, NODES))
    assert len(one) == RETAINED_AT_MOST
    assert torch.equal(one.places, other.places)
    assert len(sets_of(data, ForgetSet(), EDGES, seed=4)[Records.RETAINED]) == RETAINED_AT_MOST


def test_a_deletion_takes_a_nodes_edges_along():
    gone = Deletion.of(PATH, ForgetSet(tuple(nodes_of(1) + edges_of((4, 5)) + [feature_record("n3", "f0")])))
    assert gone.nodes.nonzero().flatten().tolist() == [1]
    assert PATH.edges[:, gone.edges].T.tolist() == [[0, 1], [1, 2], [4, 5]]
    assert gone.bare.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("directed", [False, True])
def test_negatives_never_had_an_edge_and_touch_no_deleted_node(directed):
    data = path_graph(40, directed=directed)
    forget = ForgetSet(tuple(nodes_of(7) + edges_of((20, 21), directed=directed)))
    one, other = negatives_of(data, forget), negatives_of(data, forget)
    assert torch.equal(one.places, other.places)
    assert len(one) > 500
    assert not (one.places == 7).any()
    known = set(map(tuple, data.edges.T.tolist()))
    assert not known & set(map(tuple, one.places.T.tolist()))
