"""What a classifier gives out on a set of records: one forward pass, shared by every check.

Reading a model must leave it as it was, whatever it is. A plug-in's network may drop units at random, or update
running statistics while it is in training mode: so gradients are off, modules are in evaluation mode and go back to
the mode they had, and the global random generators get back their state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from models.classifier.data import ClassifierData
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.errors import MetricError


@dataclass(frozen=True)
class Outputs:
    """One model's answers on one set of records.

    Attributes:
        classes: The model's classes in alphabetical order, whatever order the model has them in.
        logits: Shape (n, classes), float64, in this order.
        labels: The records' classes among them, shape (n,), int64.
    """

    classes: tuple[str, ...]
    logits: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def margins(self) -> Tensor:
        """Logit-scaled confidence φ of each record, shape (n,), float64.

        Raises:
            MetricError: A logit is not a finite number, or there is one class alone.
        """
        return logit_margins(self.logits, self.labels)

    @cached_property
    def probabilities(self) -> Tensor:
        """The model's probability of each record's own class, shape (n,), float64."""
        return torch.sigmoid(self.margins)

    @cached_property
    def right(self) -> Tensor:
        """Which records the model classifies rightly, shape (n,), bool."""
        return self.logits.argmax(dim=1) == self.labels


@contextmanager
def reading(model: Any) -> Iterator[None]:
    """Leave a model and the global random state as they were, whatever is computed with it."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    with torch.random.fork_rng(), torch.no_grad():
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode


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
