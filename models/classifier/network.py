"""Classifiers trained by gradient descent: a multilayer perceptron (`mlp`) and a small convolutional network (`cnn`).

Both are a list of layers with ReLUs between them (`models.classifier.network_configuration`) and a dictionary of
weights. There is no training mode: nothing is dropped at random, and there is no batch normalisation, whose running
statistics would remember the records. The module keeps to `models.architectures.ArchitectureRuntime`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from models.checkpoint import CONFIG_NAME
from models.classifier.data import ClassifierData
from models.classifier.network_configuration import (
    CnnRecipe,
    Layer,
    NetworkConfig,
    read_network_config,
    read_recipe,
)
from models.classifier.training import sgd_epochs
from models.contracts import Progress
from models.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"

_CHUNK_ELEMENTS = 1 << 22
"""Activations of the widest layer held at a time: 16 MiB of float32."""

Weights = Mapping[str, Tensor]
"""`NAME.weight` and `NAME.bias` of every layer, float32."""


@dataclass(frozen=True)
class Tap:
    """What one layer saw and gave while a batch went through: all that per-record gradients are made of.

    Attributes:
        inputs: Shape (n, inputs), or (n, inputs, height, width) for a convolution.
        outputs: Before the ReLU. Shape (n, outputs), or (n, outputs, height, width).
    """

    layer: Layer
    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class NetworkClassifier:
    """An `mlp` or `cnn`. Immutable: training makes a new one.

    Attributes:
        weights: Float32 tensors; nobody writes to them.
    """

    config: NetworkConfig
    weights: Weights

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.config.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that predictions are indices into; a forgotten class keeps its place."""
        return self.config.classes

    def logits(self, features: Tensor) -> Tensor:
        """Score every class: shape (n, input_width) -> (n, classes), float32."""
        return self._in_chunks(features, self.apply)

    def embeddings(self, features: Tensor) -> Tensor:
        """Return what the head reads: shape (n, input_width) -> (n, last hidden width), float32."""
        return self._in_chunks(features, self._embed)

    def predict(self, features: Tensor) -> Tensor:
        """Return the best class of each record: shape (n, input_width) -> (n,)."""
        return self.logits(features).argmax(dim=1)

    def labels_of(self, data: ClassifierData) -> Tensor:
        """Return the labels of `data` as indices into this model's classes, shape (n,).

        Raises:
            ValueError: A record's class is not one of this model's.
        """
        return data.labels_among(self.classes)

    def with_weights(self, weights: Weights) -> "NetworkClassifier":
        """Return the same network with a copy of other weights, cut off from whatever made them."""
        copies = {name: weights[name].detach().clone() for name in self.weights}
        return NetworkClassifier(self.config, copies)

    def apply(self, inputs: Tensor, weights: Weights | None = None, taps: list[Tap] | None = None) -> Tensor:
        """Compute logits of scaled inputs in one piece; gradients flow where they are asked for.

        Args:
            inputs: As `scale` returns them, shape (n, input_width).
            weights: Used instead of the model's own: leaves of a training step, or a candidate.
            taps: Receives every layer's inputs and outputs, the head's last.

        Returns:
            Shape (n, classes).
        """
        weights = self.weights if weights is None else weights
        hidden = self._embed(inputs, weights, taps)
        return _linear(self.config.layers[-1], hidden, weights, taps)

    def scale(self, features: Tensor) -> Tensor:
        """Bring features of any real type to the network's input range, without gradients.

        Inputs beyond `input_range` saturate; use `check_inputs` where that must not happen unseen.

        Args:
            features: Shape (n, input_width).

        Returns:
            Shape (n, input_width), float32, within [-1, 1].

        Raises:
            ValueError: The shape is wrong, or a value is not finite.
        """
        self._check_shape(features)
        # In double precision first: float32 has no room for the largest float64, nor for each large integer.
        inputs = features.detach().to(torch.float32 if features.dtype.itemsize == 1 else torch.float64)
        if not inputs.isfinite().all():
            raise ValueError("inputs must be finite numbers")
        input_range = self.config.recipe.input_range
        if input_range is None:
            largest = inputs.abs().amax(dim=1, keepdim=True)
            scaled = inputs / largest.masked_fill_(largest == 0, 1.0)
        else:
            scaled = (inputs / input_range).clamp_(-1.0, 1.0)
        return scaled.to(torch.float32)

    def check_inputs(self, features: Tensor) -> None:
        """Refuse what would saturate: a model must not silently learn clipped records.

        Raises:
            ValueError: The shape is wrong, a value is not finite, or one is larger than `input_range`.
        """
        self._check_shape(features)
        for chunk in torch.split(features, self.rows_per_chunk):
            self.scale(chunk)
            input_range = self.config.recipe.input_range
            if input_range is None or not len(chunk):
                continue
            largest = chunk.to(torch.float64).abs().max().item()
            if largest > input_range:
                raise ValueError(
                    f"inputs reach {largest:g}, beyond the recipe's input_range of {input_range:g}; "
                    "train with a larger input_range, or with none to scale each record by its own largest value"
                )

    @property
    def rows_per_chunk(self) -> int:
        """How many records are computed at a time."""
        widest = max(layer.positions * layer.fan_in for layer in self.config.layers)
        return max(1, _CHUNK_ELEMENTS // widest)

    def _embed(self, inputs: Tensor, weights: Weights | None = None, taps: list[Tap] | None = None) -> Tensor:
        weights = self.weights if weights is None else weights
        hidden = inputs
        recipe = self.config.recipe
        if isinstance(recipe, CnnRecipe):
            hidden = hidden.reshape(-1, *recipe.image_shape)  # (n, c*h*w) -> (n, c, h, w)
        for layer in self.config.layers[:-1]:
            if layer.kind == "conv":
                hidden = functional.max_pool2d(_convolve(layer, hidden, weights, taps).relu(), 2)
            else:
                # (n, c, h, w) -> (n, c*h*w) after the last convolution
                hidden = _linear(layer, hidden.flatten(1), weights, taps).relu()
        return hidden

    def _in_chunks(self, features: Tensor, compute: Any) -> Tensor:
        self._check_shape(features)
        with torch.no_grad():
            return torch.cat(
                [compute(self.scale(chunk)) for chunk in torch.split(features, self.rows_per_chunk)]
            )

    def _check_shape(self, features: Tensor) -> None:
        if features.ndim != 2 or features.shape[1] != self.config.input_width:  # noqa: PLR2004 - rows and columns
            raise ValueError(
                f"inputs must have shape (n, {self.config.input_width}), not {tuple(features.shape)}"
            )


def _linear(layer: Layer, inputs: Tensor, weights: Weights, taps: list[Tap] | None) -> Tensor:
    outputs = functional.linear(inputs, weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"])
    if taps is not None:
        taps.append(Tap(layer, inputs, outputs))
    return outputs


def _convolve(layer: Layer, inputs: Tensor, weights: Weights, taps: list[Tap] | None) -> Tensor:
    outputs = functional.conv2d(
        inputs, weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"], padding=1
    )
    if taps is not None:
        taps.append(Tap(layer, inputs, outputs))
    return outputs


def initialise(config: NetworkConfig, generator: torch.Generator) -> NetworkClassifier:
    """Draw first weights: normal with variance 2 / fan-in (He et al. 2015), biases zero, the head's variance half."""
    weights: dict[str, Tensor] = {}
    for layer in config.layers:
        gain = 1.0 if layer.name == "head" else 2.0
        drawn = torch.randn(layer.weight_shape, generator=generator)
        weights[f"{layer.name}.weight"] = drawn * math.sqrt(gain / layer.fan_in)
        weights[f"{layer.name}.bias"] = torch.zeros(layer.outputs)
    return NetworkClassifier(config, weights)


def train(
    data: ClassifierData, recipe: Mapping[str, Any], *, seed: int, progress: Progress
) -> NetworkClassifier:
    """Train by a recipe: draw first weights, then run stochastic gradient descent on the cross-entropy.

    Raises:
        ValueError: The recipe has an unknown or wrong field, or does not fit the data; or training diverged.
    """
    parsed = read_recipe(recipe, str(recipe.get("architecture")))
    config = NetworkConfig(
        architecture=parsed.architecture,
        classes=data.classes,
        input_width=data.width,
        seed=seed,
        recipe=parsed,
    )
    return _train(config, data, progress)


def retrain(
    model: NetworkClassifier, data: ClassifierData, *, seed: int, progress: Progress
) -> NetworkClassifier:
    """Train anew on the training records of `data`, by the recipe of `model`; its classes stay, used or not.

    Raises:
        ValueError: As `train`, or a record's class is not one of the model's.
    """
    return _train(model.config.model_copy(update={"seed": seed}), data, progress)


def _train(config: NetworkConfig, data: ClassifierData, progress: Progress) -> NetworkClassifier:
    generator = torch.Generator().manual_seed(config.seed)
    model = initialise(config, generator)
    known = data.training()
    if not len(known):
        raise ValueError("there are no training records")
    labels = model.labels_of(known)
    model.check_inputs(known.features)
    for epoch in sgd_epochs(model, known.features, labels, config.recipe, generator=generator):
        progress("training", epoch.number, epoch.of, {"training loss": epoch.loss})
        model = epoch.model
    return model


def config(model: NetworkClassifier) -> Mapping[str, Any]:
    """Return what `config.json` holds."""
    return model.config.model_dump(mode="json")


def recipe(model: NetworkClassifier) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data and its seed."""
    return {name: value for name, value in config(model).items() if name != "seed"}


def untrained(model: NetworkClassifier, *, seed: int) -> NetworkClassifier:
    """Return the same architecture at fresh first weights."""
    return initialise(model.config, torch.Generator().manual_seed(seed))


def save_model(model: NetworkClassifier, directory: Path) -> None:
    """Write `config.json` and `model.safetensors`."""
    (directory / CONFIG_NAME).write_text(json.dumps(config(model), indent=2, sort_keys=True) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in model.weights.items()}, directory / WEIGHTS_NAME)


def load_model(directory: Path, config: Mapping[str, Any]) -> NetworkClassifier:
    """Read a checkpoint.

    Raises:
        CheckpointError: A tensor is missing or too many, has a wrong shape or type, or holds NaN or infinity.
    """
    parsed = read_network_config(config)
    try:
        tensors = load_file(directory / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} cannot be read: {error}.") from None
    expected = dict(_expected_shapes(parsed))
    if tensors.keys() != expected.keys():
        raise CheckpointError(
            f"{WEIGHTS_NAME} must hold exactly these tensors: {', '.join(expected)}; "
            f"it holds {', '.join(sorted(tensors)) or 'none'}."
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape or tensors[name].dtype != torch.float32:
            raise CheckpointError(f"The tensor {name} must have shape {shape} and type {torch.float32}.")
        if not tensors[name].isfinite().all():
            raise CheckpointError(f"The tensor {name} holds NaN or infinity.")
    # Copies: the file's tensors lie at any address, and a sum's last bit can depend on where it starts.
    return NetworkClassifier(parsed, {name: tensors[name].clone() for name in expected})


def _expected_shapes(config: NetworkConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    for layer in config.layers:
        yield f"{layer.name}.weight", layer.weight_shape
        yield f"{layer.name}.bias", (layer.outputs,)
