"""Attacks with shadow models, on a small network that has memorised records under wrong classes."""

import dataclasses
import math

import pytest
import torch

from models.classifier import runtime
from models.contracts import ForgetSet
from tests.reference.classifier_data import silent
from tests.reference.network_case import DATA, MISLABELLED, MODELS
from unlearning.audits.classifier.attacks import AttackedRecords
from unlearning.audits.classifier.evidence import ClassifierEvidence
from unlearning.audits.deep import DeepAudit
from unlearning.audits.independent import external_method
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences, ReferenceTrainer
from unlearning.audits.report import Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.classifier import RETRAIN
from unlearning.catalog.spec import Guarantee

DATA, PARENT = DATA["mlp"], MODELS["mlp"]
RETRAINED = runtime.retrain(PARENT, DATA.without(MISLABELLED), seed=123, progress=silent)
DEEP = AuditPolicy(deep=True, shadow_models=8, retrained_seeds=3)
STORE = InMemoryReferences()
HONEST = dataclasses.replace(RETRAIN, guarantee=Guarantee.EMPIRICAL, fallback=False)
IDLE = dataclasses.replace(HONEST, implementation="tests.reference.idle_method:run")


def case(candidate, *, method=IDLE, policy=DEEP):
    forget = ForgetSet(MISLABELLED)
    trainer = ReferenceTrainer(runtime, lambda: PARENT, DATA, forget, policy, STORE, seed=3, progress=silent)
    return Case(
        parent=PARENT,
        candidate=candidate,
        data=DATA,
        forget=forget,
        method=method,
        parameters={},
        seed=3,
        unlearning_seconds=0.0,
        progress=silent,
        policy=policy,
        references=trainer,
    )


def checks(candidate, **changes):
    evidence = ClassifierEvidence(case(candidate, **changes))
    return {check.name: check for check in DeepAudit(evidence, AttackedRecords(evidence)).checks()}


@pytest.fixture(scope="module")
def of_original():
    return checks(PARENT)


def test_the_original_is_found_out_record_by_record(of_original):
    lira = of_original["LiRA AUC"]
    assert lira.value > 0.9
    assert lira.value == lira.anchors["original"] > lira.reference
    assert lira.outcome is Outcome.FAIL
    assert lira.n == len(MISLABELLED) + len(DATA.audit())


def test_a_retrained_model_is_not():
    lira = checks(RETRAINED)["LiRA AUC"]
    assert lira.outcome is Outcome.PASS
    assert lira.limits[0] <= lira.value <= lira.limits[1]


def test_a_rate_that_so_few_records_cannot_show_is_inconclusive(of_original):
    for attack in ("LiRA", "U-LiRA"):
        check = of_original[f"{attack} TPR at 0.1% FPR"]
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.value is None
        assert "needs at least 1000" in check.reason


def test_the_largest_epsilon_that_so_many_models_can_show_is_printed(monkeypatch):
    monkeypatch.setattr("unlearning.audits.deep.RATES", (0.05,))
    check = checks(PARENT)["LiRA TPR at 5.0% FPR"]
    assert check.value > 0.5
    assert check.interval[0] < check.value
    assert f"ln(8 - 1) = {math.log(7):.3g}" in check.reason
    assert check.outcome is Outcome.FAIL


def test_u_lira_finds_out_a_method_that_unlearns_nothing(of_original):
    honest = checks(RETRAINED, method=HONEST)["U-LiRA accuracy"]
    assert honest.outcome is Outcome.PASS
    idle = of_original["U-LiRA accuracy"]
    assert idle.value > 0.8 > honest.value
    assert idle.outcome is Outcome.FAIL


def test_what_is_made_elsewhere_cannot_be_done_to_shadow_models():
    found = checks(RETRAINED, method=external_method("classifier", Guarantee.EMPIRICAL))
    assert found["U-LiRA accuracy"].outcome is Outcome.INCONCLUSIVE
    assert "is not known" in found["U-LiRA accuracy"].reason
    assert found["LiRA AUC"].outcome is Outcome.PASS


def test_without_references_nothing_is_attacked():
    found = checks(RETRAINED, policy=DEEP.model_copy(update={"reference": "never"}))
    assert {check.outcome for check in found.values()} == {Outcome.INCONCLUSIVE}
    assert all("policy allows no" in check.reason for check in found.values())


def test_the_suite_runs_the_attacks_where_the_policy_asks_and_none_of_them_decides():
    weights = {name: one.clone() for name, one in PARENT.weights.items()}
    result = get_suite("classifier")(case(RETRAINED))
    names = {check.name for check in result.checks}
    assert {"LiRA AUC", "U-LiRA accuracy"} <= names
    assert not any(check.gating for check in result.checks if "LiRA" in check.name)
    assert [(one.kind, one.count) for one in result.references] == [("retrained", 3), ("shadow", 8)]
    assert all(torch.equal(PARENT.weights[name], one) for name, one in weights.items())
