"""A small network that has memorised some records, for tests of methods that make it forget them."""

import dataclasses

import torch

from models.classifier import runtime
from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.contracts import ForgetSet
from tests.reference.classifier_data import clusters, silent
from unlearning.catalog import get_method

RECIPES = {
    "mlp": {"architecture": "mlp", "hidden": [32], "epochs": 60, "batch_size": 16, "learning_rate": 0.2},
    "cnn": {
        "architecture": "cnn",
        "image_shape": [1, 4, 4],
        "channels": [4],
        "hidden": [32],
        "epochs": 60,
        "batch_size": 16,
        "learning_rate": 0.2,
    },
}
MISLABELLED = tuple(sorted(f"r{index}" for index in range(0, 120, 10)))


def mislabelled_data(name: str = "mlp") -> ClassifierData:
    """120 training and 120 held-out records in three clusters; every tenth training record has a wrong class."""
    data = clusters(120, held_out=120, width={"mlp": 6, "cnn": 16}[name])
    labels = data.labels.clone()
    wrong = torch.tensor([data.positions[record_id] for record_id in MISLABELLED])
    labels[wrong] = (labels[wrong] + 1) % 3
    return dataclasses.replace(data, labels=labels, features=data.features.float())


DATA = {name: mislabelled_data(name) for name in RECIPES}
MODELS: dict[str, NetworkClassifier] = {
    name: runtime.train(DATA[name], RECIPES[name], seed=1, progress=silent) for name in RECIPES
}


def forget(
    method: str,
    record_ids=MISLABELLED,
    *,
    name: str = "mlp",
    classes: tuple[str, ...] = (),
    data: ClassifierData | None = None,
    model: NetworkClassifier | None = None,
    seed: int = 3,
    progress=silent,
    **parameters,
) -> NetworkClassifier:
    """Run a method as the pipeline does: without the audit half."""
    spec = get_method("classifier", method)
    return spec.load()(
        model or MODELS[name],
        (data or DATA[name]).for_methods(),
        ForgetSet(tuple(record_ids), classes),
        spec.configure(parameters),
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )


def accuracy(model: NetworkClassifier, data: ClassifierData) -> float:
    """Share of right predictions."""
    return float((model.predict(data.features) == model.labels_of(data)).double().mean())


def same_bits(model: NetworkClassifier, other: NetworkClassifier) -> bool:
    """Whether all weights are equal, bit by bit."""
    return model.weights.keys() == other.weights.keys() and all(
        torch.equal(model.weights[key], other.weights[key]) for key in model.weights
    )
