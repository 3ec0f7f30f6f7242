"""The audit of graphs on Cora: deletions chosen to ruin the model, and the methods as the pipeline judges them."""

import dataclasses

import pytest
import torch

from benchmarks.graph_unlearning import DATA_FOLDER, most_harmful, read_graph
from models.contracts import ForgetSet
from models.graph import runtime
from models.graph.data import GraphData
from models.graph.elements import node_record
from tests.reference.classifier_data import silent
from tests.reference.graph_case import STORE, audit, retrain
from unlearning.audits.independent import external_method
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.report import Outcome
from unlearning.catalog import get_method
from unlearning.catalog.spec import Guarantee
from unlearning.pipeline import run_plan
from unlearning.planner import Plan, Rung

CORA = DATA_FOLDER / "cora.npz"
pytestmark = pytest.mark.skipif(not CORA.exists(), reason="needs ../shared/data/graph/cora.npz")

DELETED = 60
RECIPE = {"architecture": "gcn", "task": "node_classification", "hidden": [32, 16], "epochs": 40}
POLICY = AuditPolicy(reference="always", retrained_seeds=3)
EXACT = dataclasses.replace(external_method("graph", Guarantee.EXACT), name="retrain", fallback=True)


@pytest.fixture(scope="module")
def data():
    """Cora, of which one node in sixteen has its label known to training."""
    features, labels, edges = read_graph(CORA)
    known = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 1 / 16
    return GraphData(
        node_ids=tuple(f"n{place}" for place in range(len(labels))),
        features=features,
        feature_names=tuple(f"f{column}" for column in range(features.shape[1])),
        labels=labels,
        classes=tuple(f"c{place}" for place in range(7)),
        held_out_nodes=~known,
        edges=edges,
        held_out_edges=torch.zeros(edges.shape[1], dtype=torch.bool),
        relations=torch.zeros(edges.shape[1], dtype=torch.int64),
        edge_classes=(),
        directed=False,
    )


@pytest.fixture(scope="module")
def parent(data):
    return runtime.train(data, RECIPE, seed=1, progress=silent)


def forget_set(data, places):
    return ForgetSet(tuple(sorted(node_record(data.node_ids[place]) for place in places.tolist())))


@pytest.fixture(scope="module")
def harmful(data, parent):
    return forget_set(data, most_harmful(parent, data, DELETED))


@pytest.fixture(scope="module")
def rightly_retrained(data, parent, harmful):
    return retrain(parent, data, harmful)


def check(result, name):
    return next(check for check in result.checks if check.name == name)


def test_a_model_that_is_retrained_rightly_but_ruined_is_caught_by_its_usefulness(
    data, parent, harmful, rightly_retrained
):
    approximate = audit(parent, rightly_retrained, data, harmful, policy=POLICY)
    exact = audit(parent, rightly_retrained, data, harmful, method=EXACT)
    # The references are ruined alike, so that nothing is wrong with it in comparison.
    assert check(approximate, "accuracy against retraining").outcome is Outcome.PASS
    for result in (approximate, exact):
        change = check(result, "change of accuracy")
        assert change.gating
        assert change.outcome is Outcome.FAIL
        assert change.value < -0.1
        assert result.verdict is Outcome.FAIL
        assert "Accuracy fell by more than 5%" in result.summary


def test_as_many_nodes_at_random_cost_little_and_retraining_passes(data, parent):
    known = data.training_nodes()
    drawn = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[: DELETED // 2]]
    forget = forget_set(data, drawn)
    result = audit(parent, retrain(parent, data, forget), data, forget, method=EXACT)
    assert result.verdict is Outcome.PASS


def test_weights_left_as_they_are_stay_useful_and_are_caught_for_it(data, parent, harmful):
    result = audit(parent, parent, data, harmful, policy=POLICY)
    assert check(result, "change of accuracy").outcome is Outcome.PASS
    against = check(result, "accuracy against retraining")
    assert against.outcome is Outcome.FAIL
    assert "still profits from what was forgotten" in against.reason


def test_the_ladder_publishes_nothing_where_the_request_would_ruin_the_model(data, parent, harmful):
    rungs = tuple(
        Rung(
            method=spec.name,
            guarantee=spec.guarantee,
            parameters={},
            reason="Asked for.",
            estimated_flops=0.0,
            estimated_seconds=0.0,
        )
        for spec in (get_method("graph", name) for name in ("drop_edges", "retrain"))
    )
    result = run_plan(
        runtime,
        parent,
        data,
        harmful,
        Plan(rungs=rungs, ruled_out=()),
        reload=lambda: parent,
        policy=POLICY,
        references=STORE,
        seed=0,
        progress=silent,
    )
    assert result.model is None
    assert [(rung.method, rung.audit.verdict) for rung in result.rungs if rung.audit] == [
        ("drop_edges", Outcome.FAIL),
        ("retrain", Outcome.FAIL),
    ]
