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
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier.network_configuration import SgdSettings
from models.threads import one_thread

if TYPE_CHECKING:  # network imports this module, for it trains
    from models.classifier.network import NetworkClassifier


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
    weights = leaves(model)
    optimizer = torch.optim.SGD(
        weights.values(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    steps = math.ceil(len(features) / settings.batch_size)
    for number in range(1, settings.epochs + 1):
        total = 0.0
        with one_thread():
            for step, batch in enumerate(batches(len(features), settings.batch_size, generator)):
                done = ((number - 1) * steps + step) / (settings.epochs * steps)
                for group in optimizer.param_groups:
                    group["lr"] = settings.rate(done)
                logits = model.apply(model.scale(features[batch]), weights)
                loss = functional.cross_entropy(logits, labels[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item() * len(batch)
        check_finite(total, weights)
        yield Epoch(number, settings.epochs, total / len(features), model.with_weights(weights))


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffle n records and yield them in batches of `size` indices; the last one may be smaller."""
    yield from torch.split(torch.randperm(n, generator=generator), size)


def leaves(model: "NetworkClassifier") -> dict[str, Tensor]:
    """Copy a model's weights into tensors that a loss can be differentiated by."""
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in model.weights.items()}


def check_finite(loss: float, weights: dict[str, Tensor]) -> None:
    """Refuse a run that has left the numbers.

    Raises:
        ValueError: The loss or a weight is NaN or infinite.
    """
    if not (math.isfinite(loss) and all(bool(tensor.isfinite().all()) for tensor in weights.values())):
        raise ValueError("training diverged: its loss is no longer a number; choose a smaller learning rate")
