"""What the planner says of requests to graph networks: how much of the graph they concern."""

import pytest

from models.graph.configuration import GraphConfig, describe_graph
from unlearning.catalog.graph import reach
from unlearning.catalog.spec import CostInput
from unlearning.planner import PlanInput, make_plan


def described(nodes=1_000_000, edges=20_000_000, **sizes):
    config = GraphConfig(
        architecture="gcn",
        classes=(),
        width=64,
        nodes=nodes,
        edges=edges,
        seed=0,
        recipe={"architecture": "gcn", "task": "link_prediction"},
        **sizes,
    )
    return dict(describe_graph(config.model_dump(mode="json")))


def plan(forget, *, method="gnndelete", parameters=None, **sizes):
    return make_plan(
        PlanInput(
            family="graph",
            architecture=described(**sizes),
            target_kind="edges",
            records=11_000_000,
            forget=forget,
            method=method,
            parameters=parameters or {},
        )
    )


def test_one_edge_of_a_large_graph_is_worked_on_by_itself_and_the_plan_says_so():
    (rung,) = plan(1).rungs
    assert rung.parameters["scope"] == "local"
    # Two ends, 20 neighbours each, 19 more of each of these.
    assert (
        "About 0.1% of the nodes are within reach of what is deleted, so it works on these alone."
        in rung.reason
    )


def test_five_per_cent_of_the_edges_take_the_full_batch_way_and_the_plan_says_so():
    (rung,) = plan(500_000).rungs
    assert rung.parameters["scope"] == "full"
    assert "About 100% of the nodes are within reach" in rung.reason
    assert "on the whole graph at once" in rung.reason


def test_a_local_request_is_estimated_at_less_than_a_large_one():
    assert plan(1).rungs[0].estimated_flops < 0.1 * plan(500_000).rungs[0].estimated_flops


def test_a_scope_that_was_asked_for_is_kept_and_not_explained_away():
    (rung,) = plan(1, parameters={"scope": "full", "epochs": 7}).rungs
    assert (rung.parameters["scope"], rung.parameters["epochs"]) == ("full", 7)
    assert "within reach" not in rung.reason


def test_other_parameters_leave_the_choice_to_the_planner():
    (rung,) = plan(1, parameters={"epochs": 7}).rungs
    assert (rung.parameters["scope"], rung.parameters["epochs"]) == ("local", 7)
    assert "works on these alone" in rung.reason


@pytest.mark.parametrize("method", ["d2dgn", "finetune", "gif", "gradient_ascent"])
def test_methods_that_move_shared_weights_say_that_every_request_concerns_the_whole_graph(method):
    assert "so it works on the whole graph, whatever is deleted" in plan(1, method=method).rungs[0].reason


def test_dropping_edges_says_how_many_answers_change():
    assert "the answers for about 0.1% of the nodes change" in plan(1, method="drop_edges").rungs[0].reason


def test_every_rung_of_a_ladder_for_graphs_can_be_estimated():
    whole = plan(100, method="auto")
    assert [rung.method for rung in whole.rungs][-1] == "retrain"
    assert not whole.ruled_out


def test_reach_is_at_most_the_graph_and_nothing_in_an_empty_one():
    assert reach(CostInput(10, 10, described(nodes=50, edges=5000))) == 50
    assert reach(CostInput(0, 0, described(nodes=0, edges=0))) == 0
