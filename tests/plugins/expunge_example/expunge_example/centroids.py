"""A nearest-mean classifier. It keeps to `models.architectures.ArchitectureRuntime`."""

import json
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class CentroidClassifier:
    """Class means, kept as sums and counts.

    Attributes:
        classes: Class names.
        sums: Shape (classes, width), float64.
        counts: Shape (classes,), int64.
    """

    classes: tuple[str, ...]
    sums: Tensor
    counts: Tensor

    @property
    def architecture(self):
        """The architecture's name."""
        return "centroids"

    def scores(self, inputs):
        """Return minus the squared distance to each class's mean: (n, width) -> (n, classes)."""
        means = self.sums / self.counts.clamp(min=1).unsqueeze(1)
        scores = -torch.cdist(inputs.to(torch.float64), means).square()
        return scores.masked_fill(self.counts == 0, -torch.inf)

    def predict(self, inputs):
        """Return the nearest class: (n, width) -> (n,)."""
        return self.scores(inputs).argmax(dim=1)

    def labels_of(self, data):
        """Return the labels of `data` as indices into this model's classes: (n,)."""
        own = torch.tensor([self.classes.index(name) for name in data.classes])
        return own[data.labels]


def train(data, recipe, *, seed, progress):
    """Average each class's training records; there is nothing to choose."""
    unknown = sorted(recipe.keys() - {"architecture"})
    if unknown:
        raise ValueError(f"a centroid classifier's recipe has no fields {', '.join(unknown)}")
    return _fit(data.classes, data, progress)


def retrain(model, data, *, seed, progress):
    """Average anew what remains."""
    return _fit(model.classes, data, progress)


def _fit(classes, data, progress):
    known = data.training()
    empty = CentroidClassifier(
        classes,
        torch.zeros(len(classes), data.width, dtype=torch.float64),
        torch.zeros(len(classes), dtype=torch.int64),
    )
    labels = empty.labels_of(known)
    sums = empty.sums.index_add(0, labels, known.features.to(torch.float64))
    progress("averaging", 1, 1)
    return CentroidClassifier(classes, sums, torch.bincount(labels, minlength=len(classes)))


def config(model):
    """Return what `config.json` holds."""
    return {
        "family": "classifier",
        "architecture": "centroids",
        "classes": list(model.classes),
        "input_width": model.sums.shape[1],
    }


def save_model(model, directory):
    """Write `config.json` and the weights."""
    (directory / "config.json").write_text(json.dumps(config(model)) + "\n")
    save_file({"sums": model.sums, "counts": model.counts}, directory / WEIGHTS_NAME)


def load_model(directory, config):
    """Read a checkpoint."""
    try:
        tensors = load_file(directory / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} cannot be read: {error}.") from None
    shape = len(config["classes"]), config["input_width"]
    if tensors.keys() != {"sums", "counts"} or tensors["sums"].shape != shape:
        raise CheckpointError(f"{WEIGHTS_NAME} must hold counts, and sums of shape {shape}.")
    return CentroidClassifier(tuple(config["classes"]), tensors["sums"], tensors["counts"])
