import dataclasses
from types import SimpleNamespace

import pytest

from models.classifier import runtime
from models.contracts import ForgetSet
from models.errors import CheckpointError
from tests.reference.classifier_data import clusters, silent
from unlearning.audits import references
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import (
    FIRST_SEED,
    InMemoryReferences,
    ReferenceKey,
    ReferenceTrainer,
    recipe_digest,
)
from unlearning.errors import MissingReferenceError
from unlearning.pipeline import run_plan
from unlearning.planner import PlanInput, make_plan

DATA = clusters(60, held_out=60)
FORGET = ForgetSet(("r0", "r1", "r2", "r60"))
PARENT = runtime.train(DATA, {"architecture": "mlp", "epochs": 2, "hidden": [4]}, seed=1, progress=silent)
DEFAULT = AuditPolicy()


CLOCK = SimpleNamespace(now=0.0)


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Let only pretended training take time."""
    monkeypatch.setattr(references, "time", SimpleNamespace(perf_counter=lambda: CLOCK.now))


class Counted:
    """The classifier runtime, counting what it trains; training may seem to take a while, or fail."""

    def __init__(self, seconds=0.0, error=None):
        self.trained = []
        self.seconds = seconds
        self.error = error

    def __getattr__(self, name):
        return getattr(runtime, name)

    def retrain(self, model, data, *, seed, progress):
        if self.error is not None:
            raise self.error
        self.trained.append((seed, data.training().ids))
        CLOCK.now += self.seconds
        progress("training", 1, 1)
        return runtime.retrain(model, data, seed=seed, progress=progress)


def trainer(counted=None, *, policy=DEFAULT, store=None, data=DATA, forget=FORGET, seed=3, parent=PARENT):
    return ReferenceTrainer(
        counted or Counted(),
        lambda: parent,
        data,
        forget,
        policy,
        InMemoryReferences() if store is None else store,
        seed=seed,
        progress=silent,
    )


def test_references_are_trained_once_on_what_remains_by_seeds_of_their_own():
    counted = Counted()
    one = trainer(counted)
    assert one.retrained() is one.retrained()
    assert [seed for seed, _ in counted.trained] == [FIRST_SEED + place for place in range(5)]
    assert all(not set(ids) & set(FORGET.record_ids) and len(ids) == 57 for _, ids in counted.trained)
    assert one.retrained().cached == 0
    assert one.retrained().note == ""


def test_no_reference_has_the_jobs_seed_from_which_a_retrained_candidate_is_made():
    seeds = [reference.key.seed for reference in trainer(seed=FIRST_SEED + 1).retrained().references]
    assert seeds == [FIRST_SEED, *(FIRST_SEED + place for place in range(2, 6))]


def test_a_later_audit_of_the_same_data_and_recipe_finds_them_again():
    store = InMemoryReferences()
    first = trainer(store=store).retrained()
    counted = Counted()
    again = trainer(counted, store=store).retrained()
    assert counted.trained == []
    assert again.cached == 5
    assert again.models == first.models
    assert again.seconds == first.seconds


@pytest.mark.parametrize("changed", ["forget", "features", "label", "recipe"])
def test_references_of_other_data_or_another_recipe_are_not_found(changed):
    store = InMemoryReferences()
    trainer(store=store).retrained()
    data, forget, parent = DATA, FORGET, PARENT
    if changed == "forget":
        forget = ForgetSet(("r0", "r1"))
    elif changed == "features":
        data = dataclasses.replace(DATA, features=DATA.features.clone())
        data.features[30, 2] += 1e-9
    elif changed == "label":
        data = dataclasses.replace(DATA, labels=DATA.labels.clone())
        data.labels[30] = (data.labels[30] + 1) % 3
    else:
        parent = runtime.train(
            DATA, {"architecture": "mlp", "epochs": 3, "hidden": [4]}, seed=1, progress=silent
        )
    assert trainer(store=store, data=data, forget=forget, parent=parent).retrained().cached == 0


def test_held_out_records_and_the_parents_seed_do_not_matter():
    store = InMemoryReferences()
    trainer(store=store).retrained()
    data = DATA.without(["r70", "r71"])
    parent = runtime.train(DATA, {"architecture": "mlp", "epochs": 2, "hidden": [4]}, seed=9, progress=silent)
    assert trainer(store=store, data=data, parent=parent).retrained().cached == 5


def test_a_store_that_gives_something_else_is_not_believed():
    class Liar(InMemoryReferences):
        def find(self, key):
            found = super().find(key)
            return found and dataclasses.replace(found, key=ReferenceKey("other", key.recipe, key.seed))

    store = Liar()
    trainer(store=store).retrained()
    with pytest.raises(MissingReferenceError, match="of other data, another recipe or another seed"):
        trainer(store=store).retrained()


def test_a_policy_that_allows_none_is_the_reason():
    counted = Counted()
    strict = trainer(counted, policy=AuditPolicy(reference="never"))
    for _ in range(2):
        with pytest.raises(MissingReferenceError, match="policy allows no"):
            strict.retrained()
    with pytest.raises(MissingReferenceError, match="policy allows no"):
        list(strict.shadows(DATA.training()))
    assert counted.trained == []


def test_a_training_that_outlasts_the_budget_is_broken_off():
    counted = Counted(seconds=20.0)
    with pytest.raises(MissingReferenceError, match=r"budget of 10 s for references is spent"):
        trainer(counted, policy=AuditPolicy(reference_seconds=10.0)).retrained()
    assert len(counted.trained) == 1


def test_it_ends_as_soon_as_one_reference_tells_that_the_least_number_does_not_fit():
    counted = Counted(seconds=30.0)
    with pytest.raises(MissingReferenceError, match="A reference takes about 30 s"):
        trainer(counted, policy=AuditPolicy(reference_seconds=70.0)).retrained()
    assert len(counted.trained) == 1


def test_fewer_than_asked_for_are_used_and_said_to_be_fewer():
    counted = Counted(seconds=30.0)
    found = trainer(counted, policy=AuditPolicy(reference_seconds=140.0)).retrained()
    assert len(found.references) == 4
    assert found.note.startswith("4 of 5 retrained references: A reference takes about 30 s")


def test_always_knows_no_budget():
    policy = AuditPolicy(reference="always", reference_seconds=0.0, retrained_seeds=3)
    assert len(trainer(Counted(seconds=10.0), policy=policy).retrained().references) == 3


def test_cached_references_cost_no_budget():
    store = InMemoryReferences()
    trainer(store=store).retrained()
    policy = AuditPolicy(reference_seconds=0.0)
    assert trainer(Counted(seconds=10.0), policy=policy, store=store).retrained().cached == 5


def test_what_keeps_a_model_from_being_retrained_is_the_reason():
    with pytest.raises(MissingReferenceError, match="could not be retrained: training diverged"):
        trainer(Counted(error=ValueError("training diverged"))).retrained()
    with pytest.raises(MissingReferenceError, match="No training records remain"):
        trainer(forget=ForgetSet(tuple(sorted(DATA.ids)))).retrained()


def test_a_parent_that_does_not_load_is_the_reason():
    def damaged():
        raise CheckpointError("The tensor head.weight is missing.")

    broken = ReferenceTrainer(
        runtime, damaged, DATA, FORGET, DEFAULT, InMemoryReferences(), seed=0, progress=silent
    )
    with pytest.raises(MissingReferenceError, match=r"cannot be loaded anew: The tensor head\.weight"):
        broken.retrained()


def test_every_record_falls_to_exactly_half_of_the_shadow_models():
    counted, store = Counted(), InMemoryReferences()
    policy = AuditPolicy(shadow_models=6)
    pool = DATA.training()
    shadows = list(trainer(counted, policy=policy, store=store).shadows(pool))
    assert len(shadows) == 6
    assert all(sum(name in shadow.trained_on for shadow in shadows) == 3 for name in pool.ids)
    assert len({shadow.trained_on for shadow in shadows}) == 6
    assert {frozenset(ids) for _, ids in counted.trained} == {shadow.trained_on for shadow in shadows}
    again = Counted()
    assert [shadow.trained_on for shadow in trainer(again, policy=policy, store=store).shadows(pool)] == [
        shadow.trained_on for shadow in shadows
    ]
    assert again.trained == []


def test_shadow_models_and_references_share_a_budget():
    policy = AuditPolicy(shadow_models=4, reference_seconds=35.0, retrained_seeds=3)
    one = trainer(Counted(seconds=10.0), policy=policy)
    one.retrained()
    with pytest.raises(MissingReferenceError, match="budget"):
        list(one.shadows(DATA.training()))


def test_the_recipe_leaves_the_seed_out_and_a_strangers_configuration_is_taken_whole():
    other = runtime.retrain(PARENT, DATA, seed=77, progress=silent)
    assert recipe_digest(runtime.recipe(other)) == recipe_digest(runtime.recipe(PARENT))
    analytic = runtime.train(DATA, {"feature_dim": 8, "max_records": 1000}, seed=1, progress=silent)
    elsewhere = runtime.train(DATA, {"feature_dim": 8, "max_records": 1000}, seed=2, progress=silent)
    # Its frozen projection is drawn from the seed and stays in retraining, so it is part of how it is trained.
    assert recipe_digest(runtime.recipe(analytic)) != recipe_digest(runtime.recipe(elsewhere))
    assert runtime.untrained(analytic, seed=0) is None
    assert runtime.untrained(PARENT, seed=0).weights.keys() == PARENT.weights.keys()


def test_retraining_as_a_rung_is_trained_by_the_jobs_own_seed_whatever_references_there_are():
    store = InMemoryReferences()
    kept = trainer(store=store, seed=11).retrained()
    described = PlanInput(
        family="classifier",
        architecture=dict(runtime.describe(PARENT)),
        target_kind="records",
        records=60,
        forget=3,
        method="retrain",
    )
    result = run_plan(
        runtime,
        PARENT,
        DATA,
        FORGET,
        make_plan(described),
        reload=lambda: PARENT,
        policy=DEFAULT,
        references=store,
        seed=11,
        progress=silent,
    )
    candidate = result.model if result.model is not None else result.best[0]
    assert candidate.config.seed == 11
    assert all(candidate is not model and model.config.seed != 11 for model in kept.models)
    assert len(kept.references) == 5
