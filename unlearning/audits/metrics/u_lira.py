"""U-LiRA: can models that unlearned a record be told from models that never learned it?

Hayes et al., "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy" (2024), section 4.
Many models learn a record and unlearn it by the method under test; as many never learn it. If the method
unlearns, the record's signal has the same distribution over both kinds, and guessing the kind succeeds half of the
time. It is a test of the method at work on this record, more than of one model.
"""

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from unlearning.audits.metrics.accuracy import wilson_interval
from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.metrics.gaussians import Variance, fit_gaussians
from unlearning.audits.metrics.items import floats
from unlearning.errors import MetricError


@dataclass(frozen=True)
class ULira:
    """How well the two kinds of models are told apart; 0.5 is chance.

    Attributes:
        accuracy: Mean over records and kinds; its n counts the models guessed, which vary independently.
        per_record: Accuracy on each record, shape (n,).
    """

    accuracy: Estimate
    per_record: Tensor


def u_lira_scores(
    observed: Tensor, unlearned: Tensor, never_trained: Tensor, *, variance: Variance = "global"
) -> Tensor:
    """Λ = log N(φ; unlearned models) - log N(φ; never-trained models), per record: above 0 it looks unlearned.

    Args:
        observed: φ of the audited model, shape (n,).
        unlearned: φ of models that learned and unlearned the records, shape (m, n).
        never_trained: φ of models that never learned them, shape (k, n).
        variance: See `Variance`.

    Returns:
        Log-likelihood ratios, shape (n,), float64.

    Raises:
        MetricError: A signal is not a finite number, shapes do not fit, too few models, or a variance of zero.

    >>> unlearned, never = torch.tensor([[3.0], [5.0]]), torch.tensor([[-1.0], [1.0]])
    >>> u_lira_scores(torch.tensor([1.0]), unlearned, never).numpy().round(6)  # (1² - 3²) / (2 · 2)
    array([-2.])
    """
    values = floats(observed, "signals")
    former = _models(unlearned, "unlearned", len(values), 2)
    latter = _models(never_trained, "never-trained", len(values), 2)
    return _ratios(values, former, latter, variance)


def u_lira(unlearned: Tensor, never_trained: Tensor, *, variance: Variance = "global") -> ULira:
    """Fit both distributions to every other model, guess the kind of each remaining model, and count right guesses.

    As in the paper no model is guessed from a distribution that it helped to fit. Leaving one out at a time instead
    would use few models better, but then the guesses hang together: where the truth is 0.5, its 95 % interval held
    it in only 79 % of draws (docs/benchmarks/audit_metrics.md). A ratio of exactly zero counts as half right. The interval is
    Student's, with Welch's degrees of freedom, over models: records of one model are not independent of each other.
    Where the models' accuracies do not differ, it is Wilson's with a model as one item: too wide rather than a point.

    Args:
        unlearned: φ of models that learned and unlearned the records, in no meaningful order, shape (m, n), m ≥ 4.
        never_trained: φ of models that never learned them, likewise, shape (k, n), k ≥ 4.
        variance: See `Variance`.

    Raises:
        MetricError: As `u_lira_scores`, or fewer than four models of a kind.

    >>> far, near = torch.tensor([[9.0], [10.0], [11.0], [10.0]]), torch.tensor([[-1.0], [0.0], [1.0], [0.0]])
    >>> u_lira(far, near).accuracy.value
    1.0
    """
    records = unlearned.shape[-1] if unlearned.dim() else 0
    # Four of each: two make a variance, and two more an interval.
    former = _models(unlearned, "unlearned", records, 4)
    latter = _models(never_trained, "never-trained", records, 4)
    fitted = former[::2], latter[::2]
    right_former = _right(_ratios(former[1::2], *fitted, variance))  # (m // 2, n)
    right_latter = _right(-_ratios(latter[1::2], *fitted, variance))  # (k // 2, n)
    accuracy = _balanced(right_former.mean(dim=1), right_latter.mean(dim=1))
    return ULira(accuracy, 0.5 * (right_former.mean(dim=0) + right_latter.mean(dim=0)))


def _models(signals: Tensor, kind: str, records: int, at_least: int) -> Tensor:
    values = floats(signals, f"{kind} models", dims=2, at_least=at_least)
    if values.shape[1] != records:
        raise MetricError(
            f"The {kind} models give signals of {values.shape[1]} records instead of {records}."
        )
    return values


def _ratios(values: Tensor, former: Tensor, latter: Tensor, variance: Variance) -> Tensor:
    fitted = (
        fit_gaussians(signals, torch.ones_like(signals, dtype=torch.bool), variance, kind)
        for signals, kind in ((former, "of one kind"), (latter, "of the other kind"))
    )
    own, other = (gaussians.log_density(values) for gaussians in fitted)
    return own - other


def _right(ratios: Tensor) -> Tensor:
    return 0.5 * (1 + ratios.sign())


def _balanced(former: Tensor, latter: Tensor) -> Estimate:
    value = 0.5 * float(former.mean() + latter.mean())
    models = len(former) + len(latter)
    parts = [float(kind.var()) / len(kind) for kind in (former, latter)]
    if not sum(parts):
        return Estimate(value, wilson_interval(value * models, models), models)
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(kind) - 1) for part, kind in zip(parts, (former, latter), strict=True)
    )
    spread = float(stats.t.ppf(0.975, degrees)) * 0.5 * math.sqrt(sum(parts))
    return Estimate(value, (max(0.0, value - spread), min(1.0, value + spread)), models)
