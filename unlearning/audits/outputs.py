"""What a model that tells classes apart gives out on a set of items: logits, and each item's own class."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from unlearning.audits.metrics.logit_margin import logit_margins


@dataclass(frozen=True)
class Outputs:
    """One model's answers on one set of items (`evidence.Scored`).

    Attributes:
        classes: The model's classes in alphabetical order, whatever order the model has them in.
        logits: Shape (n, classes), float64, in this order.
        labels: The items' classes among them, shape (n,), int64.
    """

    classes: tuple[str, ...]
    logits: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def scores(self) -> Tensor:
        """Logit-scaled confidence φ of each item, shape (n,), float64.

        Raises:
            MetricError: A logit is not a finite number, or there is one class alone.
        """
        return logit_margins(self.logits, self.labels)

    @cached_property
    def right(self) -> Tensor:
        """Which items the model classifies rightly, shape (n,), bool."""
        return self.logits.argmax(dim=1) == self.labels
