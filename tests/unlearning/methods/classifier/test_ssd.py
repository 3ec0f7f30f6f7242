import pytest
import torch
from torch.func import grad, vmap
from torch.nn import functional

from models.classifier import runtime
from models.classifier.data import ClassifierData
from tests.reference.classifier_data import silent
from tests.reference.network_case import DATA, MODELS, accuracy, forget, same_bits
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.classifier import ssd
from unlearning.methods.classifier.sides import Examples

NAMES = ["mlp", "cnn"]


def examples(name, count=9):
    data = DATA[name].training()
    return Examples(data.features[:count], data.labels[:count])


def slow_squares(model, chosen):
    """One record at a time: its gradient, squared, added."""
    sums = {name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in model.weights.items()}
    for index in range(len(chosen)):
        weights = {name: tensor.clone().requires_grad_() for name, tensor in model.weights.items()}
        loss = functional.cross_entropy(
            model.apply(model.scale(chosen.features[[index]]), weights), chosen.labels[[index]]
        )
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            sums[name] += gradient.double().square()
    return sums


@pytest.mark.parametrize("name", NAMES)
def test_squared_gradients_agree_with_a_loop_over_records(name):
    fast, slow = (count(MODELS[name], examples(name)) for count in (ssd.squared_gradients, slow_squares))
    assert fast.keys() == slow.keys()
    for key in slow:
        assert fast[key].max() > 0
        torch.testing.assert_close(fast[key], slow[key], rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_squared_gradients_agree_with_vmap(name):
    model, chosen = MODELS[name], examples(name)

    def loss(weights, inputs, label):
        return functional.cross_entropy(model.apply(inputs[None], weights), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(model.weights, model.scale(chosen.features), chosen.labels)
    fast = ssd.squared_gradients(model, chosen)
    for key, gradients in each.items():
        torch.testing.assert_close(fast[key], gradients.double().square().sum(dim=0), rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_square_of_a_batchs_mean_gradient_is_something_else(name):
    model, chosen = MODELS[name], examples(name)
    weights = {key: tensor.clone().requires_grad_() for key, tensor in model.weights.items()}
    mean = functional.cross_entropy(model.apply(model.scale(chosen.features), weights), chosen.labels)
    (wrong,) = torch.autograd.grad(mean, [weights["head.weight"]])
    right = ssd.squared_gradients(model, chosen)["head.weight"] / len(chosen)
    assert (wrong.double().square().sum() / right.sum()) < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_chunks_do_not_change_the_sum_and_no_records_give_zeros(name, monkeypatch):
    whole = ssd.squared_gradients(MODELS[name], examples(name))
    monkeypatch.setattr(ssd, "CHUNK", 4)
    for key, chunked in ssd.squared_gradients(MODELS[name], examples(name)).items():
        torch.testing.assert_close(chunked, whole[key], rtol=1e-5, atol=1e-12)
    assert all(not square.any() for square in ssd.squared_gradients(MODELS[name], examples(name, 0)).values())


def test_dampening_is_worked_by_hand():
    model = MODELS["mlp"]
    shape = model.weights["head.bias"].shape
    on_all = {name: torch.ones(tensor.shape, dtype=torch.float64) for name, tensor in model.weights.items()}
    on_forgotten = {
        name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in model.weights.items()
    }
    # α 2: the first is below the threshold, the second at it, the third above: 0.5 * 1 / 4.
    on_forgotten["head.bias"] = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    dampened, selected = ssd.dampen(model, on_forgotten, on_all, alpha=2.0, dampening=0.5)
    assert shape == (3,)
    assert selected == 1
    factors = torch.tensor([1.0, 1.0, 0.125])
    assert torch.equal(dampened.weights["head.bias"], model.weights["head.bias"] * factors)
    assert all(
        torch.equal(dampened.weights[name], model.weights[name])
        for name in model.weights
        if name != "head.bias"
    )


def test_weights_are_never_made_larger():
    model = MODELS["mlp"]
    ones = {name: torch.ones(tensor.shape, dtype=torch.float64) for name, tensor in model.weights.items()}
    twos = {name: 2 * one for name, one in ones.items()}
    dampened, selected = ssd.dampen(model, twos, ones, alpha=1.0, dampening=100.0)
    assert selected == 0
    assert same_bits(dampened, model)


def test_nothing_selected_is_declined_not_returned_unchanged():
    with pytest.raises(MethodUnsuitableError, match="No weight matters so much more"):
        forget("ssd", calibration="none", alpha=1e6)


def test_with_the_papers_threshold_a_tenth_of_the_data_selects_nothing():
    # F holds the forget set: F_f / F is at most n / n_f.
    with pytest.raises(MethodUnsuitableError):
        forget("ssd", [f"r{index}" for index in range(12)], calibration="none", alpha=10.0)


def test_a_class_of_handwritten_digits_is_dampened_away_while_the_others_stay(digits):
    data, model = digits
    records = tuple(name for name in data.for_methods().ids if data.labels[data.positions[name]] == 3)
    steps = []
    without = forget(
        "ssd", records, classes=("3",), data=data, model=model, progress=lambda *step: steps.append(step)
    )
    alphas = [step[3]["alpha"] for step in steps if step[0] == "dampening"]
    assert alphas == sorted(alphas, reverse=True)
    assert min(alphas) >= 1.0
    trained, others = data.only(records).training(), data.training().without(records)
    assert accuracy(model, trained) > 0.95
    assert accuracy(without, trained) < 0.05
    assert accuracy(without, others) > 0.9


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    data = ClassifierData(
        tuple(f"digit-{index}" for index in range(len(labels))),
        torch.from_numpy(features.astype("uint8")),
        torch.from_numpy(labels),
        torch.arange(len(labels)) % 4 == 3,
        tuple("0123456789"),
    )
    recipe = {"architecture": "mlp", "hidden": [64], "input_range": 16.0, "epochs": 15, "learning_rate": 0.1}
    return data, runtime.train(data, recipe, seed=1, progress=silent)
