import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.classifier import analytic, runtime
from models.classifier.analytic import AnalyticClassifier
from models.classifier.data import ClassifierData
from models.classifier.ridge import HeadError, backward_limit
from models.contracts import ForgetSet
from tests.reference.acu_recursion import Recursion
from tests.reference.classifier_data import clusters, silent
from unlearning.catalog.classifier import AcuConfig
from unlearning.errors import MethodError
from unlearning.methods.classifier import acu

FRESH = AcuConfig()
UPDATE = AcuConfig(solve="update")
RECIPE = {"feature_dim": 24, "max_records": 1000}
DATA = clusters(60, held_out=12)


def fit(data: ClassifierData, **recipe) -> AnalyticClassifier:
    return runtime.train(data, RECIPE | recipe, seed=1, progress=silent)


MODEL = fit(DATA)


def forget(model, record_ids, config=FRESH, *, data=DATA, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return acu.run(
        model, data, ForgetSet(tuple(sorted(record_ids))), config, generator=generator, progress=silent
    )


def bring(model, data, target, config=FRESH):
    return acu.update(model, data, target, config, generator=torch.Generator(), progress=silent)


def same_bits(model, other) -> bool:
    return model.statistics.equal(other.statistics) and torch.equal(model.head, other.head)


def test_forgetting_one_of_two_records_is_worked_by_hand():
    # One feature; records 2 and 1 of class a, 1 of class b. G = 4 + 1 + 1, C = [3, 1]. Without the first:
    # G = 2, C = [1, 1], so with γ = 2 the head is [0.25, 0.25].
    data = ClassifierData(
        ("x", "y", "z"),
        torch.tensor([[4.0], [2.0], [2.0]], dtype=torch.float64),
        torch.tensor([0, 0, 1]),
        torch.zeros(3, dtype=torch.bool),
        ("a", "b"),
    )
    trained = fit(data, feature_dim=1, gamma=2.0, input_range=4.0)
    projection = torch.tensor([[2], [0]], dtype=torch.int16)
    features = dataclasses.replace(
        trained.features,
        projection=projection,
        config=trained.config.model_copy(update={"weight_bits": 0, "feature_bound": 2.0, "feature_bits": 10}),
    )
    model = analytic.fit(features, data.features, data.labels, silent)
    assert model.statistics.gram.values.tolist() == [6.0]
    assert model.statistics.cross.tolist() == [[3.0, 1.0]]
    without = forget(model, ["x"], data=data)
    assert without.statistics.gram.values.tolist() == [2.0]
    torch.testing.assert_close(without.head, torch.tensor([[0.25, 0.25]], dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sets(st.integers(0, 59), max_size=50), min_size=1, max_size=6))
def test_any_interleaving_of_learning_and_unlearning_is_bit_identical_to_a_fresh_fit(steps):
    model, known = MODEL, DATA
    for absent in steps:
        target = DATA.without([f"r{index}" for index in absent])
        model, known = bring(model, known, target), target
    assert same_bits(model, fit(known))


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.sets(st.integers(0, 59), max_size=20), min_size=1, max_size=6))
def test_low_rank_updates_keep_exact_statistics_and_a_head_as_good_as_a_fresh_solve(steps):
    model, known = MODEL, DATA
    for absent in steps:
        target = DATA.without([f"r{index}" for index in absent])
        model, known = bring(model, known, target, AcuConfig(solve="update", max_rank=40)), target
    fresh = fit(known)
    assert model.statistics.equal(fresh.statistics)
    error = HeadError.of(model.statistics, 0.1, model.head)
    assert error.backward <= backward_limit(24)
    assert float((model.head - fresh.head).norm() / fresh.head.norm()) <= 2 * error.bound + 1e-12


def test_many_single_deletions_stay_exact_where_the_published_recursion_drifts():
    gamma = 1e-6
    model = fit(DATA, gamma=gamma)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))[:40].tolist()
    features, targets = MODEL.features(DATA.features), torch.eye(3, dtype=torch.float64)[DATA.labels]
    recursion = Recursion.start(24, 3, gamma).learn(features[:60], targets[:60])
    for index in order:
        model = forget(model, [f"r{index}"], data=DATA)
        recursion = recursion.unlearn(features[[index]], targets[[index]])
    refit = fit(DATA.without([f"r{index}" for index in order]), gamma=gamma)
    assert same_bits(model, refit)
    drift = float((recursion.head - refit.head).norm() / refit.head.norm())
    assert 1e-12 < drift < 1e-1


def test_the_published_recursion_agrees_with_the_ridge_solution_at_first():
    features, targets = MODEL.features(DATA.features), torch.eye(3, dtype=torch.float64)[DATA.labels]
    recursion = (
        Recursion.start(24, 3, 0.1).learn(features[:30], targets[:30]).learn(features[30:60], targets[30:60])
    )
    torch.testing.assert_close(recursion.head, MODEL.head, rtol=1e-7, atol=1e-9)
    fewer = forget(MODEL, ["r0", "r1"])
    torch.testing.assert_close(
        recursion.unlearn(features[:2], targets[:2]).head, fewer.head, rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_an_empty_forget_set_gives_back_the_same_bits(config):
    assert same_bits(forget(MODEL, [], config), MODEL)


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_held_out_records_have_nothing_to_forget(config):
    assert same_bits(forget(MODEL, ["r60", "r71"], config), MODEL)


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_the_input_is_unchanged(config):
    model = fit(DATA)
    before = (model.statistics.clone(), model.head.clone(), model.factor)
    forget(model, ["r1", "r2", "r60"], config)
    assert model.statistics.equal(before[0])
    assert torch.equal(model.head, before[1])
    assert model.factor is before[2]


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_neither_seed_nor_order_of_the_data_matters(config):
    turned = DATA.without([])
    turned = dataclasses.replace(
        turned,
        ids=turned.ids[::-1],
        features=turned.features.flip(0),
        labels=turned.labels.flip(0),
        held_out=turned.held_out.flip(0),
    )
    once = forget(MODEL, ["r1", "r5", "r9"], config, seed=1)
    again = forget(MODEL, ["r1", "r5", "r9"], config, seed=2)
    assert same_bits(once, again)
    other = forget(MODEL, ["r1", "r5", "r9"], config, data=turned)
    assert once.statistics.equal(other.statistics)
    torch.testing.assert_close(once.head, other.head, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_a_forgotten_class_has_a_column_of_zeros_and_is_never_predicted(config):
    ids = [record_id for record_id, label in zip(DATA.ids, DATA.labels, strict=True) if label == 1]
    model = forget(MODEL, ids, config)
    assert model.head[:, 1].tolist() == [0.0] * 24
    assert not (model.predict(DATA.features) == 1).any()
    refit = fit(DATA.without(ids))
    assert model.statistics.equal(refit.statistics)
    relearned = bring(model, DATA.without(ids), DATA)
    assert same_bits(relearned, fit(DATA))


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_forgetting_everything_is_refused(config):
    with pytest.raises(MethodError, match="No training record would remain"):
        forget(MODEL, DATA.ids, config)


def test_ids_that_the_data_lack_are_refused_without_naming_them():
    with pytest.raises(MethodError, match=r"^1 of the records to forget are not in the data") as refusal:
        forget(MODEL, ["r1", "somebody"])
    assert "somebody" not in str(refusal.value)


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_a_record_forgotten_before_is_refused_when_its_class_is_empty(config):
    ids = [record_id for record_id, label in zip(DATA.ids, DATA.labels, strict=True) if label == 1][:20]
    model = forget(MODEL, ids)
    with pytest.raises(MethodError, match="More records of a class"):
        forget(model, ids[:1], config)


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_foreign_records_are_refused(config):
    # Far from every cluster and in number: more feature mass than the model has learned.
    foreign = dataclasses.replace(DATA, features=-DATA.features)
    with pytest.raises(MethodError, match="never learned by this model"):
        forget(MODEL, DATA.ids[:55], config, data=foreign)


@pytest.mark.parametrize("config", [FRESH, UPDATE])
def test_a_repeated_record_is_refused_by_the_largest_eigenvalue(config):
    # With more features than records every record is a direction of its own, so one cannot go twice. Other
    # records of its class remain, and every sum stays positive: only the eigenvalue tells.
    model = fit(DATA, feature_dim=256, gamma=1e-3)
    once = forget(model, ["r0"], config)
    with pytest.raises(MethodError, match="never learned by this model, or was forgotten before"):
        forget(once, ["r0"], config)


def test_new_records_cannot_make_up_for_foreign_ones():
    ids = [record_id for record_id, label in zip(DATA.ids, DATA.labels, strict=True) if label == 1][:20]
    model = forget(MODEL, ids)
    removed = DATA.only(ids[:1])
    with pytest.raises(MethodError, match="More records of a class"):
        acu.change(model, removed, DATA.only(ids[1:3]), FRESH, progress=silent)


def test_more_records_than_stay_exact_are_refused():
    model = fit(DATA.without(["r0"]), max_records=59)
    with pytest.raises(MethodError, match="60 records are more than the 59"):
        bring(model, DATA.without(["r0"]), DATA)


def test_records_of_an_unknown_class_are_refused():
    target = dataclasses.replace(DATA, classes=("a", "b", "new"))
    with pytest.raises(MethodError, match="does not know these classes: new"):
        bring(MODEL, DATA, target)


def test_updates_share_one_factor_until_the_rank_is_used_up():
    config = AcuConfig(solve="update", max_rank=3)
    once = forget(MODEL, ["r0", "r1"], config)
    assert once.factor.rank == 2
    twice = forget(once, ["r2"], config)
    assert twice.factor.lower is once.factor.lower
    assert twice.factor.rank == 3
    renewed = forget(twice, ["r3"], config)
    assert renewed.factor.rank == 0
    assert renewed.factor.lower is not twice.factor.lower
    assert MODEL.factor is None


def test_a_head_that_refinement_cannot_repair_is_solved_afresh():
    # A factor of something else entirely: corrections by it lead nowhere.
    wrong = fit(clusters(60, seed=9)).statistics
    broken = MODEL.with_head(MODEL.statistics, MODEL.head, acu.StaleFactor.of(wrong, 50.0))
    model = forget(broken, ["r0"], UPDATE)
    assert same_bits(model, forget(MODEL, ["r0"]))


def test_a_gamma_lost_in_rounding_is_told_apart_from_foreign_records():
    model = dataclasses.replace(
        MODEL,
        features=dataclasses.replace(
            MODEL.features, config=MODEL.config.model_copy(update={"gamma": 1e-300})
        ),
    )
    few = [f"r{index}" for index in range(57)]
    with pytest.raises(MethodError, match="lost in rounding"):
        forget(model, few)
