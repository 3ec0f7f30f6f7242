"""What holds for every method that makes a trained network forget."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.network_case import DATA, MISLABELLED, MODELS, accuracy, forget, same_bits
from unlearning.catalog import methods
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MethodError, MethodUnsuitableError

METHODS = [
    spec.name for spec in methods("classifier") if spec.implementation.startswith("unlearning.")
    and spec.architectures is not None and "mlp" in spec.architectures
]  # fmt: skip
VIGOROUS = {
    "gradient_ascent": {"learning_rate": 0.05, "epochs": 40},
    "gradient_difference": {"learning_rate": 0.1, "epochs": 40},
    "finetune": {"learning_rate": 0.3, "epochs": 12},
    "scrub": {"learning_rate": 0.02, "epochs": 12, "max_epochs": 9},
    "ssd": {"dampening": 0.05},
}
"""Enough for data this small, where the default schedules take a handful of steps."""
CASES = list(itertools.product(METHODS, DATA))


def records_of(name: str, label: str) -> tuple[str, ...]:
    visible = DATA[name].for_methods()
    return tuple(sorted(set(visible.ids) - set(visible.without_classes([label]).ids)))


def test_these_are_the_methods_for_networks():
    assert METHODS == ["finetune", "gradient_ascent", "gradient_difference", "scrub", "ssd"]
    assert all(
        spec.guarantee is Guarantee.EMPIRICAL for spec in methods("classifier") if spec.name in METHODS
    )


@pytest.mark.parametrize(("method", "name"), CASES)
def test_the_model_is_left_as_it_was_and_the_seed_decides(method, name):
    held = {key: tensor.clone() for key, tensor in MODELS[name].weights.items()}
    state = torch.get_rng_state()
    first, again = (forget(method, name=name, **VIGOROUS[method]) for _ in range(2))
    assert same_bits(first, again)
    assert not same_bits(first, MODELS[name])
    assert all(torch.equal(held[key], MODELS[name].weights[key]) for key in held)
    assert not any(tensor.requires_grad for tensor in first.weights.values())
    assert first.config == MODELS[name].config
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", METHODS)
@given(order=st.permutations(MISLABELLED))
@settings(max_examples=3, deadline=None)
def test_the_order_of_the_forget_set_is_irrelevant(method, order):
    assert same_bits(forget(method, order, **VIGOROUS[method]), forget(method, **VIGOROUS[method]))


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_threads_is_irrelevant(method):
    expected = forget(method, name="cnn", **VIGOROUS[method])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert same_bits(forget(method, name="cnn", **VIGOROUS[method]), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("calibration", ["validation", "none"])
@pytest.mark.parametrize(("method", "name"), CASES)
def test_an_empty_forget_set_gives_back_the_same_bits(method, name, calibration):
    held_out = tuple(DATA[name].calibration().ids[:3])
    for nothing in ((), held_out):  # what was held out was never learned
        assert same_bits(forget(method, nothing, name=name, calibration=calibration), MODELS[name])


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("gradient_ascent", "mlp"),  # in the cnn single records cannot be ascended without the rest
        ("gradient_difference", "mlp"),
        ("finetune", "mlp"),
        ("finetune", "cnn"),
        ("scrub", "mlp"),
        ("scrub", "cnn"),
    ],
)
def test_calibrated_forgetting_comes_nearer_to_a_retrained_model_and_keeps_the_rest(method, name):
    data, model = DATA[name], forget(method, name=name, **VIGOROUS[method])
    forgotten, retained = data.only(MISLABELLED), data.training().without(MISLABELLED)
    assert accuracy(model, forgotten) < max(0.5 * accuracy(MODELS[name], forgotten), 0.1)
    assert accuracy(model, retained) > 0.85


@pytest.mark.parametrize(("method", "name"), [case for case in CASES if case[0] != "ssd"])
def test_a_class_is_forgotten_whole(method, name):
    records = records_of(name, "b")
    longer = {"epochs": 80} if method == "finetune" else {}
    model = forget(method, records, classes=("b",), name=name, **VIGOROUS[method] | longer)
    trained = DATA[name].only(records).training()
    assert accuracy(MODELS[name], trained) > 0.85
    assert accuracy(model, trained) < 0.2
    assert model.classes == ("a", "b", "c")
    assert model.logits(trained.features).shape[1] == 3


@pytest.mark.parametrize("method", METHODS)
def test_a_forget_set_larger_than_what_remains_is_forgotten_too(method):
    most = tuple(f"r{index}" for index in range(90))
    parameters = VIGOROUS[method] | {"calibration": "none"}
    if method == "ssd":
        parameters["alpha"] = 1.01
    model = forget(method, most, **parameters)
    assert not same_bits(model, MODELS["mlp"])


@pytest.mark.parametrize("calibration", ["validation", "none"])
@pytest.mark.parametrize("method", METHODS)
def test_everything_at_once_cannot_be_forgotten_and_kept(method, calibration):
    everything = tuple(DATA["mlp"].training().ids)
    if method == "gradient_ascent" and calibration == "none":
        # It has no use for retained records; what it does to the model is for the audit to see.
        assert not same_bits(forget(method, everything, calibration=calibration), MODELS["mlp"])
        return
    with pytest.raises(MethodUnsuitableError):
        forget(method, everything, calibration=calibration)


@pytest.mark.parametrize("method", METHODS)
def test_ids_that_the_data_lack_are_refused(method):
    with pytest.raises(MethodError, match="1 of the records to forget are not in the data"):
        forget(method, ("r1", "somebody"))


@pytest.mark.parametrize("method", METHODS)
def test_a_class_the_model_does_not_know_is_refused(method):
    strange = dataclasses.replace(DATA["mlp"], classes=("a", "b", "z"))
    with pytest.raises(MethodError, match="does not know these classes: z"):
        forget(method, data=strange)


@pytest.mark.parametrize("method", METHODS)
def test_a_forget_set_that_nobody_memorised_is_declined_with_calibration(method):
    without = forget("retrain")
    with pytest.raises(MethodUnsuitableError, match="like never-seen ones already"):
        forget(method, model=without)
    assert forget(method, model=without, **VIGOROUS[method] | {"calibration": "none", **gentle(method)})


def gentle(method):
    return {"alpha": 1.01} if method == "ssd" else {}


@pytest.mark.parametrize("method", METHODS)
def test_without_held_out_records_calibration_declines(method):
    with pytest.raises(MethodUnsuitableError, match="held-out"):
        forget(method, data=DATA["mlp"].training())


@pytest.mark.parametrize("method", ["finetune", "gradient_ascent", "gradient_difference", "scrub"])
def test_a_run_that_leaves_the_numbers_is_an_error(method):
    with pytest.raises(MethodError, match="smaller learning rate"):
        forget(method, calibration="none", learning_rate=100, epochs=200, **ascending(method))


def ascending(method):
    return {"max_epochs": 200} if method == "scrub" else {}


@pytest.mark.parametrize("method", METHODS)
def test_progress_ends_and_carries_figures(method):
    steps = []
    forget(method, progress=lambda *step: steps.append(step), **VIGOROUS[method])
    _stage, step, of, figures = steps[-1]
    assert step == of
    assert figures
    assert all(isinstance(value, float) for value in figures.values())


def test_a_label_order_of_the_data_that_differs_from_the_models_is_understood():
    data = DATA["mlp"]
    turned = dataclasses.replace(data, classes=("c", "a", "b"), labels=(data.labels + 1) % 3)
    for method in METHODS:
        assert same_bits(
            forget(method, data=turned, calibration="none", **shared(method)),
            forget(method, calibration="none", **shared(method)),
        )


def shared(method):
    return VIGOROUS[method] | gentle(method)


def test_the_case_is_one_that_a_model_memorises():
    assert accuracy(MODELS["cnn"], DATA["cnn"].only(MISLABELLED)) > 0.5
    assert accuracy(forget("retrain", name="cnn"), DATA["cnn"].only(MISLABELLED)) < 0.2
