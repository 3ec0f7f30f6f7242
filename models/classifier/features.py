"""From a record to its random ReLU features, exactly: the same record gives the same bits, alone or in any batch.

Everything lives on dyadic grids (multiples of a power of two), fine enough for learning and coarse enough that
float64 holds every product and every partial sum without rounding. Whatever order a matrix product is
summed in, by whatever library and on however many threads, the result is then the same number.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.classifier.configuration import AnalyticConfig
from models.threads import one_thread

EXACT_BITS = 53
"""Integers up to 2^53 are exact in float64."""
INPUT_BITS = 12
"""Finer than the 8 bits of an image's pixel, so rounding an input loses nothing that matters."""
MIN_FEATURE_BITS = 6
"""A coarser grid than 1/64 would cost accuracy."""

_INT16_MAX = 32_767


@dataclass(frozen=True)
class FrozenLayer:
    """One linear layer of a frozen backbone."""

    weight: Tensor
    """Shape (out, in), float32."""
    bias: Tensor
    """Shape (out,), float32."""


@dataclass(frozen=True)
class FeatureMap:
    """The frozen part of an analytic classifier.

    Attributes:
        projection: Shape (embedding_width + 1, feature_dim), int16: the projection's weights in units of
            2^-weight_bits; the last row is the bias.

    Raises:
        ValueError: The configuration's grid does not hold these weights' products or sums exactly.
    """

    config: AnalyticConfig
    projection: Tensor
    backbone: tuple[FrozenLayer, ...] = ()

    def __post_init__(self) -> None:
        shape = (self.config.embedding_width + 1, self.config.feature_dim)
        if self.projection.dtype != torch.int16 or self.projection.shape != shape:
            raise ValueError(f"the projection must be int16 of shape {shape}")
        self._check_backbone()
        largest = _largest_column_sum(self.projection) << self.config.input_bits
        if largest >= 1 << EXACT_BITS:
            raise ValueError(
                "the projection's sums would not be exact: its weights are too large for its grid"
            )
        if math.ldexp(self.config.feature_bound, self.config.weight_bits + self.config.input_bits) < largest:
            raise ValueError("the declared feature bound is smaller than what the projection can reach")
        if not _sums_exactly(self.config.feature_bits, self.config.feature_bound, self.config.max_records):
            raise ValueError("sums over max_records records would not be exact on the declared feature grid")

    def _check_backbone(self) -> None:
        widths = (self.config.input_width, *self.config.backbone.widths)
        shapes = [(out, into) for into, out in itertools.pairwise(widths)]
        if [tuple(layer.weight.shape) for layer in self.backbone] != shapes or any(
            layer.bias.shape != layer.weight.shape[:1] for layer in self.backbone
        ):
            raise ValueError("the backbone's layers do not have the widths that the configuration declares")

    @cached_property
    def _weights(self) -> Tensor:
        """The projection as float64, without the bias."""
        weights: Tensor = self.projection[:-1].to(torch.float64)
        return weights

    @cached_property
    def _bias(self) -> Tensor:
        """The bias in units of 2^-(weight_bits + input_bits), where an input of one is 2^input_bits."""
        bias: Tensor = self.projection[-1].to(torch.float64) * 2**self.config.input_bits
        return bias

    def __call__(self, inputs: Tensor) -> Tensor:
        """Compute features.

        Inputs beyond `input_range` saturate; use `check_inputs` where that must not happen unseen.

        Args:
            inputs: Shape (n, input_width), any real dtype.

        Returns:
            Shape (n, feature_dim), float64: non-negative multiples of 2^-feature_bits.

        Raises:
            ValueError: The shape is wrong, or a value is not finite.
        """
        grid = self._on_grid(self._embed(inputs))  # (n, p) -> (n, e)
        features = torch.addmm(self._bias, grid, self._weights)  # (n, e) -> (n, d)
        shift = self.config.feature_bits - self.config.weight_bits - self.config.input_bits
        features.relu_().mul_(2.0**shift).round_().mul_(2.0**-self.config.feature_bits)
        return features

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse what would saturate: a model must not silently learn clipped records.

        Raises:
            ValueError: An input (or embedding) is larger than `input_range`.
        """
        if self.config.input_range is None or not len(inputs):
            return
        largest = self._embed(inputs).abs().max().item()
        if largest > self.config.input_range:
            raise ValueError(
                f"inputs reach {largest:g}, beyond the recipe's input_range of {self.config.input_range:g}; "
                "train with a larger input_range, or with none to scale each record by its own largest value"
            )

    def _embed(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2 or inputs.shape[1] != self.config.input_width:  # noqa: PLR2004 - rows and columns
            raise ValueError(
                f"inputs must have shape (n, {self.config.input_width}), not {tuple(inputs.shape)}"
            )
        embeddings = self._through_backbone(inputs) if self.backbone else inputs.to(torch.float64)
        if not embeddings.isfinite().all():
            raise ValueError("inputs must be finite numbers")
        return embeddings

    def _through_backbone(self, inputs: Tensor) -> Tensor:
        # A float32 product rounds differently with the batch it stands in and with the threads that share it,
        # so a record's embedding would depend on its company. One record at a time, on one thread, is always
        # the same computation; a record forgotten later must give the very bits it gave when it was learned.
        rows = inputs.to(torch.float32)
        embeddings = torch.empty(len(rows), self.config.embedding_width, dtype=torch.float64)
        with one_thread():
            for index, row in enumerate(rows):
                hidden = (
                    row.clone()
                )  # at an aligned address: where a vector kernel starts its blocks matters too
                for layer in self.backbone:
                    hidden = torch.mv(layer.weight, hidden).add_(layer.bias).relu_()
                embeddings[index] = hidden
        return embeddings

    def _on_grid(self, embeddings: Tensor) -> Tensor:
        """Scale to [-1, 1] and round to integers in units of 2^-input_bits."""
        if self.config.input_range is None:
            # The largest magnitude of a row does not depend on the order it is searched in; a norm would.
            largest = embeddings.abs().amax(dim=1, keepdim=True)
            scaled = embeddings / largest.masked_fill_(largest == 0, 1.0)
        else:
            scaled = (embeddings / self.config.input_range).clamp_(-1.0, 1.0)
        return scaled.mul_(2**self.config.input_bits).round_()


def draw_projection(embedding_width: int, feature_dim: int, generator: torch.Generator) -> tuple[Tensor, int]:
    """Draw Gaussian weights of variance 1 / embedding_width, rounded to a grid that int16 holds.

    Returns:
        The projection as `FeatureMap` takes it, shape (embedding_width + 1, feature_dim), and weight_bits.
    """
    shape = (embedding_width + 1, feature_dim)
    weights = torch.randn(shape, dtype=torch.float64, generator=generator) / math.sqrt(embedding_width)
    weight_bits = min(math.floor(math.log2(_INT16_MAX / weights.abs().max().item())), 24)
    return weights.mul_(2**weight_bits).round_().to(torch.int16), weight_bits


def feature_bound(projection: Tensor, weight_bits: int) -> float:
    """Return the largest feature that inputs within [-1, 1] can lead to: the largest column sum of magnitudes.

    >>> feature_bound(torch.tensor([[3, -1], [-2, 1]], dtype=torch.int16), weight_bits=1)
    2.5
    """
    return math.ldexp(_largest_column_sum(projection), -weight_bits)


def choose_feature_bits(bound: float, max_records: int) -> int:
    """Choose the finest grid on which sums of squares over `max_records` records are exact.

    The largest k with max_records * bound^2 < 2^(53 - 2k). Every partial sum of the Gram matrix is then an
    integer below 2^53 in units of 2^-2k.

    Raises:
        ValueError: Even a grid of 2^-6 is too fine.

    >>> choose_feature_bits(1.0, 2**20 - 1)
    16
    """
    for bits in range(26, MIN_FEATURE_BITS - 1, -1):
        if _sums_exactly(bits, bound, max_records):
            return bits
    raise ValueError(
        f"features up to {bound:g} summed over {max_records} records cannot be exact in float64; lower max_records"
    )


def _sums_exactly(bits: int, bound: float, max_records: int) -> bool:
    return max_records * math.ceil(math.ldexp(bound, bits)) ** 2 < 1 << EXACT_BITS


def _largest_column_sum(projection: Tensor) -> int:
    return int(projection.to(torch.int64).abs().sum(dim=0).max().item())
