"""What a classifier gives out on a set of records: one forward pass, shared by every check."""

from typing import Any

import torch
from torch import Tensor

from models.classifier.data import ClassifierData
from unlearning.audits.outputs import Outputs
from unlearning.audits.reading import reading
from unlearning.errors import MetricError


def observe(model: Any, data: ClassifierData) -> Outputs:
    """Ask a model once for everything that checks need of these records.

    Raises:
        MetricError: Its architecture offers no logits, it does not know a record's class, or what it gives out is
            not one row for each record.
    """
    if not callable(getattr(model, "logits", None)):
        raise MetricError(
            f"The architecture {getattr(model, 'architecture', type(model).__name__)!r} offers no logits, so nothing "
            "beyond its accuracy can be measured."
        )
    classes = tuple(sorted(model.classes))
    try:
        labels = data.labels_among(classes)
    except ValueError as error:
        raise MetricError(f"The models' classes are not the data's: {error}.") from error
    with reading(model):
        logits = model.logits(data.features)
    if not isinstance(logits, Tensor) or logits.shape != (len(data), len(model.classes)):
        raise MetricError("The model's logits are not one row for each record and one column for each class.")
    columns = [model.classes.index(name) for name in classes]
    return Outputs(classes, logits.detach().to("cpu", torch.float64)[:, columns], labels)
