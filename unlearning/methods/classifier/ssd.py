"""Selective Synaptic Dampening: shrink the weights that matter far more for the forgotten records than for all.

The importance of a weight for a set of records is the diagonal of the Fisher information: the mean over records of the
squared gradient of the log-likelihood. Where it is more than α times as large on the forget set, F_f > α F, the weight
is multiplied by min(1, λ F / F_f). No training and no step size.

Paper: Foster et al., "Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening" (AAAI 2024),
arXiv 2308.07707. Deviations: gradients are squared for each record, as the formula says; the published code
(github.com/if-loops/selective-synaptic-dampening at cdfdc0e) squares the mean gradient of a batch, in which records
cancel each other. With `calibration="validation"` (the default) α falls step by step from 64 times its value to
`alpha_least`, and the first model is taken for which the forgotten records look like never-seen ones (`stopping`);
with `"none"` α is used as it is.

Guarantee: empirical. Limits: reported as nearly without effect on random forget sets, whose weights nothing singles
out. The records forgotten are among all, so F_f / F never exceeds their number's ratio n / n_f: with α 10 nothing is
selected for a tenth of the data or more. Where no weight is selected, or no α reaches the target, it declines instead
of giving back the model unchanged.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier, Tap
from models.contracts import ForgetSet, Progress
from unlearning.catalog.classifier import SsdConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.classifier.sides import Examples, Sides, as_method_errors
from unlearning.methods.classifier.stopping import StoppingRule

CHUNK = 256
"""Records whose gradients are taken at a time."""
MILDEST = 64.0
"""Calibration starts below so many times the configured α."""
STRIDE = 2**0.5
"""Ratio of one α to the next."""

Importance = dict[str, Tensor]
"""Of every weight, by the weights' names, float64."""


def run(
    model: NetworkClassifier,
    data: ClassifierData,
    forget: ForgetSet,
    config: SsdConfig,
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> NetworkClassifier:
    """Dampen what matters for the forget set.

    Raises:
        MethodError: A record is not in the data.
        MethodUnsuitableError: No weight is selected, or calibration has no target here or does not reach it.
    """
    sides = Sides.of(model, data, forget)
    if not len(sides.forgotten):
        return model
    rule = StoppingRule(config.calibration, model, data, forget)
    with as_method_errors():
        squares = squared_gradients(model, sides.forgotten)
        progress("measuring importance", 1, 2)
        others = squared_gradients(model, sides.retained)
    n, kept = len(sides.forgotten), len(sides.retained)
    on_forgotten = {name: square / n for name, square in squares.items()}
    on_all = {name: (square + others[name]) / (n + kept) for name, square in squares.items()}
    progress("measuring importance", 2, 2)
    for alpha in _strengths(config, ceiling=(n + kept) / n):
        dampened, selected = dampen(model, on_forgotten, on_all, alpha, config.dampening)
        enough = selected > 0 and (config.calibration == "none" or rule.is_enough(dampened))
        progress("dampening", 1, 1, {"alpha": alpha, "weights dampened": float(selected), **rule.figures})
        if enough:
            return dampened
    raise MethodUnsuitableError(
        "No weight matters so much more for the records to forget than for all that dampening it would forget them."
    )


def _strengths(config: SsdConfig, ceiling: float) -> Iterator[float]:
    """Yield the values of α to try, the mildest first; from `ceiling` on none selects anything."""
    if config.calibration == "none":
        yield config.alpha
        return
    alpha = min(config.alpha * MILDEST, ceiling)
    while alpha > config.alpha_least:
        alpha = max(alpha / STRIDE, config.alpha_least)
        yield alpha


def dampen(
    model: NetworkClassifier, on_forgotten: Importance, on_all: Importance, alpha: float, dampening: float
) -> tuple[NetworkClassifier, int]:
    """Where F_f > α F: θ ← θ · min(1, λ F / F_f); everything else stays, bit by bit.

    Args:
        model: Whose weights; it is left as it was.
        on_forgotten: F_f.
        on_all: F, the forget set included.
        alpha: α, the threshold.
        dampening: λ.

    Returns:
        The dampened model, and how many weights became smaller.
    """
    weights, selected = {}, 0
    for name, weight in model.weights.items():
        ratio = (
            on_all[name] / on_forgotten[name]
        )  # infinite or NaN where F_f is 0, and such are never selected
        factor = (dampening * ratio).clamp(max=1.0)
        chosen = (on_forgotten[name] > alpha * on_all[name]) & (factor < 1)
        weights[name] = torch.where(chosen, weight * factor.to(weight.dtype), weight)
        selected += int((chosen & (weight != 0)).sum())
    return model.with_weights(weights), selected


def squared_gradients(model: NetworkClassifier, examples: Examples) -> Importance:
    """Σ over records of (∂ log p(y|x) / ∂θ)², for every weight θ: squared for each record, then summed.

    A linear layer's gradient on one record is the outer product g aᵀ of its output's gradient and its input, so its
    square is g² (a²)ᵀ, and the sum over records one matrix product: as cheap as the gradient of the mean. A
    convolution sums over positions before it is squared, which takes one small product per record.

    Args:
        model: At whose weights.
        examples: n records.

    Returns:
        For n = 0, zeros.
    """
    sums = {name: torch.zeros(weight.shape, dtype=torch.float64) for name, weight in model.weights.items()}
    rows = min(CHUNK, model.rows_per_chunk)  # a convolution's patches take a kernel's area times its input
    for features, labels in zip(
        torch.split(examples.features, rows), torch.split(examples.labels, rows), strict=True
    ):
        if not len(labels):
            continue
        taps: list[Tap] = []
        weights = {name: weight.detach().requires_grad_() for name, weight in model.weights.items()}
        likelihood = -functional.cross_entropy(
            model.apply(model.scale(features), weights, taps), labels, reduction="sum"
        )
        # Each record's output gradient depends on that record alone, so the sum's gradient is all of theirs.
        gradients = torch.autograd.grad(likelihood, [tap.outputs for tap in taps])
        for tap, gradient in zip(taps, gradients, strict=True):
            weight, bias = _squares(tap, gradient)
            sums[f"{tap.layer.name}.weight"] += weight
            sums[f"{tap.layer.name}.bias"] += bias
    return sums


def _squares(tap: Tap, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ over records of the squared gradients of one layer's weight and bias."""
    inputs = tap.inputs.detach()
    if tap.layer.kind == "linear":
        return gradient.square().T @ inputs.square(), gradient.square().sum(dim=0)
    patches = functional.unfold(inputs, tap.layer.kernel, padding=1)  # (n, c, h, w) -> (n, c*9, h*w)
    flat = gradient.flatten(2)  # (n, out, h, w) -> (n, out, h*w)
    weight = (flat @ patches.transpose(1, 2)).square().sum(dim=0)  # (n, out, c*9) -> (out, c*9)
    return weight.reshape(tap.layer.weight_shape), flat.sum(dim=2).square().sum(dim=0)
