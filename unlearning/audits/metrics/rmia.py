"""RMIA: a membership score for each record from very few reference models, relative to a population.

Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks" (ICML 2024). A record x is scored by the
share of population records z that it beats:

    LR(x, z) = (p(x | target) / p(x)) / (p(z | target) / p(z)),   score(x) = P_z(LR(x, z) ≥ γ)

with p(x | model) the model's probability of the record's label, and p(x) its mean over all models that might have
been trained. Offline, only models that never saw x are at hand: p(x) = ½ ((1 + a) p_out(x) + (1 - a)), for a model
that has learned x is nearer to certain, and `a` says by how much. As in the authors' code the same scaling is
applied to z. A score is a share of the population: with k records of it, no two scores lie closer than 1/k.
"""

import torch
from torch import Tensor

from unlearning.audits.metrics.items import floats, refuse_fewer_models, shadow_signals
from unlearning.errors import MetricError


def rmia_offline(
    target: Tensor,
    references: Tensor,
    trained_on: Tensor,
    population: Tensor,
    population_references: Tensor,
    *,
    a: float = 0.3,
    gamma: float = 1.0,
) -> Tensor:
    """Score records with reference models that have not learned them; one model is enough.

    Args:
        target: p(x | target), the audited model's probability of the true label, shape (n,).
        references: p(x | reference), shape (models, n). Models that have learned x are left out for it.
        trained_on: Which reference model has learned which x, booleans of shape (models, n).
        population: p(z | target), shape (k,), of records that no model has learned.
        population_references: p(z | reference), shape (models, k).
        a: Between 0 and 1; 0.3 is the default of the authors' code. Best tuned on a reference model as target.
        gamma: γ > 0; 1 in the authors' code.

    Returns:
        Scores between 0 and 1, larger meaning more like a member, shape (n,), float64.

    Raises:
        MetricError: A signal is not a probability, shapes do not fit, a record has no reference model that never saw
            it, or `a` or γ are out of range.

    >>> never = torch.zeros(1, 2, dtype=torch.bool)
    >>> target, references = torch.tensor([0.9, 0.5]), torch.tensor([[0.5, 0.6]])
    >>> z, z_references = torch.tensor([0.5, 0.55]), torch.tensor([[0.5, 0.5]])
    >>> rmia_offline(target, references, never, z, z_references, a=1.0).tolist()  # 1.8 and 0.83 against 1 and 1.1
    [1.0, 0.0]
    """
    if not 0 <= a <= 1:
        raise MetricError(f"RMIA's a is {a}, but must lie between 0 and 1.")
    signals, others, learned = _records(target, references, trained_on)
    refuse_fewer_models(~learned, 1, "that never saw them")
    p_out = _mean_over(others, ~learned)
    z_signals, z_others = _population(population, population_references, len(others))
    p_x, p_z = ((1 + a) / 2 * mean + (1 - a) / 2 for mean in (p_out, z_others.mean(dim=0)))
    return _scores(_ratio(signals, p_x), _ratio(z_signals, p_z), gamma)


def rmia_online(
    target: Tensor,
    references: Tensor,
    trained_on: Tensor,
    population: Tensor,
    population_references: Tensor,
    *,
    gamma: float = 1.0,
) -> Tensor:
    """Score records with reference models of both kinds: p(x) = ½ (p_in(x) + p_out(x)).

    The two kinds weigh the same, however many models of each there are.

    Args:
        target: As in `rmia_offline`.
        references: As in `rmia_offline`; models that have learned x count too.
        trained_on: As in `rmia_offline`.
        population: As in `rmia_offline`; p(z) is the mean over all reference models.
        population_references: As in `rmia_offline`.
        gamma: γ > 0.

    Returns:
        Scores between 0 and 1, shape (n,), float64.

    Raises:
        MetricError: As `rmia_offline`, or a record has no reference model that has learned it.

    >>> learned = torch.tensor([[True, False], [False, True]])
    >>> target, references = torch.tensor([0.9, 0.5]), torch.tensor([[0.8, 0.4], [0.4, 0.8]])
    >>> z, z_references = torch.tensor([0.5, 0.6]), torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> rmia_online(target, references, learned, z, z_references).tolist()  # 1.5 and 0.83 against 1 and 1.2
    [1.0, 0.0]
    """
    signals, others, learned = _records(target, references, trained_on)
    refuse_fewer_models(~learned, 1, "that never saw them")
    refuse_fewer_models(learned, 1, "that have learned them")
    p_x = 0.5 * (_mean_over(others, learned) + _mean_over(others, ~learned))
    z_signals, z_others = _population(population, population_references, len(others))
    return _scores(_ratio(signals, p_x), _ratio(z_signals, z_others.mean(dim=0)), gamma)


def _records(target: Tensor, references: Tensor, trained_on: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    signals = _probabilities(floats(target, "probabilities of records"))
    others, learned = shadow_signals(references, trained_on, len(signals))
    return signals, _probabilities(others).to(signals.device), learned.to(signals.device)


def _population(population: Tensor, references: Tensor, models: int) -> tuple[Tensor, Tensor]:
    signals = _probabilities(floats(population, "probabilities of the population"))
    others = _probabilities(floats(references, "models' rows of the population", dims=2))
    if others.shape != (models, len(signals)):
        raise MetricError(
            f"The population's signals have shape {tuple(others.shape)} instead of {(models, len(signals))}."
        )
    return signals, others.to(signals.device)


def _probabilities(values: Tensor) -> Tensor:
    if values.min() < 0 or values.max() > 1:
        raise MetricError("RMIA needs probabilities, but a signal lies outside 0 to 1.")
    return values


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum(dim=0) / chosen.sum(dim=0)


def _ratio(signals: Tensor, means: Tensor) -> Tensor:
    if not means.min() > 0:
        raise MetricError(
            "Every reference model gives some record the probability 0: its ratio is undefined."
        )
    return signals / means


def _scores(ratios: Tensor, population: Tensor, gamma: float) -> Tensor:
    if not gamma > 0:
        raise MetricError(f"RMIA's γ is {gamma}, but must be above 0.")
    # LR ≥ γ means ratio_z ≤ ratio_x / γ: sorting once spares the table of all pairs.
    beaten = torch.searchsorted(population.sort().values, ratios / gamma, right=True)  # (n,)
    return beaten.to(ratios.dtype) / len(population)
