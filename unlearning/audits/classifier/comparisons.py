"""Figures for information that need more than scores: distances of a classifier's predictions, and relearning."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.classifier.network import NetworkClassifier
from models.classifier.training import sgd_epochs
from unlearning.audits.classifier.evidence import ClassifierEvidence
from unlearning.audits.comparisons import (
    FORGET_QUALITY_P,
    RETAINED_PRIVACY,
    RMIA_AUC,
    Comparison,
    Measured,
    against_retrained,
)
from unlearning.audits.evidence import Records
from unlearning.audits.metrics.activation_distance import activation_distance
from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.metrics.jensen_shannon import jensen_shannon
from unlearning.audits.metrics.relearning_time import relearning_time
from unlearning.errors import MetricError

RELEARNING_RECORDS = 1000
"""Forget sets beyond this size are relearned only in a deep audit."""
RELEARNING_EPOCHS = 40
RELEARNING_REFERENCES = 3


def _distance(distance: Callable[[Tensor, Tensor], Estimate]) -> Callable[[ClassifierEvidence], Measured]:
    """Measure how far a model's predictions on forgotten records lie from those of the references, on average."""

    def measure(evidence: ClassifierEvidence) -> Measured:
        return against_retrained(
            evidence, Records.FORGOTTEN, lambda ours, theirs: distance(ours.logits, theirs.logits).value
        )

    return measure


def _relearning(evidence: ClassifierEvidence) -> Measured:
    case = evidence.case
    forgotten = evidence.sets[Records.FORGOTTEN]
    if len(forgotten) > RELEARNING_RECORDS and not case.policy.deep:
        raise MetricError(f"{len(forgotten)} records are relearned only in a deep audit.")
    target = float(evidence.original(Records.FORGOTTEN).right.to(torch.float64).mean())
    references = evidence.references().models[:RELEARNING_REFERENCES]
    measured = relearning_time(
        _relearning_curve(case.candidate, evidence, target),
        [_relearning_curve(model, evidence, target) for model in references],
        target,
    )
    return Measured(
        value=measured.value,
        reference=1.0,
        n=measured.n,
        interval=measured.interval,
        passed=measured.interval[0] <= 1 <= measured.interval[1],
        bound="1 within the range of the retrained models",
        reason=f"{measured.steps} passes over the forgotten records, retrained models "
        f"{', '.join(map(str, measured.reference_steps))}. The interval is the retrained models' range.",
    )


def _relearning_curve(model: object, evidence: ClassifierEvidence, target: float) -> list[float]:
    """Train a copy on the forgotten records until it is as good on them as the original; accuracy after each pass."""
    if not isinstance(model, NetworkClassifier):
        raise MetricError("Only models trained by gradient descent can be relearned step by step.")
    forgotten = evidence.sets[Records.FORGOTTEN]
    labels = forgotten.labels_among(model.classes)
    settings = model.config.recipe.model_copy(update={"epochs": RELEARNING_EPOCHS, "schedule": "constant"})
    curve = [float((model.predict(forgotten.features) == labels).to(torch.float64).mean())]
    generator = torch.Generator().manual_seed(evidence.case.seed)
    epochs = sgd_epochs(model, forgotten.features, labels, settings, generator=generator)
    while curve[-1] < target:
        try:
            epoch = next(epochs, None)
        except ValueError as error:
            raise MetricError(f"Relearning failed: {error}.") from error
        if epoch is None:
            break
        curve.append(float((epoch.model.predict(forgotten.features) == labels).to(torch.float64).mean()))
    return curve


COMPARISONS: tuple[Comparison[ClassifierEvidence], ...] = (
    FORGET_QUALITY_P,
    RMIA_AUC,
    Comparison(
        "activation distance",
        "distance",
        "mean over forgotten records and retrained models of ‖softmax - softmax of the retrained model‖₂",
        _distance(activation_distance),
    ),
    Comparison(
        "Jensen-Shannon divergence",
        "distance",
        "mean over forgotten records and retrained models, in nats",
        _distance(jensen_shannon),
    ),
    Comparison(
        "relearning time",
        "relearning",
        "passes over the forgotten records, on a copy, back to the original's accuracy on them, over the retrained "
        "models' mean",
        _relearning,
    ),
    RETAINED_PRIVACY,
)
