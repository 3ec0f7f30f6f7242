import torch
from torch.nn import functional

from models.contracts import ForgetSet
from tests.reference.network_case import DATA, MISLABELLED, MODELS, accuracy, forget
from unlearning.calibration import Calibration

FORGOTTEN = DATA["mlp"].only(MISLABELLED)


def loss(model):
    return functional.cross_entropy(model.logits(FORGOTTEN.features), model.labels_of(FORGOTTEN))


def test_one_step_goes_up_the_gradient_of_the_mean_loss():
    stepped = forget("gradient_ascent", calibration="none", epochs=1, learning_rate=0.01, momentum=0.0)
    model = MODELS["mlp"]
    weights = {name: tensor.clone().requires_grad_() for name, tensor in model.weights.items()}
    mean = functional.cross_entropy(
        model.apply(model.scale(FORGOTTEN.features), weights), model.labels_of(FORGOTTEN)
    )
    for name, gradient in zip(weights, torch.autograd.grad(mean, list(weights.values())), strict=True):
        torch.testing.assert_close(stepped.weights[name], model.weights[name] + 0.01 * gradient)
    assert loss(stepped) > loss(model)


def test_the_fixed_schedule_runs_on_where_calibration_stops():
    schedule = {"learning_rate": 0.05, "epochs": 60}
    stopped = forget("gradient_ascent", **schedule)
    ruined = forget("gradient_ascent", calibration="none", **schedule)
    retained = DATA["mlp"].training().without(MISLABELLED)
    assert loss(ruined) > 10 * loss(stopped)
    assert accuracy(ruined, retained) < accuracy(stopped, retained)


def test_it_stops_at_the_first_check_that_finds_no_difference():
    stopped = forget("gradient_ascent", learning_rate=0.05, epochs=60)
    calibration = Calibration.prepare(DATA["mlp"].for_methods(), ForgetSet(MISLABELLED))
    assert not calibration.compare(stopped).remembered
    steps = []
    forget("gradient_ascent", learning_rate=0.05, epochs=60, progress=lambda *step: steps.append(step))
    assert all(step[3]["AUC forgotten vs never seen"] > 0.5 for step in steps[:-1])
    assert steps[-1][3]["AUC forgotten vs never seen"] <= 0.5
