"""Fine-tuning: going on with training, on the retained records alone, and hoping that the rest fades.

Catastrophic forgetting does the work: what is no longer rehearsed is slowly overwritten. Source: the baseline of this
name in Golatkar et al., "Eternal Sunshine of the Spotless Net" (CVPR 2020), arXiv 1911.04933, which suggests a
learning rate somewhat larger than training's last one.

Deviations: with `calibration="validation"` (the default) it stops after the first epoch in which forgotten records
look like never-seen ones (`stopping`); with `"none"` it runs its epochs, as published.

Guarantee: empirical, and a weak one: a warm start on retained data rarely removes the whole trace. Limits: where
held-out records make no picture of the forget set, or nothing was memorised, the calibrated form declines.
"""

import torch

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.classifier.training import sgd_epochs
from models.contracts import ForgetSet, Progress
from unlearning.catalog.classifier import FinetuneConfig
from unlearning.methods.classifier.sides import Sides, as_method_errors
from unlearning.methods.classifier.stopping import StoppingRule


def run(
    model: NetworkClassifier,
    data: ClassifierData,
    forget: ForgetSet,
    config: FinetuneConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NetworkClassifier:
    """Train on what is retained, starting from `model`.

    Raises:
        MethodError: A record is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Nothing is retained, or calibration has no target here.
    """
    sides = Sides.of(model, data, forget)
    if not len(sides.forgotten):
        return model
    sides.require_retained()
    rule = StoppingRule(config.calibration, model, data, forget)
    tuned = model
    with as_method_errors():
        epochs = sgd_epochs(
            model, sides.retained.features, sides.retained.labels, config.sgd, generator=generator
        )
        for epoch in epochs:
            tuned = epoch.model
            enough = rule.is_enough(tuned)
            figures = {"retained loss": epoch.loss, **rule.figures}
            progress("fine-tuning", epoch.of if enough else epoch.number, epoch.of, figures)
            if enough:
                break
    return tuned
