"""SCRUB: a student that contradicts its teacher on the forgotten records and agrees with it on the retained ones.

The original model is teacher and starting point. An epoch that maximises KL(teacher ‖ student) on forgotten records is
followed by one that minimises α KL(teacher ‖ student) + γ cross-entropy on retained ones; after a few of these pairs
only minimising epochs follow, which repair what the maximising ones broke. To not forget too much ("SCRUB+R"), the
student is then rewound to the epoch whose error on forgotten records is nearest to that on never-seen records.

Paper: Kurmanji et al., "Towards Unbounded Machine Unlearning" (NeurIPS 2023), arXiv 2302.09880; defaults as in the
membership-inference experiments of github.com/meghdadk/SCRUB at 98ffb11, apart from the learning rate (see the
configuration). Deviations: the rewinding's never-seen records are those that `unlearning.calibration` finds to look
like the forgotten ones, where the paper holds out a set of the same classes. With `calibration="none"` the last epoch
is taken, the paper's plain SCRUB. The published code also pulls the weights towards their running average, which the paper's formula lacks; it is
left out. The teacher's answers are computed once instead of in every epoch.

Guarantee: empirical. Limits: a rewinding can only choose among epochs; where held-out records make no picture of the
forget set, or nothing was memorised, the calibrated form declines.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.classifier.training import Descent, batches
from models.contracts import ForgetSet, Progress
from unlearning.calibration import Calibration
from unlearning.catalog.classifier import ScrubConfig
from unlearning.losses.distillation import distillation_divergence
from unlearning.methods.classifier.sides import Examples, Sides, as_method_errors
from unlearning.methods.classifier.stopping import StoppingRule, recognised


def run(
    model: NetworkClassifier,
    data: ClassifierData,
    forget: ForgetSet,
    config: ScrubConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NetworkClassifier:
    """Alternate maximising and minimising epochs, then rewind.

    Raises:
        MethodError: A record is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Nothing is retained, or calibration has no target here.
    """
    sides = Sides.of(model, data, forget)
    if not len(sides.forgotten):
        return model
    sides.require_retained()
    rule = StoppingRule(config.calibration, model, data, forget)
    answers_forgotten, answers_retained = (
        model.logits(sides.forgotten.features),
        model.logits(sides.retained.features),
    )
    descent = Descent(model, config.sgd)
    students: list[NetworkClassifier] = []
    with as_method_errors():
        for epoch in range(1, config.epochs + 1):
            figures: dict[str, float] = {}
            if epoch <= config.max_epochs:
                figures["KL on forgotten"] = maximise(
                    descent, sides.forgotten, answers_forgotten, config, generator
                )
            figures["retained loss"] = minimise(descent, sides.retained, answers_retained, config, generator)
            students.append(descent.model())
            progress("scrubbing", epoch, config.epochs, figures)
    if rule.calibration is None:
        return students[-1]
    return rewind(students, rule.calibration)


def maximise(
    descent: Descent, forgotten: Examples, answers: Tensor, config: ScrubConfig, generator: torch.Generator
) -> float:
    """Go through the forget set once, away from the teacher's `answers`; return the mean divergence on the way."""
    total = 0.0
    for batch in batches(len(forgotten), config.forget_batch_size, generator):
        divergence = distillation_divergence(
            answers[batch], descent.logits(forgotten.features[batch]), config.temperature
        )
        descent.step(-divergence)
        total += divergence.item() * len(batch)
    return total / len(forgotten)


def minimise(
    descent: Descent, retained: Examples, answers: Tensor, config: ScrubConfig, generator: torch.Generator
) -> float:
    """Go through the retained records once, towards teacher and labels; return the mean loss on the way."""
    total = 0.0
    for batch in batches(len(retained), config.batch_size, generator):
        logits = descent.logits(retained.features[batch])
        loss = config.alpha * distillation_divergence(
            answers[batch], logits, config.temperature
        ) + config.gamma * functional.cross_entropy(logits, retained.labels[batch])
        descent.step(loss)
        total += loss.item() * len(batch)
    return total / len(retained)


def rewind(students: list[NetworkClassifier], calibration: Calibration) -> NetworkClassifier:
    """Return the student whose error on forgotten records is nearest to the last one's error on never-seen ones.

    Args:
        students: One per epoch, in order; at least one. Of several equally near the last is taken.
        calibration: Holds both kinds of records.
    """
    target = recognised(students[-1], calibration)[1]
    gaps = [abs(recognised(student, calibration)[0] - target) for student in students]
    nearest = min(gaps)
    return next(
        student for student, gap in zip(reversed(students), reversed(gaps), strict=True) if gap <= nearest
    )
