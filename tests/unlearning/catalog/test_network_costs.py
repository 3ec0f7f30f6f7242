import pytest

from models.architectures import describe_config
from models.classifier import network
from tests.reference.network_case import MODELS
from unlearning.catalog import get_method
from unlearning.catalog.spec import CostInput
from unlearning.planner import PlanInput, make_plan


def plan_for(name, **fields):
    described = dict(describe_config("classifier", network.config(MODELS[name])))
    values = {"family": "classifier", "architecture": described, "target_kind": "records", "records": 4000}
    return make_plan(PlanInput(**(values | {"forget": 200} | fields)))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_network_has_a_ladder_by_work_that_ends_in_retraining(name):
    plan = plan_for(name)
    rungs = [rung.method for rung in plan.rungs]
    assert rungs == ["gradient_ascent", "gradient_difference", "ssd", "finetune", "scrub", "retrain"]
    work = [rung.estimated_flops for rung in plan.rungs]
    assert work == sorted(work)
    assert all(rung.parameters.get("calibration", "validation") == "validation" for rung in plan.rungs)
    assert [entry.method for entry in plan.ruled_out] == ["acu"]


def test_who_asks_for_an_exact_guarantee_gets_retraining_alone():
    plan = plan_for("mlp", guarantee="exact")
    assert [rung.method for rung in plan.rungs] == ["retrain"]


def test_without_retained_data_only_ascent_is_left():
    plan = plan_for("mlp", available={"forget_data"})
    assert [rung.method for rung in plan.rungs] == ["gradient_ascent"]


def test_costs_are_worked_by_hand():
    architecture = {"architecture": "mlp", "flops_forward": 10.0, "flops_per_record": 3 * 10.0 * 20}
    sizes = CostInput(records=100, forget=10, architecture=architecture | {"flops_to_finish": 0.0})
    cost = {
        name: get_method("classifier", name).cost(sizes) for name in ("finetune", "scrub", "ssd", "retrain")
    }
    assert cost["retrain"] == 90 * 600
    assert cost["finetune"] == 90 * 30 * 5
    assert cost["scrub"] == 3 * 10 * 30 + 5 * 90 * 30 + 100 * 10
    assert cost["ssd"] == pytest.approx(100 * 40)
