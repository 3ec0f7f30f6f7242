"""Stochastic gradient descent on a network classifier: for training, for fine-tuning, and for relearning on a copy.

Epochs come one by one, so that whoever drives the loop decides when to stop:

    for epoch in sgd_epochs(model, features, labels, settings, generator=generator):
        if is_good_enough(epoch.model):
            break

Everything is computed on one thread: the same seed then gives the same weights, bit by bit, however many threads the
process has. Batches this small would gain little from more, and references of several seeds can be trained side by
side instead.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier.network_configuration import SgdSettings
from models.threads import one_thread

if TYPE_CHECKING:  # network imports this module, for it trains
    from models.classifier.network import NetworkClassifier

_DIVERGED = "training diverged: its loss is no longer a number; choose a smaller learning rate"


@dataclass(frozen=True)
class Epoch:
    """What one pass over the records came to.

    Attributes:
        number: 1 for the first.
        loss: Mean cross-entropy per record in nats, each record's measured before the step it took part in.
        model: The network after the epoch: a copy that later epochs leave alone.
    """

    number: int
    of: int
    loss: float
    model: "NetworkClassifier"


def sgd_epochs(
    model: "NetworkClassifier",
    features: Tensor,
    labels: Tensor,
    settings: SgdSettings,
    *,
    generator: torch.Generator,
) -> Iterator[Epoch]:
    """Train a copy of `model` by minimising the cross-entropy, and yield after each epoch.

    Args:
        model: Where to start; it is left as it was.
        features: Shape (n, input_width), n ≥ 1, any real type.
        labels: Shape (n,), int64 indices into the model's classes.
        settings: Epochs, batches, steps.
        generator: Draws the order of the records, anew in each epoch.

    Raises:
        ValueError: There are no records, or the loss or a weight is no longer a finite number.
    """
    if not len(features):
        raise ValueError("there are no training records")
    descent = Descent(model, settings)
    steps = math.ceil(len(features) / settings.batch_size)
    for number in range(1, settings.epochs + 1):
        total = 0.0
        with one_thread():
            for step, batch in enumerate(batches(len(features), settings.batch_size, generator)):
                logits = descent.logits(features[batch])
                loss = functional.cross_entropy(logits, labels[batch])
                descent.step(loss, done=((number - 1) * steps + step) / (settings.epochs * steps))
                total += loss.item() * len(batch)
        yield Epoch(number, settings.epochs, total / len(features), descent.model())


class Descent:
    """A copy of a network's weights, and the optimizer that moves them step by step.

    What is differentiated is the caller's: a loss on `logits` for training, another sign or other terms for forgetting.

    Attributes:
        weights: Leaves of the computation, by name.
    """

    def __init__(
        self,
        model: "NetworkClassifier",
        settings: SgdSettings,
        optimizer: Literal["sgd", "adam"] = "sgd",
    ) -> None:
        """Copy the weights of `model`, which is left as it was; `adam` has no use for the momentum."""
        self._model = model
        self._settings = settings
        self.weights = {
            name: tensor.detach().clone().requires_grad_() for name, tensor in model.weights.items()
        }
        self._optimizer: torch.optim.Optimizer
        if optimizer == "adam":
            self._optimizer = torch.optim.Adam(
                self.weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
            )
        else:
            self._optimizer = torch.optim.SGD(
                self.weights.values(),
                lr=settings.learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )

    def logits(self, features: Tensor) -> Tensor:
        """Compute logits that can be differentiated: shape (n, input_width) -> (n, classes)."""
        return self._model.apply(self._model.scale(features), self.weights)

    def step(self, loss: Tensor, *, done: float = 0.0) -> None:
        """Move the weights against the gradient of `loss`.

        Args:
            loss: A scalar.
            done: Share of all steps that lies behind, for the schedule.

        Raises:
            ValueError: The loss is NaN or infinite.
        """
        if not loss.isfinite():
            raise ValueError(_DIVERGED)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.rate(done)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def model(self) -> "NetworkClassifier":
        """Return the network as it is now: a copy that later steps leave alone.

        Raises:
            ValueError: A weight is NaN or infinite.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.weights.values()):
            raise ValueError(_DIVERGED)
        return self._model.with_weights(self.weights)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffle n records and yield them in batches of `size` indices; the last one may be smaller."""
    yield from torch.split(torch.randperm(n, generator=generator), size)


def endless_batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches for ever: pass after pass over n ≥ 1 records, each shuffled anew."""
    while True:
        yield from batches(n, size, generator)
