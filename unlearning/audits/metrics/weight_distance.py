"""Weight distance: how far two models of one architecture lie apart in their parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError


@dataclass(frozen=True)
class WeightDistance:
    """Distance of two sets of weights.

    Attributes:
        value: ‖θ - θ_ref‖₂ / ‖θ_ref‖₂.
        absolute: ‖θ - θ_ref‖₂.
        n: Number of weights.
    """

    value: float
    absolute: float
    n: int


def weight_distance(weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> WeightDistance:
    """‖θ - θ_ref‖₂ / ‖θ_ref‖₂ over all floating-point tensors together.

    Wu, Dobriban and Davidson, "DeltaGrad" (2020), and Tarun et al. (2023) compare an unlearned with a retrained model
    so. Two retrained models already lie far apart, for SGD finds another solution with each seed: without the
    distance between retrained models beside it, the figure says nothing. Integer tensors, such as counters, are left out.

    Args:
        weights: Name -> tensor.
        reference: The same names and shapes.

    Raises:
        MetricError: Names or shapes differ, a weight is not a finite number, there are none, or the reference is zero.

    >>> import torch
    >>> distance = weight_distance({"w": torch.tensor([3.0, 3.0])}, {"w": torch.tensor([3.0, 4.0])})
    >>> distance.value, distance.absolute, distance.n
    (0.2, 1.0, 2)
    """
    if weights.keys() != reference.keys():
        raise MetricError("The two models do not have the same weights by name.")
    difference, size, n = 0.0, 0.0, 0
    for name, tensor in weights.items():
        other = reference[name]
        if tensor.shape != other.shape or tensor.is_floating_point() != other.is_floating_point():
            raise MetricError(f"The weights {name!r} differ in shape or type.")
        if not tensor.is_floating_point():
            continue
        ours = floats(tensor.reshape(-1), f"weights {name!r}", at_least=0)
        theirs = floats(other.reshape(-1), f"weights {name!r} of the reference", at_least=0).to(ours.device)
        difference += float((ours - theirs).square().sum())
        size += float(theirs.square().sum())
        n += len(ours)
    if not size:
        raise MetricError("The reference's weights are all zero: no distance relates to them.")
    absolute = math.sqrt(difference)
    return WeightDistance(absolute / math.sqrt(size), absolute, n)
