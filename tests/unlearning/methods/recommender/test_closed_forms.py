"""EASE and GF-CF forget exactly: whatever the requests, what is left is what fitting on the rest gives."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contracts import ForgetSet
from models.recommender import runtime
from models.recommender.ease import InverseError
from models.recommender.pair_sums import PairSums
from tests.reference.classifier_data import silent
from tests.reference.recommender_data import random_interactions, table
from unlearning.catalog import recommender as catalog
from unlearning.errors import MethodError
from unlearning.methods.recommender import ease, gfcf, retrain

DATA = random_interactions(users=25, items=15, share=0.35)
RECIPES = {"ease": {"regularisation": 5.0}, "gfcf": {"factors": 4}}
METHODS = {"ease": ease, "gfcf": gfcf}
UPDATE = catalog.EaseConfig(solve="update")
REFIT = catalog.EaseConfig(solve="refit")
CONFIGS = {"ease": UPDATE, "gfcf": catalog.GfcfConfig()}
both = pytest.mark.parametrize("kind", ["ease", "gfcf"])


def fitted(kind, data=DATA):
    return runtime.train(data, {"architecture": kind} | RECIPES[kind], seed=0, progress=silent)


def forget(kind, model, data, record_ids, config=None):
    return METHODS[kind].run(
        model,
        data,
        ForgetSet(tuple(sorted(record_ids))),
        config or CONFIGS[kind],
        generator=torch.Generator().manual_seed(0),
        progress=silent,
    )


def bring(kind, model, data, target):
    return METHODS[kind].update(
        model, data, target, CONFIGS[kind], generator=torch.Generator(), progress=silent
    )


def of_users(data, *users):
    return [name for name in data.ids if json.loads(name)[0] in users]


def of_items(data, *items):
    return [name for name in data.ids if json.loads(name)[1] in items]


def numbers(model):
    return model.counts if model.architecture == "ease" else model.sums


def assert_exact(model, expected):
    assert (model.users, model.items, model.config) == (expected.users, expected.items, expected.config)
    assert numbers(model).equal(numbers(expected))
    if model.architecture == "ease":
        assert float((model.weights() - expected.weights()).abs().max()) < 1e-13
    else:
        assert torch.equal(model.vectors, expected.vectors)
        assert torch.equal(model.item_degrees, expected.item_degrees)


@both
@pytest.mark.parametrize(
    "chosen",
    [
        of_users(DATA, "u3"),
        of_users(DATA, "u1", "u2", "u9"),
        of_items(DATA, "i4"),
        list(DATA.ids[5:9]),
        [DATA.ids[0]],
    ],
    ids=["a user", "users", "an item", "interactions", "an interaction"],
)
def test_forgetting_equals_fitting_on_the_rest(kind, chosen):
    assert_exact(forget(kind, fitted(kind), DATA, chosen), fitted(kind, DATA.without(chosen)))


@both
@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.sets(st.sampled_from(DATA.ids), max_size=30), min_size=1, max_size=5))
def test_any_interleaving_of_learning_and_unlearning_equals_one_fit(kind, steps):
    model, known = fitted(kind), DATA
    for absent in steps:
        target = DATA.without(absent)
        model, known = bring(kind, model, known, target), target
    assert_exact(model, fitted(kind, known))


@both
def test_hundreds_of_requests_do_not_drift(kind):
    model, data = fitted(kind), DATA
    for name in DATA.training().ids[:-1]:
        model, data = forget(kind, model, data, [name]), data.without([name])
    assert_exact(model, fitted(kind, data))
    if kind == "ease":
        assert InverseError.of(data.learned().matrix(), 5.0, model.inverse).weights < 1e-12


@both
def test_who_is_left_with_nothing_is_no_longer_known(kind):
    data = table([("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("c", "x")], held_out=[("c", "y")])
    left = forget(kind, fitted(kind, data), data, ['["b","x"]', '["b","z"]', '["c","x"]'])
    assert (left.users, left.items) == (("a",), ("x", "y"))


@both
def test_held_out_interactions_were_never_learned(kind):
    hidden = [name for name, held in zip(DATA.ids, DATA.held_out.tolist(), strict=True) if held]
    model = fitted(kind)
    assert_exact(forget(kind, model, DATA, hidden[:5]), model)


@both
def test_the_model_given_is_not_changed_and_nothing_to_forget_changes_nothing(kind):
    model, expected = fitted(kind), fitted(kind)
    forget(kind, model, DATA, of_users(DATA, "u3"))
    same = forget(kind, model, DATA, [])
    for one in (model, same):
        assert_exact(one, expected)
        if kind == "ease":
            assert torch.equal(one.inverse, expected.inverse)


@both
def test_the_order_of_the_forget_set_is_irrelevant(kind):
    chosen = of_users(DATA, "u1", "u2")
    first = METHODS[kind].run(
        fitted(kind), DATA, ForgetSet(tuple(chosen)), CONFIGS[kind], generator=None, progress=silent
    )
    second = METHODS[kind].run(
        fitted(kind), DATA, ForgetSet(tuple(reversed(chosen))), CONFIGS[kind], generator=None, progress=silent
    )
    assert_exact(first, second)


@both
def test_an_interaction_that_is_not_there_is_refused(kind):
    with pytest.raises(MethodError, match="2 of the records to forget are not in the data"):
        forget(kind, fitted(kind), DATA, ['["u1","nothing"]', '["nobody","i1"]'])


@both
def test_forgetting_everything_is_refused(kind):
    with pytest.raises(MethodError, match="No training interaction would remain"):
        forget(kind, fitted(kind), DATA, DATA.ids)


@both
def test_data_that_the_model_has_not_learned_are_refused(kind):
    other = DATA.without(of_users(DATA, "u3"))
    with pytest.raises(MethodError, match="not those that this model has learned"):
        forget(kind, fitted(kind), other, of_users(DATA, "u4"))


@both
def test_sums_that_cannot_have_had_the_history_are_refused(kind):
    """Equal tables and numbers of interactions, but other pairs: the sums themselves tell."""
    others = [("c", "p"), ("c", "q"), ("c", "r")]
    learned = table([("a", "x"), ("a", "y"), ("b", "z"), *others])
    claimed = table([("a", "x"), ("a", "z"), ("b", "y"), *others])
    model = fitted(kind, learned)
    with pytest.raises(MethodError, match="never learned by this model"):
        forget(kind, model, claimed, ['["a","x"]', '["a","z"]'])


def test_refitting_gives_the_bits_of_a_fit():
    chosen = of_users(DATA, "u3")
    model = forget("ease", fitted("ease"), DATA, chosen, REFIT)
    assert torch.equal(model.inverse, fitted("ease", DATA.without(chosen)).inverse)


def test_the_cheaper_way_is_chosen(monkeypatch):
    """At 15 items inverting costs less than copying the matrix; an update is not even tried."""
    monkeypatch.setattr(ease, "updated_inverse", None)
    chosen = of_users(DATA, "u3")
    model = forget("ease", fitted("ease"), DATA, chosen, catalog.EaseConfig())
    assert torch.equal(model.inverse, fitted("ease", DATA.without(chosen)).inverse)


def test_an_update_that_cannot_show_its_bound_is_replaced(monkeypatch):
    spoil = ease.updated_inverse
    monkeypatch.setattr(ease, "updated_inverse", lambda *args: spoil(*args) + 1e-9)
    chosen = of_users(DATA, "u3")
    expected = fitted("ease", DATA.without(chosen)).inverse
    assert torch.equal(forget("ease", fitted("ease"), DATA, chosen).inverse, expected)
    loose = forget("ease", fitted("ease"), DATA, chosen, catalog.EaseConfig(solve="update", tolerance=1e-3))
    assert not torch.equal(loose.inverse, expected)


def test_a_drifted_inverse_is_refreshed():
    """Errors of earlier updates are caught by the bound, not only those of this one."""
    model = fitted("ease")
    drifted = type(model)(model.config, model.users, model.items, model.counts, model.inverse + 1e-6)
    chosen = of_users(DATA, "u3")
    assert torch.equal(
        forget("ease", drifted, DATA, chosen).inverse, fitted("ease", DATA.without(chosen)).inverse
    )


def test_a_catalogue_that_grows_beyond_its_matrix_is_refused():
    before = table([("a", "x"), ("a", "y")])
    model = runtime.train(before, {"max_matrix_bytes": 32}, seed=0, progress=silent)
    after = table([("a", "x"), ("a", "y"), ("b", "z")])
    with pytest.raises(MethodError, match=r"too large: 3 items need a matrix of 72\.0 bytes"):
        bring("ease", model, before, after)


def test_more_users_than_sums_stay_exact_for_are_refused():
    before = table([("a", "x"), ("b", "y")])
    model = runtime.train(before, {"architecture": "gfcf", "max_users": 2}, seed=0, progress=silent)
    with pytest.raises(MethodError, match="3 users are more than the 2"):
        bring("gfcf", model, before, table([("a", "x"), ("b", "y"), ("c", "y")]))


def test_gfcf_sums_afresh_where_most_is_forgotten(monkeypatch):
    monkeypatch.setattr(PairSums, "changed", None)
    chosen = of_users(DATA, *[user for user in DATA.users if user != "u3"])
    assert_exact(forget("gfcf", fitted("gfcf"), DATA, chosen), fitted("gfcf", DATA.without(chosen)))


@both
def test_retraining_is_a_fit_on_the_rest(kind):
    chosen = of_users(DATA, "u3")
    model = retrain.run(
        fitted(kind),
        DATA,
        ForgetSet(tuple(chosen)),
        catalog.RetrainConfig(),
        generator=torch.Generator().manual_seed(0),
        progress=silent,
    )
    assert_exact(model, fitted(kind, DATA.without(chosen)))


@both
def test_retraining_on_nothing_is_refused(kind):
    with pytest.raises(MethodError, match="Retraining is not possible: there are no training interactions"):
        retrain.update(
            fitted(kind),
            DATA,
            DATA.without(DATA.ids),
            catalog.RetrainConfig(),
            generator=torch.Generator(),
            progress=silent,
        )


def test_retraining_refuses_what_is_not_there():
    with pytest.raises(MethodError, match="1 of the records to forget are not in the data"):
        retrain.run(
            fitted("ease"),
            DATA,
            ForgetSet(('["x","y"]',)),
            catalog.RetrainConfig(),
            generator=torch.Generator(),
            progress=silent,
        )
