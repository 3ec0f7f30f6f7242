"""The audit of approximate forgetting, on a small network that has memorised records under wrong classes."""

import dataclasses
import json

import pytest
import torch

from models.classifier import runtime
from models.contracts import ForgetSet
from tests.reference.classifier_data import clusters, silent
from tests.reference.network_case import DATA, MISLABELLED, MODELS
from unlearning.audits.classifier import evidence
from unlearning.audits.forgetting import MARGINS, MEMBERSHIP, POWER, SINGLE
from unlearning.audits.independent import external_method
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences, ReferenceTrainer
from unlearning.audits.report import Audit, Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.spec import Guarantee

DATA, PARENT = DATA["mlp"], MODELS["mlp"]
FORGET = ForgetSet(MISLABELLED)
RETRAINED = runtime.retrain(PARENT, DATA.without(MISLABELLED), seed=123, progress=silent)
DEFAULT = AuditPolicy()
STORE = InMemoryReferences()
"""Shared by all tests: references are told apart by their keys."""


def audit(
    candidate, *, data=DATA, forget=FORGET, parent=PARENT, policy=DEFAULT, references=True, trainer=None
):
    trainer = trainer or ReferenceTrainer(
        runtime, lambda: parent, data, forget, policy, STORE, seed=3, progress=silent
    )
    case = Case(
        parent=parent,
        candidate=candidate,
        data=data,
        forget=forget,
        method=external_method("classifier", Guarantee.EMPIRICAL),
        parameters={},
        seed=3,
        unlearning_seconds=0.5,
        progress=silent,
        policy=policy,
        references=trainer if references else None,
    )
    return get_suite("classifier")(case)


def check(result, name):
    return next(check for check in result.checks if check.name == name)


WRONG = DATA.only(MISLABELLED)


class Shifted:
    """The retrained model, but with other scores on the forgotten records."""

    architecture = "mlp"
    classes = PARENT.classes

    def __init__(self, by):
        self._by = by

    def logits(self, features):
        logits = RETRAINED.logits(features).clone()
        for row, label, by in zip(WRONG.features, WRONG.labels, self._by, strict=True):
            logits[(features == row).all(dim=1), label] += by
        return logits

    def predict(self, features):
        return self.logits(features).argmax(dim=1)


def shifted(by):
    return Shifted(torch.full((len(MISLABELLED),), float(by)))


def test_a_retrained_model_passes_with_every_anchor_beside():
    result = audit(RETRAINED)
    assert result.verdict is Outcome.PASS
    assert [check.name for check in result.checks if check.gating] == [
        MARGINS,
        SINGLE,
        MEMBERSHIP,
        POWER,
        "accuracy against retraining",
    ]
    margins = check(result, MARGINS)
    assert margins.n == len(MISLABELLED)
    assert margins.limits[0] < margins.value < margins.limits[1] < margins.anchors["original"]
    assert result.power.detects
    assert result.power.unnoticed <= 0.5
    [references] = result.references
    assert (references.kind, references.count, len(references.seeds)) == ("retrained", 5, 5)


def test_the_untouched_original_fails_and_is_said_to_remember():
    result = audit(PARENT)
    assert result.verdict is Outcome.FAIL
    assert check(result, MARGINS).outcome is Outcome.FAIL
    assert "100% of the original's distance is left" in result.summary
    assert MARGINS in result.power.caught_by


def test_forgetting_more_than_retraining_fails_too():
    result = audit(shifted(-12))
    assert result.verdict is Outcome.FAIL
    assert "More was forgotten than by retraining" in check(result, MARGINS).reason
    assert check(result, "accuracy against retraining").outcome is Outcome.PASS


def test_half_remembered_and_half_destroyed_fails_although_the_mean_is_right():
    sign = torch.tensor([1.0, -1.0]).repeat(len(MISLABELLED) // 2)
    result = audit(Shifted(60 * sign))
    assert check(result, MARGINS).outcome is Outcome.PASS
    assert check(result, SINGLE).outcome is Outcome.FAIL
    assert result.verdict is Outcome.FAIL


def test_ruined_utility_fails():
    weights = {name: torch.zeros_like(one) for name, one in RETRAINED.weights.items()}
    result = audit(RETRAINED.with_weights(weights))
    assert result.verdict is Outcome.FAIL
    assert check(result, "accuracy against retraining").outcome is Outcome.FAIL


def test_a_set_that_nobody_memorised_can_never_pass():
    data = clusters(120, held_out=120)
    data = dataclasses.replace(data, features=data.features.float())
    parent = runtime.train(
        data, {"architecture": "mlp", "hidden": [32], "epochs": 20}, seed=1, progress=silent
    )
    forget = ForgetSet(tuple(sorted(f"r{index}" for index in range(12))))
    retrained = runtime.retrain(parent, data.without(forget.record_ids), seed=123, progress=silent)
    for candidate in (parent, retrained):
        result = audit(candidate, data=data, forget=forget, parent=parent)
        assert result.verdict is Outcome.INCONCLUSIVE
        assert not result.power.detects
        assert "memorised" in check(result, POWER).reason
        assert check(result, POWER).value is None or check(result, POWER).value > 0.5


def undecided(result, reason):
    """Assert that forgetting could not be judged, and why; and that no figure stands in for it."""
    assert result.verdict is Outcome.INCONCLUSIVE
    for name in (MARGINS, SINGLE, MEMBERSHIP):
        assert check(result, name).outcome is Outcome.INCONCLUSIVE
        assert check(result, name).value is None
        assert reason in check(result, name).reason
    assert result.power is None
    assert reason in result.summary


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": AuditPolicy(reference="never")}, "The policy allows no retrained references"),
        ({"policy": AuditPolicy(reference_seconds=0.0, retrained_seeds=4), "forget": ForgetSet(MISLABELLED[:7])}, "budget of 0 s"),
        ({"references": False}, "Nothing here could retrain"),
        ({"forget": ForgetSet(MISLABELLED[:4])}, "Only 4 of the forgotten records had been learned"),
        ({"data": DATA.without(DATA.audit().ids[10:])}, "10 never-seen records"),
        ({"forget": ForgetSet(("r130", "r131", "r132", "r133", "r134", "r135"))}, "Only 0 of the forgotten"),
    ],
)  # fmt: skip
def test_what_is_missing_makes_it_inconclusive_with_the_reason(changes, reason):
    undecided(audit(RETRAINED, **changes), reason)


def test_sets_too_small_train_no_references():
    def never():
        raise AssertionError("a reference was asked for")

    trainer = ReferenceTrainer(
        runtime, never, DATA, ForgetSet(("r0",)), DEFAULT, STORE, seed=3, progress=silent
    )
    result = audit(RETRAINED, forget=ForgetSet(("r0",)), trainer=trainer)
    assert result.references[0].count == 0
    assert "Only 1 of the forgotten" in result.references[0].note


class Broken:
    """Gives out one value everywhere."""

    architecture = "mlp"
    classes = PARENT.classes

    def __init__(self, value):
        self._value = value

    def logits(self, features):
        return torch.full((len(features), 3), self._value)

    def predict(self, features):
        return RETRAINED.predict(features)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_inconclusive(value):
    undecided(audit(Broken(value)), "not finite numbers")


def test_constant_scores_never_pass():
    result = audit(Broken(0.0))
    assert result.verdict is not Outcome.PASS
    undecided_check = check(result, MEMBERSHIP)
    assert undecided_check.value is None
    assert "All scores are the same" in undecided_check.reason


def test_a_model_of_one_class_is_inconclusive():
    class OneClass(Broken):
        classes = ("a",)

        def logits(self, features):
            return torch.zeros(len(features), 1)

        def predict(self, features):
            return torch.zeros(len(features), dtype=torch.int64)

    result = audit(OneClass(0.0))
    assert result.verdict is Outcome.FAIL  # for it is right about one class alone
    assert "does not know these classes" in check(result, MARGINS).reason


def test_labels_that_the_new_version_never_heard_of_are_inconclusive():
    class Renamed(Broken):
        classes = ("x", "b", "c")

        def predict(self, features):
            return RETRAINED.predict(features)

    assert "does not know these classes: a" in check(audit(Renamed(0.0)), MARGINS).reason


def test_labels_of_one_class_alone_are_judged_against_the_other_classes():
    ids = tuple(sorted(name for name, label in zip(DATA.ids, DATA.labels, strict=True) if label == 1))
    forget = ForgetSet(ids, ("b",))
    retrained = runtime.retrain(PARENT, DATA.without(ids), seed=5, progress=silent)
    assert audit(retrained, forget=forget).verdict is Outcome.PASS
    assert audit(PARENT, forget=forget).verdict is Outcome.FAIL


def test_an_architecture_without_logits_is_inconclusive():
    class Bare:
        architecture = "bare"
        classes = PARENT.classes
        predict = staticmethod(RETRAINED.predict)

    result = audit(Bare())
    undecided(result, "'bare' offers no logits")
    assert check(result, "accuracy against retraining").outcome is Outcome.PASS
    assert result.distributions == ()


def test_references_that_are_all_the_same_are_inconclusive():
    analytic = runtime.train(DATA, {"feature_dim": 16, "max_records": 1000}, seed=1, progress=silent)
    undecided(audit(analytic, parent=analytic), "leaves nothing to chance")


def test_an_audit_changes_none_of_the_models_it_reads():
    models = [PARENT, RETRAINED]
    before = [{name: one.clone() for name, one in model.weights.items()} for model in models]
    random = torch.get_rng_state()
    audit(RETRAINED)
    assert torch.equal(torch.get_rng_state(), random)
    for model, weights in zip(models, before, strict=True):
        assert all(torch.equal(model.weights[name], one) for name, one in weights.items())
        assert not any(one.requires_grad for one in model.weights.values())


def test_the_same_audit_gives_the_same_figures():
    one, other = (audit(RETRAINED).model_dump(exclude={"seconds"}) for _ in range(2))
    assert one == other


def test_each_model_is_asked_once_for_each_set_of_records(monkeypatch):
    asked = []
    real = evidence.observe

    def observe(model, data):
        asked.append((id(model), data.ids))
        return real(model, data)

    monkeypatch.setattr(evidence, "observe", observe)
    audit(RETRAINED)
    assert len(asked) == len(set(asked))


def test_every_figure_for_information_has_its_reference():
    result = audit(PARENT)
    informing = {check.name: check for check in result.checks if not check.gating}
    for name in ("Kolmogorov-Smirnov p", "RMIA AUC", "activation distance", "Jensen-Shannon divergence"):
        assert informing[name].outcome is Outcome.FAIL, name
        assert informing[name].reference is not None
        assert informing[name].n
        assert informing[name].reason.startswith("For information")
    assert informing["activation distance"].anchors.keys() == {"original", "random"}
    assert informing["relearning time"].value == 0.0
    assert audit(RETRAINED).verdict is Outcome.PASS


def test_distributions_count_every_record_of_every_model_and_name_none():
    result = audit(RETRAINED)
    sets = {"forgotten": 12, "retained": 108, "never seen": len(DATA.audit())}
    found = {(one.records, one.model): one for one in result.distributions}
    assert found.keys() == {
        (records, model) for records in sets for model in ("original", "candidate", "retrained", "random")
    }
    for (records, model), one in found.items():
        assert one.n == sum(one.counts) == sets[records] * (5 if model == "retrained" else 1)
        assert len(one.edges) == len(one.counts) + 1
        assert one.edges == result.distributions[0].edges
        assert all(edge == round(edge) for edge in (one.edges[0], one.edges[-1]))


def test_nothing_that_is_kept_names_a_record_or_gives_a_single_score():
    result = audit(RETRAINED)
    text = result.model_dump_json()
    words = set(json.dumps(json.loads(text)).replace('"', " ").replace(",", " ").split())
    assert not words & set(DATA.ids)
    margins = logit_margins(RETRAINED.logits(DATA.features), DATA.labels)
    assert not any(f"{value}" in text for value in margins.tolist())
    assert Audit.model_validate_json(text) == result


def test_strata_show_the_memorised_end_of_the_set():
    by_name = {stratum.name: stratum for stratum in audit(PARENT).strata}
    top = by_name["the quarter that was memorised most"]
    assert top.n >= 3
    assert top.memorisation[1] <= 1.0
    assert top.candidate == top.original > top.limits[1] > top.retrained


def test_fewer_records_than_classes_in_the_audit_half_are_named():
    result = audit(RETRAINED, data=DATA.without(DATA.audit().ids))
    assert "no held-out records" in result.summary
