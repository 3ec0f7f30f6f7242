"""Shadow models of graphs: what each learns, and whether the attacks find the original out."""

import dataclasses

import pytest
import torch

from models.contracts import ForgetSet
from tests.reference.graph_case import audit, case, communities, mislabelled, retrain, train
from tests.reference.graph_data import path_graph
from unlearning.audits.evidence import Records
from unlearning.audits.graph.attacks import AttackedItems, shadow_pool
from unlearning.audits.graph.evidence import GraphEvidence, View
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.report import Outcome
from unlearning.audits.suites import get_shadow_pool
from unlearning.catalog import get_method
from unlearning.errors import MethodError

DEEP = AuditPolicy(deep=True, shadow_models=4, retrained_seeds=3)
NODES, FORGET = mislabelled()
EDGES = communities("edges")
RECIPE = {"hidden": [8, 4], "epochs": 5}
OF_NODES, OF_EDGES = train(NODES, "nodes", **RECIPE), train(EDGES, "edges", **RECIPE)


def test_a_shadow_of_a_node_classifier_learns_half_of_the_labels_on_the_whole_graph():
    pool = shadow_pool(OF_NODES, NODES, FORGET)
    assert len(pool.ids) == len(NODES.training_nodes()) + len(NODES.audit_nodes())
    half = pool.only(set(pool.ids[::2]))
    assert half.training_nodes().tolist() == sorted(pool.items.places[::2].tolist())
    assert not len(half.audit_nodes())
    assert torch.equal(half.message_edges(), NODES.message_edges())
    assert half.node_ids == NODES.node_ids


def test_a_shadow_of_a_link_predictor_learns_half_of_the_edges_among_all_nodes():
    pool = shadow_pool(OF_EDGES, EDGES, ForgetSet())
    half = pool.only(set(pool.ids[::2]))
    assert set(map(tuple, half.training_edges().T.tolist())) == set(
        map(tuple, pool.items.places[:, ::2].T.tolist())
    )
    assert not half.held_out_edges.any()
    assert half.node_ids == EDGES.node_ids
    assert len(half.relations) == half.edges.shape[1]


def test_validation_data_stay_where_they_are():
    data = dataclasses.replace(
        path_graph(30), held_out_nodes=torch.arange(30) >= 10, held_out_edges=torch.arange(29) >= 10
    )
    kept = data.calibration_nodes().tolist()
    of_nodes = shadow_pool(OF_NODES, data, ForgetSet())
    assert kept
    assert of_nodes.only(set(of_nodes.ids)).calibration_nodes().tolist() == kept
    assert of_nodes.only(set()).calibration_nodes().tolist() == kept
    of_edges = shadow_pool(OF_EDGES, data, ForgetSet())
    assert of_edges.only(set()).calibration_edges().tolist() == data.calibration_edges().tolist()


def test_the_pool_is_found_by_the_family():
    assert get_shadow_pool("graph")(OF_NODES, NODES, FORGET).ids == shadow_pool(OF_NODES, NODES, FORGET).ids


def test_attacked_are_the_forgotten_and_the_never_seen_in_one_view():
    seen = GraphEvidence(case(OF_NODES, OF_NODES, NODES, FORGET), View.REPLAYED)
    attacked = AttackedItems(seen)
    assert set(attacked.ids[: len(FORGET.record_ids)]) == set(FORGET.record_ids)
    assert int(attacked.is_forgotten.sum()) == len(FORGET.record_ids)
    scores = attacked.scores(OF_NODES)
    assert torch.equal(scores[attacked.is_forgotten], seen.original(Records.FORGOTTEN).scores)
    assert torch.equal(scores[~attacked.is_forgotten], seen.original(Records.NEVER_SEEN).scores)


def test_a_method_unlearns_from_a_shadow_what_its_graph_has():
    method = get_method("graph", "retrain")
    given = case(OF_NODES, OF_NODES, NODES, FORGET, policy=DEEP, method=method)
    attacked = AttackedItems(GraphEvidence(given, View.REPLAYED))
    shadow = next(iter(given.references.shadows(attacked.pool())))
    unlearned = attacked.unlearn(shadow)
    assert unlearned.config.nodes == NODES.nodes - len(FORGET.record_ids)
    unknown = AttackedItems(GraphEvidence(case(OF_NODES, OF_NODES, NODES, FORGET), View.REPLAYED))
    with pytest.raises(MethodError, match="is not known"):
        unknown.unlearn(shadow)


def test_the_original_is_found_out_record_by_record_and_a_retrained_model_is_not():
    parent = train(NODES, "nodes")
    for candidate, outcome in ((parent, Outcome.FAIL), (retrain(parent, NODES, FORGET), Outcome.PASS)):
        result = audit(parent, candidate, NODES, FORGET, policy=DEEP)
        lira = next(check for check in result.checks if check.name == "LiRA AUC")
        assert lira.outcome is outcome
        assert not lira.gating
        assert [(one.kind, one.count) for one in result.references] == [("retrained", 3), ("shadow", 4)]
        unknown = next(check for check in result.checks if check.name == "U-LiRA accuracy")
        assert "is not known" in unknown.reason
