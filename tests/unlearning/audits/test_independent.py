"""Models of unknown making: a certificate counts where there is one, and nothing is believed beyond it."""

import pytest

from models.classifier import runtime
from models.contracts import ForgetSet
from tests.reference.classifier_data import clusters, silent
from unlearning.audits.ahead import train_ahead
from unlearning.audits.classifier.attacks import shadow_pool
from unlearning.audits.independent import external_method, has_certificate, judge_candidate
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import FIRST_SEED, FIRST_SHADOW_SEED, InMemoryReferences
from unlearning.audits.report import Outcome
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MethodError

DATA = clusters(60, held_out=200)
FORGET = ForgetSet(tuple(sorted(f"r{number}" for number in range(8))))
POLICY = AuditPolicy(retrained_seeds=3, reference="always")


def fit(data, seed=1):
    return runtime.train(data, {"feature_dim": 24, "max_records": 1000}, seed=seed, progress=silent)


PARENT = fit(DATA)


def judge(candidate, *, forget=FORGET, store=None, policy=POLICY):
    return judge_candidate(
        runtime,
        PARENT,
        candidate,
        DATA,
        forget,
        reload=lambda: PARENT,
        policy=policy,
        references=store or InMemoryReferences(),
        seed=0,
        progress=silent,
    )


def test_a_refit_passes_by_its_certificate_whoever_made_it():
    audit = judge(fit(DATA.without(FORGET.record_ids)))
    assert (audit.verdict, audit.guarantee, audit.method) == (Outcome.PASS, "exact", "external")
    assert audit.references == ()


def test_the_untouched_original_is_caught_by_it():
    audit = judge(PARENT)
    assert audit.verdict is Outcome.FAIL
    assert "statistics" in audit.summary


def test_a_model_from_another_seed_is_measured_instead():
    audit = judge(fit(DATA.without(FORGET.record_ids), seed=2))
    assert audit.guarantee == "empirical"
    assert audit.references[0].count == 3
    assert audit.verdict is not Outcome.FAIL


def test_without_references_what_must_be_measured_is_inconclusive():
    policy = POLICY.model_copy(update={"reference": "never"})
    audit = judge(fit(DATA.without(FORGET.record_ids), seed=2), policy=policy)
    assert audit.verdict is Outcome.INCONCLUSIVE


def test_records_that_are_not_there_are_an_error():
    with pytest.raises(MethodError, match="1 of the records"):
        judge(PARENT, forget=ForgetSet(("nobody",)))


def test_certificates_are_those_of_the_architectures_that_have_an_exact_method():
    assert has_certificate("classifier", "analytic")
    assert not has_certificate("classifier", "mlp")
    assert external_method("classifier", Guarantee.EMPIRICAL).fallback is False


class Counting(InMemoryReferences):
    """Counts what is trained."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def keep(self, reference):
        super().keep(reference)
        self.kept.append(reference.key.seed)


def ahead(store, forget, **policy):
    train_ahead(
        runtime,
        DATA,
        forget,
        reload=lambda: PARENT,
        policy=AuditPolicy(retrained_seeds=3, shadow_models=4, **policy),
        references=store,
        seed=0,
        progress=silent,
    )


def test_what_is_trained_ahead_is_what_the_audit_asks_for():
    store = Counting()
    ahead(store, FORGET, reference_seconds=0)
    assert store.kept == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    judge(fit(DATA.without(FORGET.record_ids), seed=2), store=store)
    assert len(store.kept) == 3


def test_shadow_models_do_not_depend_on_what_is_forgotten():
    store = Counting()
    ahead(store, ForgetSet())
    assert store.kept == [FIRST_SHADOW_SEED + number for number in range(4)]
    ahead(store, FORGET, deep=True)
    assert store.kept[4:] == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]


def test_the_pool_of_shadow_models_holds_what_was_learned_and_what_was_never_seen():
    pool = shadow_pool(DATA, ForgetSet(("r0",), ("a",)))
    assert not pool.held_out.any()
    learned, audited = set(DATA.training().ids), DATA.audit().without_classes(["a"])
    assert set(pool.ids) == learned | set(audited.ids)
