import pytest
import torch
from torch import nn

from tests.reference.classifier_data import clusters
from unlearning.audits.classifier.outputs import observe
from unlearning.audits.reading import reading
from unlearning.errors import MetricError

DATA = clusters(60, held_out=20)


class Restless(nn.Module):
    """A stranger's network: it drops units at random, and remembers statistics of what it is shown."""

    architecture = "restless"
    classes = DATA.classes

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        ).double()
        self.layers[0].weight.requires_grad_(False)

    def logits(self, features):
        return self.layers(features)


def test_reading_a_model_leaves_it_and_the_random_state_as_they_were():
    model = Restless()
    model.layers[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    tracked = [parameter.requires_grad for parameter in model.parameters()]
    random = torch.get_rng_state()
    outputs = observe(model, DATA)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == tracked
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert not outputs.logits.requires_grad
    assert torch.equal(observe(model, DATA).logits, outputs.logits)  # nothing is dropped at random


def test_a_model_that_raises_is_put_back_too():
    model = Restless()
    random = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), reading(model):
        torch.rand(3)
        raise ZeroDivisionError
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)


class Fixed:
    """Gives out what it is told to."""

    architecture = "fixed"

    def __init__(self, logits, classes=DATA.classes):
        self._logits = logits
        self.classes = classes

    def logits(self, features):
        return self._logits


def test_models_that_order_their_classes_differently_give_the_same_outputs():
    logits = torch.randn(len(DATA), 3, generator=torch.Generator().manual_seed(0))
    one = observe(Fixed(logits), DATA)
    other = observe(Fixed(logits[:, [2, 0, 1]], ("c", "a", "b")), DATA)
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.right, logits.argmax(dim=1) == DATA.labels)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (type("Bare", (), {"architecture": "bare", "classes": DATA.classes})(), "'bare' offers no logits"),
        (Fixed(torch.zeros(3, 3)), "not one row for each record"),
        (Fixed(torch.zeros(len(DATA), 2)), "not one row for each record"),
        (Fixed(None), "not one row for each record"),
        (Fixed(torch.zeros(len(DATA), 2), ("a", "b")), "does not know these classes: c"),
    ],
)
def test_what_gives_no_scores_is_refused(model, reason):
    with pytest.raises(MetricError, match=reason):
        observe(model, DATA)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_refused_when_used(value):
    outputs = observe(Fixed(torch.full((len(DATA), 3), value)), DATA)
    with pytest.raises(MetricError, match="not finite"):
        _ = outputs.scores
