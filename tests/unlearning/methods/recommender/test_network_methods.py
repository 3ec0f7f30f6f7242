"""What holds for every method that makes a trained recommender forget."""

import itertools
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.recommender.neural import NeuralRecommender
from tests.reference.recommender_case import (
    ARCHITECTURES,
    DATA,
    FORGOTTEN,
    MODELS,
    USER,
    forget,
    same_bits,
)
from unlearning.catalog import methods
from unlearning.catalog.recommender_networks import PretrainConfig
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MethodError, MethodUnsuitableError
from unlearning.methods.recommender.pretraining import pretrain

METHODS = ["finetune", "unlearnrec"]
BRIEF = {"finetune": {"epochs": 2}, "unlearnrec": {"steps": 5}}
CASES = list(itertools.product(METHODS, ARCHITECTURES))


def quiet(*step: object) -> None:
    """Take no notice of progress."""


@lru_cache
def pretrained(architecture: str, objective: str = "validation") -> NeuralRecommender:
    config = PretrainConfig(steps=20, objective=objective)
    generator = torch.Generator().manual_seed(9)
    return pretrain(MODELS[architecture], DATA.for_methods(), config, generator=generator, progress=quiet)


def test_these_are_the_methods_for_networks():
    found = [
        spec.name
        for spec in methods("recommender")
        if spec.architectures and "lightgcn" in spec.architectures
    ]
    assert found == METHODS
    assert all(
        spec.guarantee is Guarantee.EMPIRICAL for spec in methods("recommender") if spec.name in METHODS
    )


@pytest.mark.parametrize(("method", "architecture"), CASES)
def test_the_model_is_left_as_it_was_and_the_seed_decides(method, architecture):
    model = pretrained(architecture)
    held = model.user_factors.clone(), model.item_factors.clone()
    state = torch.get_rng_state()
    first, again = (forget(method, model=model, **BRIEF[method]) for _ in range(2))
    assert same_bits(first, again)
    assert not same_bits(first, model)
    assert torch.equal(held[0], model.user_factors)
    assert torch.equal(held[1], model.item_factors)
    assert not first.user_factors.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", METHODS)
@given(order=st.permutations(FORGOTTEN))
@settings(max_examples=3, deadline=None)
def test_the_order_of_the_forget_set_is_irrelevant(method, order):
    model = pretrained("lightgcn")
    shuffled = forget(method, tuple(order), model=model, **BRIEF[method])
    assert same_bits(shuffled, forget(method, model=model, **BRIEF[method]))


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_threads_is_irrelevant(method):
    model = pretrained("lightgcn")
    expected = forget(method, model=model, **BRIEF[method])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert same_bits(forget(method, model=model, **BRIEF[method]), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("method", "architecture"), CASES)
def test_an_empty_forget_set_gives_back_the_same_bits(method, architecture):
    held_out = tuple(DATA.calibration().ids[:3])
    for nothing in ((), held_out):  # what was held out was never learned
        assert same_bits(forget(method, nothing, model=MODELS[architecture]), MODELS[architecture])


@pytest.mark.parametrize("method", METHODS)
def test_a_forgotten_user_loses_row_and_name(method):
    model = pretrained("lightgcn")
    after = forget(method, USER, model=model, **BRIEF[method])
    assert set(model.users) - set(after.users) == {"user-0011"}
    assert after.config.users == len(after.user_factors) == len(model.users) - 1
    # Nobody else had a part in these interactions but items that stay with others: their rows are untouched.
    kept = [place for place, user in enumerate(model.users) if user != "user-0011"]
    assert torch.equal(after.user_factors, model.user_factors[kept])
    assert after.influence.user_states.shape == after.user_factors.shape


@pytest.mark.parametrize("method", METHODS)
def test_an_interaction_that_is_not_there_is_refused(method):
    for strange in ('["user-0001","item-9999"]', '["nobody","item-0001"]', "not an interaction at all"):
        with pytest.raises(MethodError, match="1 of the interactions"):
            forget(method, (*FORGOTTEN, strange))


@pytest.mark.parametrize("method", METHODS)
def test_to_forget_everything_is_not_for_these_methods(method):
    with pytest.raises(MethodUnsuitableError, match="nothing is left"):
        forget(method, DATA.training().ids)


@pytest.mark.parametrize("method", METHODS)
def test_progress_ends_where_it_says(method):
    steps = []
    forget(method, model=pretrained("lightgcn"), progress=lambda *step: steps.append(step), **BRIEF[method])
    assert steps[-1][1] == steps[-1][2]
    assert all(torch.tensor(list(figures.values())).isfinite().all() for *_, figures in steps)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_leaves_the_numbers_is_refused(method):
    broken = MODELS["lightgcn"].with_factors(
        type(MODELS["lightgcn"].factors)(
            MODELS["lightgcn"].user_factors * 1e30, MODELS["lightgcn"].item_factors * 1e30
        )
    )
    parameters = {"encoder": "none"} if method == "unlearnrec" else {}
    with pytest.raises(MethodError, match=r"smaller learning rate|finite"):
        forget(method, model=broken, **parameters)
