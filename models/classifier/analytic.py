"""The analytic classifier: frozen features, exact sums over records, and a ridge head solved from them.

It keeps to `models.architectures.ArchitectureRuntime`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint import CONFIG_NAME
from models.classifier.configuration import AnalyticConfig, AnalyticRecipe, read_analytic_config
from models.classifier.data import ClassifierData
from models.classifier.features import (
    INPUT_BITS,
    FeatureMap,
    FrozenLayer,
    choose_feature_bits,
    draw_projection,
    feature_bound,
)
from models.classifier.ridge import NotPositiveDefiniteError, StaleFactor, solve_head
from models.classifier.statistics import Statistics, SymmetricMatrix
from models.contracts import Progress
from models.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"

_CHUNK_ELEMENTS = 1 << 24
"""Features held at a time: 128 MiB of float64."""


@dataclass(frozen=True)
class AnalyticClassifier:
    """A classifier whose head is the ridge solution on exact statistics. Immutable: a change makes a new one.

    Attributes:
        head: W, shape (d, classes), float64; a class without records has a column of zeros.
        factor: A cache for low-rank updates; neither part of the state nor ever saved.
    """

    features: FeatureMap
    statistics: Statistics
    head: Tensor
    factor: StaleFactor | None = None

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.features.config.architecture

    @property
    def config(self) -> AnalyticConfig:
        """What `config.json` says."""
        return self.features.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that predictions are indices into."""
        return self.features.config.classes

    def scores(self, inputs: Tensor) -> Tensor:
        """Score every class: shape (n, input_width) -> (n, classes); minus infinity where it holds no record."""
        scores = self.logits(inputs)
        return scores.masked_fill_((self.statistics.counts == 0).unsqueeze(0), -torch.inf)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the best class of each record: shape (n, input_width) -> (n,). Never a class without records."""
        return self.scores(inputs).argmax(dim=1)

    def logits(self, inputs: Tensor) -> Tensor:
        """Score every class with a finite number: shape (n, input_width) -> (n, classes).

        A class without records scores zero, as its column of the head does: no evidence for it or against it.
        `predict` leaves it out all the same.
        """
        return torch.cat([chunk @ self.head for chunk in self._features_in_chunks(inputs)])

    def embeddings(self, inputs: Tensor) -> Tensor:
        """Return what the head reads: shape (n, input_width) -> (n, feature_dim), float64."""
        return torch.cat(list(self._features_in_chunks(inputs)))

    def _features_in_chunks(self, inputs: Tensor) -> Iterator[Tensor]:
        for chunk in torch.split(inputs, rows_per_chunk(self.config.feature_dim)):
            yield self.features(chunk)

    def labels_of(self, data: ClassifierData) -> Tensor:
        """Return the labels of `data` as indices into this model's classes, shape (n,).

        Raises:
            ValueError: A record's class is not one of this model's.
        """
        return data.labels_among(self.classes)

    def with_head(
        self, statistics: Statistics, head: Tensor, factor: StaleFactor | None = None
    ) -> "AnalyticClassifier":
        """Return the same frozen features under another head."""
        return AnalyticClassifier(self.features, statistics, head, factor)


def rows_per_chunk(feature_dim: int) -> int:
    """Return how many records' features are held in memory at a time."""
    return max(1, _CHUNK_ELEMENTS // feature_dim)


def fit(features: FeatureMap, inputs: Tensor, labels: Tensor, progress: Progress) -> AnalyticClassifier:
    """Fit a head on records.

    Args:
        features: The frozen part.
        inputs: Shape (n, input_width).
        labels: Shape (n,), int64 indices into the configuration's classes.
        progress: Called with records learned.

    Raises:
        ValueError: There are no records or too many, an input is out of range, or gamma is too small to solve with.
    """
    config = features.config
    if not len(inputs):
        raise ValueError("there are no training records")
    if len(inputs) > config.max_records:
        raise ValueError(
            f"{len(inputs)} records are more than the {config.max_records} whose sums stay exact"
        )
    features.check_inputs(inputs)
    statistics = Statistics.zeros(config.feature_dim, len(config.classes))
    chunk = rows_per_chunk(config.feature_dim)
    for start in range(0, len(inputs), chunk):
        statistics.add_(features(inputs[start : start + chunk]), labels[start : start + chunk])
        progress("learning records", min(start + chunk, len(inputs)), len(inputs))
    try:
        return AnalyticClassifier(features, statistics, solve_head(statistics, config.gamma))
    except NotPositiveDefiniteError:
        raise ValueError(
            f"gamma {config.gamma:g} is lost in rounding on these records; choose a larger one"
        ) from None


def train(
    data: ClassifierData, recipe: Mapping[str, Any], *, seed: int, progress: Progress
) -> AnalyticClassifier:
    """Train by a recipe: draw the frozen projection, then fit the head.

    Raises:
        ValueError: The recipe has an unknown or wrong field, or does not fit the data.
    """
    try:
        parsed = AnalyticRecipe.model_validate(recipe)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise ValueError(f"The recipe is wrong: {where}: {fault['msg']}.") from None
    projection, weight_bits = draw_projection(
        data.width, parsed.feature_dim, torch.Generator().manual_seed(seed)
    )
    bound = feature_bound(projection, weight_bits)
    config = AnalyticConfig(
        classes=data.classes,
        input_width=data.width,
        feature_dim=parsed.feature_dim,
        gamma=parsed.gamma,
        seed=seed,
        input_range=parsed.input_range,
        input_bits=INPUT_BITS,
        weight_bits=weight_bits,
        feature_bits=choose_feature_bits(bound, parsed.max_records),
        feature_bound=bound,
        max_records=parsed.max_records,
    )
    known = data.training()
    return fit(FeatureMap(config, projection), known.features, known.labels, progress)


def retrain(
    model: AnalyticClassifier,
    data: ClassifierData,
    *,
    seed: int,  # noqa: ARG001 - the frozen projection is kept, so nothing is left to chance
    progress: Progress,
) -> AnalyticClassifier:
    """Fit a head afresh on the training records of `data`, on the frozen features of `model`.

    Raises:
        ValueError: As `fit`, or a record's class is not one of the model's.
    """
    known = data.training()
    return fit(model.features, known.features, model.labels_of(known), progress)


def config(model: AnalyticClassifier) -> Mapping[str, Any]:
    """Return what `config.json` holds."""
    return model.config.model_dump(mode="json")


def recipe(model: AnalyticClassifier) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data: the configuration and the frozen parts."""
    frozen = hashlib.sha256(model.features.projection.numpy().tobytes())
    for layer in model.features.backbone:
        frozen.update(layer.weight.numpy().tobytes())
        frozen.update(layer.bias.numpy().tobytes())
    return {**config(model), "frozen_parts": frozen.hexdigest()}


def save_model(model: AnalyticClassifier, directory: Path) -> None:
    """Write `config.json` and `model.safetensors`; the factor cache stays behind."""
    (directory / CONFIG_NAME).write_text(json.dumps(config(model), indent=2, sort_keys=True) + "\n")
    tensors = {
        "projection": model.features.projection,
        "gram": model.statistics.gram.values,
        "cross": model.statistics.cross,
        "counts": model.statistics.counts,
        "head": model.head,
    }
    for index, layer in enumerate(model.features.backbone):
        tensors[f"backbone.{index}.weight"] = layer.weight
        tensors[f"backbone.{index}.bias"] = layer.bias
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS_NAME)


def load_model(directory: Path, config: Mapping[str, Any]) -> AnalyticClassifier:
    """Read a checkpoint and check that its statistics are such as records could have led to.

    Raises:
        CheckpointError: A tensor is missing, has a wrong shape or type, or is off the declared grid.
    """
    parsed = read_analytic_config(config)
    try:
        tensors = load_file(directory / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} cannot be read: {error}.") from None
    _check_tensors(tensors, parsed)
    layers = tuple(
        FrozenLayer(tensors[f"backbone.{index}.weight"], tensors[f"backbone.{index}.bias"])
        for index in range(len(parsed.backbone.widths))
    )
    try:
        features = FeatureMap(parsed, tensors["projection"], layers)
    except ValueError as error:
        raise CheckpointError(f"{WEIGHTS_NAME} contradicts config.json: {error}.") from None
    gram = SymmetricMatrix(tensors["gram"], parsed.feature_dim)
    statistics = Statistics(gram, tensors["cross"], tensors["counts"])
    _check_statistics(statistics, parsed)
    return AnalyticClassifier(features, statistics, tensors["head"])


def _check_tensors(tensors: Mapping[str, Tensor], config: AnalyticConfig) -> None:
    d, classes = config.feature_dim, len(config.classes)
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "projection": ((config.embedding_width + 1, d), torch.int16),
        "gram": ((SymmetricMatrix.storage(d),), torch.float64),
        "cross": ((d, classes), torch.float64),
        "counts": ((classes,), torch.int64),
        "head": ((d, classes), torch.float64),
    }
    width = config.input_width
    for index, out in enumerate(config.backbone.widths):
        expected[f"backbone.{index}.weight"] = ((out, width), torch.float32)
        expected[f"backbone.{index}.bias"] = ((out,), torch.float32)
        width = out
    if tensors.keys() != expected.keys():
        raise CheckpointError(
            f"{WEIGHTS_NAME} must hold exactly these tensors: {', '.join(expected)}; "
            f"it holds {', '.join(sorted(tensors)) or 'none'}."
        )
    for name, (shape, dtype) in expected.items():
        if tuple(tensors[name].shape) != shape or tensors[name].dtype != dtype:
            raise CheckpointError(f"The tensor {name} must have shape {shape} and type {dtype}.")


def _check_statistics(statistics: Statistics, config: AnalyticConfig) -> None:
    if (statistics.counts < 0).any() or not 0 < statistics.records <= config.max_records:
        raise CheckpointError("The counts are not those of at least one and at most max_records records.")
    for name, values, bits in (
        ("gram", statistics.gram.values, 2 * config.feature_bits),
        ("cross", statistics.cross, config.feature_bits),
    ):
        units = values * 2.0**bits
        # NaN fails the first comparison, infinity the second.
        if not (torch.equal(units, units.round()) and units.abs().max() < 2.0**53):
            raise CheckpointError(
                f"The tensor {name} is off its grid: it cannot be an exact sum over records."
            )
    if not statistics.gram.is_symmetric():
        raise CheckpointError("The tensor gram is not symmetric.")
