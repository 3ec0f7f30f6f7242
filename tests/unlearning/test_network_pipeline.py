"""A trained network through the whole ladder: planner, methods, audits against retrained references, retraining."""

import pytest
import torch

from models.classifier import runtime
from models.contracts import ForgetSet
from tests.reference.classifier_data import silent
from tests.reference.network_case import DATA, MISLABELLED, MODELS, accuracy
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences
from unlearning.audits.report import Outcome
from unlearning.pipeline import run_plan
from unlearning.planner import PlanInput, make_plan

POLICY = AuditPolicy(retrained_seeds=3)


def run(name="mlp", forget=None, **fields):
    data, model = DATA[name], MODELS[name]
    forget = forget or ForgetSet(MISLABELLED)
    asked = PlanInput(
        family="classifier",
        architecture=dict(runtime.describe(model)),
        target_kind="classes" if forget.classes else "records",
        records=len(data.training()),
        forget=len(data.only(forget.record_ids).training()),
        **fields,
    )
    return run_plan(
        runtime,
        model,
        data,
        forget,
        make_plan(asked),
        reload=lambda: model,
        policy=POLICY,
        references=InMemoryReferences(),
        seed=4,
        progress=silent,
    )


@pytest.fixture(scope="module")
def ladder():
    return run()


def test_the_ladder_ends_in_a_model_that_passes_its_audit(ladder):
    assert ladder.chosen.audit.verdict is Outcome.PASS
    assert ladder.model.architecture == "mlp"
    assert accuracy(ladder.model, DATA["mlp"].only(MISLABELLED)) < 0.2
    assert accuracy(ladder.model, DATA["mlp"].audit()) > 0.9


def test_every_rung_is_audited_or_says_why_it_declined(ladder):
    assert len(ladder.rungs) > 1
    for rung in ladder.rungs:
        assert (rung.audit is None) == (rung.failure is not None)
        if rung.failure is not None:
            assert rung.method == "ssd"
            assert "dampening it would forget them" in rung.failure


def test_the_audits_hold_the_curves_that_the_methods_reported(ladder):
    curves = {rung.method: rung.audit.curves for rung in ladder.rungs if rung.audit is not None}
    assert any("retained loss" in str(curve) for curve in curves["gradient_difference"])


def test_the_original_is_never_what_is_published(ladder):
    original = MODELS["mlp"].weights
    assert not all(torch.equal(original[name], ladder.model.weights[name]) for name in original)


def test_a_class_of_a_convolutional_network_is_forgotten_by_retraining_at_last():
    data = DATA["cnn"]
    records = set(data.ids) - set(data.without_classes(["b"]).ids)
    result = run("cnn", ForgetSet(tuple(sorted(records)), ("b",)), method="retrain")
    assert [rung.method for rung in result.rungs] == ["retrain"]
    assert result.chosen.audit.verdict is Outcome.PASS
    assert not (result.model.predict(data.features) == 1).any()
    assert result.model.classes == ("a", "b", "c")
