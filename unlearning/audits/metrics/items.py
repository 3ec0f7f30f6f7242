"""What every metric asks of its input, in one place, so that each refusal reads alike.

A model under audit may give out anything. What is not a finite number, or too little to measure on, is a reason
for an inconclusive check, so it raises `MetricError`. Arithmetic is in float64 whatever the model's precision.
"""

import torch
from torch import Tensor

from unlearning.errors import MetricError


def floats(items: Tensor, name: str, *, dims: int = 1, at_least: int = 1) -> Tensor:
    """Return finite items as float64, off the gradient's tape. The result may share memory: read it only.

    Args:
        items: Any real type, `dims` axes; the last counts as the items where there is one axis, else the first.
        name: What they are, plural, for the message.
        dims: Number of axes.
        at_least: Smallest number of items.

    Raises:
        MetricError: Another number of axes, too few items, NaN or an infinity.

    >>> floats(torch.tensor([1, 2]), "scores")
    tensor([1., 2.], dtype=torch.float64)
    >>> floats(torch.tensor([1.0, torch.nan]), "scores")
    Traceback (most recent call last):
    unlearning.errors.MetricError: 1 of 2 scores are not finite numbers.
    """
    if items.dim() != dims:
        raise MetricError(f"The {name} have {items.dim()} axes instead of {dims}.")
    if len(items) < at_least:
        raise MetricError(f"{len(items)} {name} are too few: at least {at_least} are needed.")
    if items.is_complex():
        raise MetricError(f"The {name} are complex numbers.")
    values = items.detach().to(torch.float64)
    bad = int((~values.isfinite()).sum().item())
    if bad:
        raise MetricError(f"{bad} of {values.numel()} {name} are not finite numbers.")
    return values


def labelled_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits as float64 and labels as int64, checked against each other.

    Args:
        logits: Shape (n, classes), n ≥ 1 and at least two classes.
        labels: Shape (n,), integers below the number of classes.

    Raises:
        MetricError: Bad logits (see `floats`), one class alone, or labels that do not fit.
    """
    values = floats(logits, "rows of logits", dims=2)
    classes = values.shape[1]
    if classes < 2:  # noqa: PLR2004 - with one class there is nothing to tell apart
        raise MetricError("The logits have fewer than two classes.")
    if labels.shape != values.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise MetricError(f"The {len(values)} rows of logits need as many integer labels.")
    known = labels.detach().to(values.device, torch.int64)
    if known.min() < 0 or known.max() >= classes:
        raise MetricError(f"A label lies outside the {classes} classes.")
    return values, known


def paired_logits(logits: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return two models' logits on the same records as float64.

    Args:
        logits: Shape (n, classes), n ≥ 1.
        reference: Of the same shape.

    Raises:
        MetricError: Bad logits (see `floats`), or shapes that differ.
    """
    values = floats(logits, "rows of logits", dims=2)
    others = floats(reference, "rows of the reference's logits", dims=2)
    if values.shape != others.shape:
        raise MetricError(f"Logits of shape {tuple(values.shape)} and {tuple(others.shape)} are not paired.")
    return values, others.to(values.device)


def refuse_constant(*samples: Tensor, name: str) -> None:
    """Refuse samples in which one value is all there is: no rank statistic says anything of them.

    Raises:
        MetricError: Every item of every sample is the same.
    """
    low = min(float(sample.min()) for sample in samples)
    high = max(float(sample.max()) for sample in samples)
    if low == high:
        raise MetricError(f"All {name} are the same ({low:.6g}), so they tell nothing apart.")


def shadow_signals(signals: Tensor, trained_on: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the signals of shadow models as float64 and who was trained on what as booleans.

    Args:
        signals: Shape (models, n).
        trained_on: Shape (models, n), of type bool: whether the model had learned the record.
        n: Number of records.

    Raises:
        MetricError: Bad signals (see `floats`), or shapes that do not fit.
    """
    values = floats(signals, "models' rows of signals", dims=2)
    if values.shape[1] != n:
        raise MetricError(f"The shadow models give signals of {values.shape[1]} records instead of {n}.")
    if trained_on.shape != values.shape or trained_on.dtype is not torch.bool:
        raise MetricError(f"Membership must be booleans of shape {tuple(values.shape)}.")
    return values, trained_on.detach().to(values.device)


def refuse_fewer_models(chosen: Tensor, at_least: int, kind: str) -> None:
    """Refuse records for which too few shadow models were, or were not, trained.

    Args:
        chosen: Shape (models, n), booleans: the models of the kind that is needed.
        at_least: How many each record needs.
        kind: Ends the sentence "at least 2 models …".

    Raises:
        MetricError: A record has fewer.
    """
    short = int((chosen.sum(dim=0) < at_least).sum().item())
    if short:
        raise MetricError(f"{short} of {chosen.shape[1]} records need at least {at_least} models {kind}.")
