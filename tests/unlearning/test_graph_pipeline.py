"""Graph networks through plan, method and audit: the methods that work on neighbourhoods, and requests in a row."""

import dataclasses

import pytest
import torch

from models.contracts import ForgetSet
from models.graph import architectures, runtime
from models.graph.deletion import Deletion, node_keys
from tests.reference.classifier_data import silent
from tests.reference.little_graphs import edges_at, little_graph, little_model
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences
from unlearning.catalog import get_method
from unlearning.pipeline import run_plan
from unlearning.planner import PlanInput, make_plan

RECIPE = {"hidden": [16, 8], "epochs": 60, "dropout": 0.0}


def held_out(data):
    """Hold a third of the edges out."""
    share = torch.rand(data.edges.shape[1], generator=torch.Generator().manual_seed(1)) < 1 / 3
    return dataclasses.replace(data, held_out_edges=share)


def run(model, data, forget, kind, **fields):
    asked = PlanInput(
        family="graph",
        architecture=dict(runtime.describe(model)),
        target_kind=kind,
        records=len(data.training()),
        forget=len(forget.record_ids),
        **fields,
    )
    plan = make_plan(asked)
    result = run_plan(
        runtime,
        model,
        data,
        forget,
        plan,
        reload=lambda: model,
        policy=AuditPolicy(),
        references=InMemoryReferences(),
        seed=4,
        progress=silent,
    )
    return plan, result


def candidate(result):
    return result.model if result.model is not None else result.best[0]


def test_an_edge_is_forgotten_locally_as_planned_and_what_comes_of_it_is_audited():
    data = held_out(little_graph(nodes=300, edges=420))
    model = architectures.train(data, {"task": "link_prediction", **RECIPE}, seed=1, progress=silent)
    place = int(data.held_out_edges.logical_not().nonzero()[-1])
    plan, result = run(model, data, edges_at(data, place), "edges", method="gnndelete")
    assert plan.rungs[0].parameters["scope"] == "local"
    (rung,) = result.rungs
    assert rung.failure is None
    assert rung.audit is not None
    assert len(candidate(result).deletion_operators) == 1
    assert any("deletion loss" in curve.name for curve in rung.audit.curves)


def test_what_gnndelete_made_can_be_asked_to_forget_again_by_every_other_method():
    data = held_out(little_graph(nodes=300, edges=420))
    model = architectures.train(data, {"task": "link_prediction", **RECIPE}, seed=1, progress=silent)
    known = data.held_out_edges.logical_not().nonzero()[:, 0].tolist()
    first, second = edges_at(data, known[-1]), edges_at(data, *known[-30:-1])
    made = candidate(run(model, data, first, "edges", method="gnndelete")[1])
    rest = data.without(first.record_ids)
    for method in ("drop_edges", "gradient_ascent", "gnndelete", "retrain"):
        parameters = (
            {"calibration": "paper", "epochs": 3} if method in {"gradient_ascent", "gnndelete"} else {}
        )
        _, result = run(made, rest, second, "edges", method=method, parameters=parameters)
        (rung,) = result.rungs
        assert rung.failure is None, (method, rung.failure)
        operators = candidate(result).deletion_operators
        assert len(operators or ()) == {"gnndelete": 2, "retrain": 0}.get(method, 1)


@pytest.mark.parametrize("method", ["d2dgn", "drop_edges", "finetune", "gif", "gnndelete", "gradient_ascent"])
def test_no_operator_names_a_node_that_any_method_has_deleted(method):
    data = little_graph()
    names = node_keys(data.node_ids).sort().values
    operators = [Deletion([torch.eye(8), torch.eye(4)], [names, names])]
    model = little_model(data, task="node_classification").with_deletions(operators)
    gone = [data.node_ids[2], data.node_ids[-1]]
    forget = ForgetSet(tuple(sorted(f"node:{name}" for name in gone)))
    spec = get_method("graph", method)
    fixed = {"calibration": "paper", "epochs": 2} if "epochs" in spec.config.model_fields else {}
    config = spec.configure({"harm": 100} if method == "gif" else fixed)
    result = spec.load()(
        model, data, forget, config, generator=torch.Generator().manual_seed(0), progress=silent
    )
    for deletion in result.deletion_operators:
        for layer in range(2):
            assert not torch.isin(node_keys(gone), deletion.keys(layer)).any()
    assert len(result.deletion_operators[0].keys(0)) == data.nodes - 2


@pytest.mark.parametrize("method", ["gif", "gnndelete"])
def test_nodes_are_forgotten_and_the_result_is_audited(method):
    data = little_graph(nodes=300, edges=420)
    recipe = {"task": "node_classification", **RECIPE}
    model = architectures.train(data, recipe, seed=1, progress=silent)
    gone = data.training_nodes()[:20].tolist()
    forget = ForgetSet(tuple(sorted(f"node:{data.node_ids[place]}" for place in gone)))
    parameters = {"calibration": "paper", "epochs": 20} if method == "gnndelete" else {}
    _, result = run(model, data, forget, "nodes", method=method, parameters=parameters)
    (rung,) = result.rungs
    assert rung.failure is None
    assert rung.audit is not None
