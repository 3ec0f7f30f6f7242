import dataclasses

import pytest
import torch

from models.classifier import runtime
from models.classifier.configuration import BackboneConfig
from models.classifier.features import FrozenLayer
from models.classifier.ridge import solve_head
from models.contracts import ForgetSet
from tests.reference.classifier_data import clusters, silent
from unlearning.audits.classifier import certificate
from unlearning.audits.report import Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.classifier import ACU, RETRAIN
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MethodError

DATA = clusters(60, held_out=200)
FORGET = ForgetSet(("r0", "r1", "r2", "r60"))


def fit(data):
    return runtime.train(data, {"feature_dim": 24, "max_records": 1000}, seed=1, progress=silent)


PARENT = fit(DATA)
RIGHT = fit(DATA.without(FORGET.record_ids))


def audit(candidate, *, method=ACU, data=DATA, forget=FORGET, parameters=None, parent=PARENT):
    return get_suite("classifier")(
        Case(
            parent=parent,
            candidate=candidate,
            data=data,
            forget=forget,
            method=method,
            parameters={"solve": "fresh"} if parameters is None else parameters,
            seed=0,
            unlearning_seconds=0.5,
            progress=silent,
        )
    )


def outcome(result, name):
    return next(check for check in result.checks if check.name == name).outcome


@pytest.fixture(params=["refit", "random check"])
def how(request, monkeypatch):
    """Both ways of comparing statistics."""
    if request.param == "random check":
        monkeypatch.setattr(certificate, "REFIT_OPERATIONS", 0)


def test_a_rightly_unlearned_model_passes_with_its_anchors_beside(how):
    result = audit(RIGHT)
    assert result.verdict is Outcome.PASS
    assert result.unlearning_seconds == 0.5
    assert "whole model" in result.summary
    accuracy = next(check for check in result.checks if check.name == "held-out accuracy")
    held_out = DATA.audit().without(["r60"])
    assert accuracy.n == len(held_out)
    assert accuracy.value == float((RIGHT.predict(held_out.features) == held_out.labels).double().mean())
    assert accuracy.reference == float((PARENT.predict(held_out.features) == held_out.labels).double().mean())
    assert accuracy.interval[0] < accuracy.value <= accuracy.interval[1]


def tampered(change):
    statistics = RIGHT.statistics.clone()
    change(statistics)
    return RIGHT.with_head(statistics, solve_head(statistics, 0.1))


def one_ulp(tensor, index):
    tensor[index] = torch.nextafter(tensor[index], torch.tensor(torch.inf, dtype=torch.float64))


def one_grid_step(statistics):
    statistics.gram.values[0] += 2.0 ** (-2 * RIGHT.config.feature_bits)


@pytest.mark.parametrize(
    "change",
    [
        lambda statistics: one_ulp(statistics.gram.values, 25),
        one_grid_step,
        lambda statistics: one_ulp(statistics.cross, (3, 1)),
        lambda statistics: statistics.counts.add_(torch.tensor([1, -1, 0])),
    ],
)
def test_statistics_that_are_off_by_the_least_fail(how, change):
    result = audit(tampered(change))
    assert result.verdict is Outcome.FAIL
    assert outcome(result, "statistics") is Outcome.FAIL


def test_a_model_that_forgot_nothing_fails(how):
    result = audit(PARENT)
    assert result.verdict is Outcome.FAIL
    assert "sum over 60 records, but 57 remain" in result.summary


def test_a_model_that_forgot_one_record_too_many_fails(how):
    assert audit(fit(DATA.without([*FORGET.record_ids, "r9"]))).verdict is Outcome.FAIL


def test_a_model_that_forgot_other_records_fails(how):
    assert outcome(audit(fit(DATA.without(["r3", "r4", "r5"]))), "statistics") is Outcome.FAIL


def test_a_stale_head_on_right_statistics_fails():
    result = audit(RIGHT.with_head(RIGHT.statistics, PARENT.head))
    assert result.verdict is Outcome.FAIL
    assert outcome(result, "statistics") is Outcome.PASS
    assert outcome(result, "head error") is outcome(result, "head distance") is Outcome.FAIL


def test_a_head_that_is_one_unit_off_fails_where_bits_are_promised_and_passes_within_the_bound():
    head = RIGHT.head.clone()
    one_ulp(head, (0, 0))
    close = RIGHT.with_head(RIGHT.statistics, head)
    promised = audit(close)
    assert promised.verdict is Outcome.FAIL
    assert outcome(promised, "head error") is Outcome.PASS
    assert audit(close, parameters={"solve": "update"}).verdict is Outcome.PASS


def test_a_head_of_nan_fails():
    nothing = RIGHT.with_head(RIGHT.statistics, torch.full_like(RIGHT.head, torch.nan))
    assert outcome(audit(nothing), "head error") is Outcome.FAIL


def test_statistics_without_a_solution_fail():
    statistics = RIGHT.statistics.clone()
    statistics.gram.values.neg_()
    result = audit(RIGHT.with_head(statistics, RIGHT.head))
    assert outcome(result, "head distance") is Outcome.FAIL


def test_a_changed_projection_fails_before_anything_is_compared():
    projection = PARENT.features.projection.clone()
    projection[0, 0] -= 1
    features = dataclasses.replace(
        RIGHT.features,
        projection=projection,
        config=RIGHT.config.model_copy(update={"feature_bound": 64.0, "feature_bits": 10}),
    )
    result = audit(dataclasses.replace(RIGHT, features=features))
    assert result.verdict is Outcome.FAIL
    assert outcome(result, "frozen parts") is Outcome.FAIL


def test_nothing_to_unlearn_leaves_the_original_head_as_the_reference():
    # As if the parent had been trained on another machine: its head differs in the last place from ours.
    head = PARENT.head.clone()
    one_ulp(head, (0, 0))
    parent = PARENT.with_head(PARENT.statistics, head)
    assert audit(parent, forget=ForgetSet(("r60",)), parent=parent).verdict is Outcome.PASS
    assert audit(PARENT, forget=ForgetSet(("r60",)), parent=parent).verdict is Outcome.FAIL


def test_a_forgotten_class_is_checked_and_left_out_of_utility():
    ids = tuple(sorted(name for name, label in zip(DATA.ids, DATA.labels, strict=True) if label == 1))
    forget = ForgetSet(ids, ("b",))
    result = audit(fit(DATA.without(ids)), forget=forget)
    assert result.verdict is Outcome.PASS
    assert outcome(result, "forgotten classes") is Outcome.PASS
    accuracy = next(check for check in result.checks if check.name == "held-out accuracy")
    assert accuracy.n == int((DATA.audit().labels != 1).sum())
    assert outcome(audit(PARENT, forget=forget), "forgotten classes") is Outcome.FAIL


def test_exact_forgetting_needs_no_held_out_records():
    data = clusters(60)
    result = audit(RIGHT, data=data, forget=ForgetSet(("r0", "r1", "r2")))
    assert result.verdict is Outcome.PASS
    assert outcome(result, "held-out accuracy") is Outcome.INCONCLUSIVE


def test_retraining_is_gated_on_utility_alone():
    result = audit(RIGHT, method=RETRAIN, parameters={})
    assert result.verdict is Outcome.PASS
    assert [check.name for check in result.checks if check.gating] == ["change of accuracy"]


def test_retraining_without_held_out_records_cannot_be_decided():
    result = audit(RIGHT, method=RETRAIN, parameters={}, data=clusters(60))
    assert result.verdict is Outcome.INCONCLUSIVE
    assert "no held-out records" in result.summary


def test_retraining_that_ruins_the_model_fails():
    useless = RIGHT.with_head(RIGHT.statistics, torch.zeros_like(RIGHT.head))
    result = audit(useless, method=RETRAIN, parameters={})
    assert result.verdict is Outcome.FAIL
    assert "fell by more than 5%" in result.summary


def test_too_few_held_out_records_cannot_show_that_utility_is_kept():
    few = clusters(60, held_out=12)
    result = audit(RIGHT, method=RETRAIN, parameters={}, data=few)
    assert result.verdict is Outcome.INCONCLUSIVE
    assert "too few to tell" in result.summary


def test_an_approximate_method_cannot_pass_without_forget_quality():
    approximate = dataclasses.replace(ACU, name="almost", guarantee=Guarantee.EMPIRICAL)
    result = audit(RIGHT, method=approximate)
    assert result.verdict is Outcome.INCONCLUSIVE
    assert outcome(result, "change of accuracy") is Outcome.PASS


def test_an_exact_method_on_an_unknown_architecture_cannot_be_certified():
    class Stranger:
        architecture = "stranger"
        classes = PARENT.classes
        predict = staticmethod(RIGHT.predict)

    result = audit(Stranger())
    assert result.verdict is Outcome.INCONCLUSIVE
    assert "'stranger'" in result.summary


def test_the_summary_repeats_that_a_fitted_backbone_is_not_covered():
    backbone = BackboneConfig(kind="mlp", fitted_on="training_data", widths=(6,))
    layer = FrozenLayer(torch.eye(6), torch.zeros(6))

    def on_backbone(model):
        features = dataclasses.replace(
            model.features, config=model.config.model_copy(update={"backbone": backbone}), backbone=(layer,)
        )
        return suite_fit(features, model)

    def suite_fit(features, model):
        known = (DATA if model is PARENT else DATA.without(FORGET.record_ids)).training()
        return (
            runtime.get_architecture("classifier", "analytic")
            .runtime()
            .retrain(dataclasses.replace(model, features=features), known, seed=0, progress=silent)
        )

    result = audit(on_backbone(RIGHT), parent=on_backbone(PARENT))
    assert result.verdict is Outcome.PASS
    assert "head alone: the frozen backbone was fitted on the training data" in result.summary


def test_predictions_are_compared_by_class_name():
    order = [2, 0, 1]
    data = dataclasses.replace(
        DATA,
        classes=tuple(DATA.classes[index] for index in order),
        labels=torch.tensor([1, 2, 0])[DATA.labels],
    )
    result = audit(RIGHT, data=data)
    assert result.verdict is Outcome.PASS
    assert next(check for check in result.checks if check.name == "held-out accuracy").value > 0.9


def test_a_family_without_a_suite_is_refused():
    with pytest.raises(MethodError, match="no audit for the family 'unheard_of'"):
        get_suite("unheard_of")
