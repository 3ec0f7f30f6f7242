"""Gradient difference: up on the forgotten records, down on retained ones, in the same step.

The loss is w_r · mean L(retained) - w_f · mean L(forgotten): the second term forgets, the first holds the rest
together. Source: Liu et al., "Continual Learning and Private Unlearning" (CoLLAs 2022), arXiv 2203.12817, in the form
that TOFU (arXiv 2401.06121) made common: weights 1 and 1, each forget batch beside a retained one.

Deviations: with `calibration="validation"` (the default) it stops as soon as forgotten records look like never-seen
ones (`stopping`); with `"none"` it runs its epochs, as published. Retained batches come from an endless stream of
shuffled passes, so that no forgotten record is left out where the two sides differ in size.

Guarantee: empirical. Limits: the forget term has no lower bound, so a long run still drives the forgotten records'
scores below those of a retrained model. Where held-out records make no picture of the forget set, or nothing was
memorised, the calibrated form declines.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.classifier.training import Descent, batches, endless_batches
from models.contracts import ForgetSet, Progress
from unlearning.catalog.classifier import GradientDifferenceConfig
from unlearning.losses.gradient_difference import gradient_difference_loss
from unlearning.methods.classifier.sides import Examples, Sides, as_method_errors
from unlearning.methods.classifier.stopping import StoppingRule


def run(
    model: NetworkClassifier,
    data: ClassifierData,
    forget: ForgetSet,
    config: GradientDifferenceConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NetworkClassifier:
    """Descend the difference of the losses. An epoch is one pass over the forget set.

    Raises:
        MethodError: A record is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Nothing is retained, or calibration has no target here.
    """
    sides = Sides.of(model, data, forget)
    if not len(sides.forgotten):
        return model
    sides.require_retained()
    rule = StoppingRule(config.calibration, model, data, forget)
    descent = Descent(model, config.sgd)
    steps = math.ceil(len(sides.forgotten) / config.batch_size)
    stream = endless_batches(len(sides.retained), config.batch_size, generator)
    with as_method_errors():
        for epoch in range(1, config.epochs + 1):
            totals = torch.zeros(2, dtype=torch.float64)
            drawn = batches(len(sides.forgotten), config.batch_size, generator)
            for batch, check in zip(drawn, rule.checkpoints(steps), strict=True):
                forgotten = _losses(descent, sides.forgotten, batch)
                retained = _losses(descent, sides.retained, next(stream))
                descent.step(
                    gradient_difference_loss(forgotten, retained, config.forget_weight, config.retain_weight)
                )
                totals += torch.stack([forgotten.detach().mean(), retained.detach().mean()])
                if check and rule.is_enough(descent.model()):
                    progress("parting", config.epochs, config.epochs, rule.figures)
                    return descent.model()
            forget_loss, retain_loss = (totals / steps).tolist()
            figures = {"forget loss": forget_loss, "retained loss": retain_loss, **rule.figures}
            progress("parting", epoch, config.epochs, figures)
    return descent.model()


def _losses(descent: Descent, examples: Examples, batch: Tensor) -> Tensor:
    """Return the cross-entropy of each record of a batch, shape (n,)."""
    return functional.cross_entropy(
        descent.logits(examples.features[batch]), examples.labels[batch], reduction="none"
    )
