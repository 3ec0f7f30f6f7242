"""LiRA: the likelihood-ratio attack on each record, from shadow models with and without it.

Carlini et al., "Membership Inference Attacks From First Principles" (IEEE S&P 2022), algorithm 1 and section IV. A
record's signal, best its logit margin, is near normal over models; the attack compares how likely the audited
model's signal is under the models that have learned the record and under those that have not. One query per
record: the paper's variant with augmented copies is not here.
"""

from torch import Tensor

from unlearning.audits.metrics.gaussians import Variance, fit_gaussians
from unlearning.audits.metrics.items import floats, shadow_signals


def lira_online(
    observed: Tensor, shadows: Tensor, trained_on: Tensor, *, variance: Variance = "global"
) -> Tensor:
    """Λ = log N(φ; μ_in, v_in) - log N(φ; μ_out, v_out), per record, with means μ and variances v over models.

    Args:
        observed: φ of the audited model, shape (n,).
        shadows: φ of the shadow models, shape (models, n).
        trained_on: Which shadow model has learned which record, booleans of shape (models, n).
        variance: See `Variance`.

    Returns:
        Log-likelihood ratios, larger meaning more like a member, shape (n,), float64.

    Raises:
        MetricError: A signal is not a finite number, shapes do not fit, a record lacks models of either kind, or a
            variance is zero.

    >>> import torch
    >>> shadows = torch.tensor([[3.0], [5.0], [-1.0], [1.0]])  # in: mean 4, variance 2; out: mean 0, variance 2
    >>> learned = torch.tensor([[True], [True], [False], [False]])
    >>> lira_online(torch.tensor([3.0]), shadows, learned).numpy().round(6)  # (3² - 1²) / (2 · 2)
    array([2.])
    """
    values, signals, learned = _signals(observed, shadows, trained_on)
    inside = fit_gaussians(signals, learned, variance, "that have learned them")
    outside = fit_gaussians(signals, ~learned, variance, "that never saw them")
    return inside.log_density(values) - outside.log_density(values)


def lira_offline(
    observed: Tensor, shadows: Tensor, trained_on: Tensor, *, variance: Variance = "global"
) -> Tensor:
    """Standard score z = (φ - μ_out) / √v_out, per record, from models that never saw it.

    The paper's score is Λ = 1 - P(Z > φ) = Φ(z). It grows with z, so both rank records alike, but Φ rounds every
    large z to 1 and then ranks no more; hence z itself is returned.

    Args:
        observed: φ of the audited model, shape (n,).
        shadows: φ of the shadow models, shape (models, n). Models that have learned a record are left out for it.
        trained_on: Which shadow model has learned which record, booleans of shape (models, n).
        variance: See `Variance`.

    Returns:
        Standard scores, larger meaning more like a member, shape (n,), float64.

    Raises:
        MetricError: As `lira_online`, but only models that never saw a record are needed.

    >>> import torch
    >>> shadows = torch.tensor([[-1.0], [1.0]])  # mean 0, variance 2
    >>> lira_offline(torch.tensor([2.0]), shadows, torch.zeros(2, 1, dtype=torch.bool)).numpy().round(6)
    array([1.414214])
    """
    values, signals, learned = _signals(observed, shadows, trained_on)
    return fit_gaussians(signals, ~learned, variance, "that never saw them").standardised(values)


def _signals(observed: Tensor, shadows: Tensor, trained_on: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    values = floats(observed, "signals")
    signals, learned = shadow_signals(shadows, trained_on, len(values))
    return values, signals.to(values.device), learned.to(values.device)
