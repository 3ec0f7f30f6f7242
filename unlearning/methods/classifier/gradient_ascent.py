"""Gradient ascent: training in reverse, on the forgotten records alone.

Each step moves the weights so that the loss on forgotten records grows. Source: the baseline called negative gradient
by Golatkar et al., "Eternal Sunshine of the Spotless Net" (CVPR 2020), arXiv 1911.04933.

Deviations: with `calibration="validation"` (the default) it stops as soon as forgotten records look like never-seen
ones (`stopping`); with `"none"` it runs its epochs, as published.

Guarantee: empirical. Limits: nothing holds the rest of the model together, so it collapses when it runs on; it is here
to be compared with, and the audit is expected to catch it. Where held-out records make no picture of the forget set,
or nothing was memorised, the calibrated form declines.
"""

import math

import torch
from torch.nn import functional

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.classifier.training import Descent, batches
from models.contracts import ForgetSet, Progress
from unlearning.catalog.classifier import GradientAscentConfig
from unlearning.methods.classifier.sides import Sides, as_method_errors
from unlearning.methods.classifier.stopping import StoppingRule


def run(
    model: NetworkClassifier,
    data: ClassifierData,
    forget: ForgetSet,
    config: GradientAscentConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NetworkClassifier:
    """Ascend the loss on the forget set.

    Raises:
        MethodError: A record is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Calibration has no target here.
    """
    forgotten = Sides.of(model, data, forget).forgotten
    if not len(forgotten):
        return model
    rule = StoppingRule(config.calibration, model, data, forget)
    descent = Descent(model, config.sgd)
    steps = math.ceil(len(forgotten) / config.batch_size)
    with as_method_errors():
        for epoch in range(1, config.epochs + 1):
            total = 0.0
            drawn = batches(len(forgotten), config.batch_size, generator)
            for batch, check in zip(drawn, rule.checkpoints(steps), strict=True):
                loss = functional.cross_entropy(
                    descent.logits(forgotten.features[batch]), forgotten.labels[batch]
                )
                descent.step(-loss)
                total += loss.item() * len(batch)
                if check and rule.is_enough(descent.model()):
                    progress("ascending", config.epochs, config.epochs, rule.figures)
                    return descent.model()
            figures = {"forget loss": total / len(forgotten), **rule.figures}
            progress("ascending", epoch, config.epochs, figures)
    return descent.model()
