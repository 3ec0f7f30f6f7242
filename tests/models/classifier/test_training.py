import math

import pytest
import torch

from models.classifier import runtime
from models.classifier.network_configuration import SgdSettings
from models.classifier.training import batches, sgd_epochs
from tests.reference.classifier_data import clusters, silent

DATA = clusters()
RECIPE = {"architecture": "mlp", "hidden": [4], "epochs": 1, "batch_size": 60, "input_range": 10.0}
MODEL = runtime.train(DATA, RECIPE, seed=1, progress=silent)


def epochs(settings, seed=0, data=DATA):
    generator = torch.Generator().manual_seed(seed)
    return sgd_epochs(MODEL, data.features, data.labels, settings, generator=generator)


def test_one_step_is_the_gradient_of_the_mean_cross_entropy_worked_by_formula():
    settings = SgdSettings(
        epochs=1, batch_size=60, learning_rate=0.5, momentum=0.0, weight_decay=0.1, schedule="constant"
    )
    (epoch,) = epochs(settings)
    inputs = (DATA.features / 10).float()
    hidden = (inputs @ MODEL.weights["hidden.0.weight"].T + MODEL.weights["hidden.0.bias"]).relu()
    shares = (hidden @ MODEL.weights["head.weight"].T + MODEL.weights["head.bias"]).softmax(dim=1)
    targets = torch.eye(3)[DATA.labels]
    slope = (shares - targets).T @ hidden / 60 + 0.1 * MODEL.weights["head.weight"]
    torch.testing.assert_close(epoch.model.weights["head.weight"], MODEL.weights["head.weight"] - 0.5 * slope)
    assert epoch.loss == pytest.approx(float(-(shares * targets).sum(dim=1).log().mean()), rel=1e-5)


def test_every_record_is_in_one_batch_of_each_epoch():
    drawn = list(batches(10, 4, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in drawn] == [4, 4, 2]
    assert sorted(torch.cat(drawn).tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.2, 0.2, 0.2]), ("linear", [0.2, 0.1, 0.0]), ("cosine", [0.2, 0.1, 0.0])],
)
def test_the_learning_rate_falls_as_its_schedule_says(schedule, rates):
    settings = SgdSettings(learning_rate=0.2, schedule=schedule)
    assert [settings.rate(done) for done in (0.0, 0.5, 1.0)] == pytest.approx(rates)
    assert settings.rate(1 / 3) >= settings.rate(1 / 2)
    assert SgdSettings(learning_rate=0.2).rate(0.25) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))


def test_relearning_can_stop_at_any_epoch_and_leaves_the_model_alone():
    before = {name: tensor.clone() for name, tensor in MODEL.weights.items()}
    seen = []
    for epoch in epochs(SgdSettings(epochs=50, learning_rate=0.2)):
        seen.append(epoch.model)
        if (epoch.model.predict(DATA.features) == DATA.labels).double().mean() > 0.95:
            break
    assert 1 < len(seen) < 50
    assert not torch.equal(
        seen[0].weights["head.bias"], seen[-1].weights["head.bias"]
    )  # copies, not one tensor
    assert all(torch.equal(before[name], MODEL.weights[name]) for name in before)


def test_the_caller_computes_on_its_own_threads_between_epochs():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert [torch.get_num_threads() for _ in epochs(SgdSettings(epochs=2))] == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="no training records"):
        next(epochs(SgdSettings(), data=clusters(0)))


def test_a_run_that_leaves_the_numbers_is_refused():
    settings = SgdSettings(epochs=200, learning_rate=100, momentum=0.99, schedule="constant")
    with pytest.raises(ValueError, match="smaller learning rate"):
        list(epochs(settings))
