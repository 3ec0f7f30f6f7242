"""EASE and GF-CF forget exactly: whatever the requests, what is left is what fitting on the rest gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contracts import ForgetSet
from models.recommender.ease import InverseError
from tests.reference.classifier_data import silent
from tests.reference.closed_form_case import (
    CONFIGS,
    DATA,
    METHODS,
    assert_exact,
    both,
    bring,
    fitted,
    forget,
    of_items,
    of_users,
)
from tests.reference.recommender_data import table
from unlearning.errors import MethodError


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
