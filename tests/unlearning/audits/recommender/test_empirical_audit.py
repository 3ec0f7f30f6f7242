"""The audit of approximate methods on a trained recommender: what decides, and in which views."""

from functools import cache

import pytest

from models.contracts import ForgetSet
from models.recommender import runtime
from tests.reference.classifier_data import silent
from tests.reference.recommender_data import random_interactions
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences, ReferenceTrainer
from unlearning.audits.report import Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.recommender_networks import FINETUNE

DATA = random_interactions(users=70, items=40, share=0.2, held_out=0.3)
PAIRS = ForgetSet(tuple(sorted(DATA.training().ids[::12])))
USERS = ForgetSet(tuple(sorted(name for name in DATA.ids if name.startswith(('["u7"', '["u3"', '["u12"')))))
RECIPE = {"architecture": "lightgcn", "width": 8, "layers": 2, "epochs": 40, "learning_rate": 0.05}
POLICY = AuditPolicy(retrained_seeds=3)
STORE = InMemoryReferences()


@cache
def trained(seed=0):
    return runtime.train(DATA, RECIPE, seed=seed, progress=silent)


def retrained(forget, seed=1):
    return runtime.retrain(trained(), DATA.without(forget.record_ids), seed=seed, progress=silent)


def audited(candidate, forget):
    trainer = ReferenceTrainer(runtime, trained, DATA, forget, POLICY, STORE, seed=0, progress=silent)
    return get_suite("recommender")(
        Case(
            parent=trained(),
            candidate=candidate,
            data=DATA,
            forget=forget,
            method=FINETUNE,
            parameters={},
            seed=0,
            unlearning_seconds=0.1,
            progress=silent,
            policy=POLICY,
            references=trainer,
        )
    )


def by_name(audit):
    return {check.name: check for check in audit.checks}


def test_forgotten_pairs_are_judged_in_both_views():
    checks = by_name(audited(retrained(PAIRS), PAIRS))
    forgetting = {
        name for name, check in checks.items() if check.gating and check.group in {"forgetting", "membership"}
    }
    assert {"forget quality (margins)", "membership AUC"} < forgetting
    assert {"forget quality (margins), folded in", "membership AUC, folded in"} < forgetting
    assert all(checks[name].value is not None for name in forgetting), checks
    assert checks["recall@20 against retraining"].value is not None


@pytest.mark.parametrize(
    "name",
    [
        "forget-versus-negative AUC",
        "MI-BF",
        "MI-NG",
        "Kolmogorov-Smirnov p",
        "active/inactive gap",
        "top-20 overlap of unaffected users",
        "NDCG@20",
        "recall@20, open",
        "recall@20 of forgotten interactions",
    ],
)
def test_the_fields_figures_are_reported_beside_the_retrained_models(name):
    # Pairs of some users alone, so that others are unaffected.
    few = ForgetSet(
        tuple(sorted(name for name in DATA.training().ids if name.startswith(('["u1', '["u2'))))[::2]
    )
    check = _informing(few)[name]
    assert check.value is not None, check.reason
    assert check.gating is False
    assert check.reference is not None


@cache
def _informing(forget):
    return by_name(audited(retrained(forget), forget))


def test_users_who_are_gone_whole_are_judged_by_what_items_know_of_them():
    checks = by_name(audited(retrained(USERS), USERS))
    assert "forget quality (margins), folded in" in checks
    assert "forget quality (margins)" not in checks
    assert checks["forget quality (margins), folded in"].value is not None
    assert checks["forget-versus-negative AUC"].value is not None


def test_the_untouched_original_is_further_from_retraining_than_a_retrained_model():
    def shift(candidate):
        check = by_name(audited(candidate, PAIRS))["forget quality (margins)"]
        return abs(check.value - check.reference)

    narrowed = trained().narrowed(DATA.without(PAIRS.record_ids))
    assert shift(narrowed) > shift(retrained(PAIRS))


def test_a_model_that_forgets_names_of_those_who_stay_fails_to_be_measured():
    """It does not know a user with training interactions left: no figure, so no pass."""
    less = ForgetSet(tuple(name for name in DATA.ids if name.startswith('["u20"')))
    assert audited(retrained(less), PAIRS).verdict is not Outcome.PASS
