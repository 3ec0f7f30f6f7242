import torch

from models.classifier.training import Descent
from tests.reference.network_case import DATA, MISLABELLED, MODELS, accuracy, forget, same_bits


def test_every_forgotten_record_is_visited_however_few_are_retained(monkeypatch):
    seen = []
    original = Descent.logits

    def logits(self, features):
        seen.append(features)
        return original(self, features)

    monkeypatch.setattr(Descent, "logits", logits)
    data = DATA["mlp"].only([f"r{index}" for index in range(57)])  # 50 to forget, 7 to keep
    forget(
        "gradient_difference",
        tuple(f"r{index}" for index in range(50)),
        data=data,
        calibration="none",
        epochs=1,
        batch_size=8,
    )
    forgotten, retained = torch.cat(seen[::2]), torch.cat(seen[1::2])
    assert len(forgotten) == 50
    assert len(forgotten.unique(dim=0)) == 50
    assert len(retained.unique(dim=0)) == 7  # over and over, each pass shuffled anew
    assert len(retained) == 7 * 7


def test_without_a_retain_term_it_is_gradient_ascent_on_the_same_batches():
    data = DATA["mlp"]
    settings = {"calibration": "none", "epochs": 3, "learning_rate": 0.01, "momentum": 0.0}
    difference = forget("gradient_difference", retain_weight=0.0, **settings)
    ascent = forget("gradient_ascent", **settings)
    assert accuracy(difference, data.training()) == accuracy(ascent, data.training())
    for name, tensor in ascent.weights.items():
        torch.testing.assert_close(difference.weights[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_retain_term_keeps_what_ascent_alone_loses():
    settings = {"calibration": "none", "epochs": 40, "learning_rate": 0.2}
    retained = DATA["mlp"].training().without(MISLABELLED)
    held = accuracy(forget("gradient_difference", retain_weight=10.0, **settings), retained)
    lost = accuracy(forget("gradient_ascent", **settings), retained)
    assert held > lost + 0.2


def test_another_seed_draws_other_batches():
    settings = {"calibration": "none", "batch_size": 4}
    assert not same_bits(
        forget("gradient_difference", seed=1, **settings), forget("gradient_difference", seed=2, **settings)
    )
    assert MODELS["mlp"].architecture == "mlp"
