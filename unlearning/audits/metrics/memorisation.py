"""Memorisation: how much a model's answer on a record depends on having learned that record."""

from torch import Tensor

from unlearning.audits.metrics.items import floats, refuse_fewer_models, shadow_signals
from unlearning.errors import MetricError


def memorisation_scores(right: Tensor, trained_on: Tensor) -> Tensor:
    """mem(i) = P(h(x_i) = y_i | i learned) - P(h(x_i) = y_i | i not learned), per record.

    Feldman and Zhang, "What Neural Networks Memorize and Why" (2020), equation 1, estimated from models trained on
    random subsets. With few models a share of right answers is coarse; the probability of the true label in its place
    is smoother and estimates the same for a model that draws its answer at random.

    Args:
        right: 1 where the model is right on the record and 0 where not, or its probability of the true label, shape
            (models, n).
        trained_on: Which model has learned which record, booleans of shape (models, n).

    Returns:
        Between -1 and 1, shape (n,), float64.

    Raises:
        MetricError: Values outside 0 to 1, or a record without a model of either kind.

    >>> import torch
    >>> right = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    >>> learned = torch.tensor([[True, True], [False, True], [False, False]])
    >>> memorisation_scores(right, learned)  # 1 - ½, and 1 - 1
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    values, learned = shadow_signals(right, trained_on, right.shape[-1] if right.dim() else 0)
    _refuse_no_shares(values)
    refuse_fewer_models(learned, 1, "that have learned them")
    refuse_fewer_models(~learned, 1, "that never saw them")
    return _mean_over(values, learned) - _mean_over(values, ~learned)


def memorisation_proxy(original: Tensor, retrained: Tensor) -> Tensor:
    """p_original(y) - mean over retrained models of p_retrained(y), per forgotten record.

    The same difference from what an unlearning audit has at hand: one model that has learned the forget set and
    some that have not. One model in the first place makes it noisy on a single record; means over a stratum are better.
    The forget set is left out as a whole, so records that stand in for each other count as memorised together.

    Args:
        original: The original model's probability of the true label, or 1 and 0 for right and wrong, shape (n,).
        retrained: The same of models retrained without the forget set, shape (models, n).

    Returns:
        Between -1 and 1, shape (n,), float64.

    Raises:
        MetricError: Values outside 0 to 1, no retrained model, or shapes that do not fit.

    >>> import torch
    >>> memorisation_proxy(torch.tensor([1.0, 0.75]), torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    tensor([0.7500, 0.0000], dtype=torch.float64)
    """
    values = floats(original, "records")
    others = floats(retrained, "retrained models' rows", dims=2).to(values.device)
    if others.shape[1] != len(values):
        raise MetricError(
            f"The retrained models answer on {others.shape[1]} records instead of {len(values)}."
        )
    _refuse_no_shares(values)
    _refuse_no_shares(others)
    return values - others.mean(dim=0)


def _refuse_no_shares(values: Tensor) -> None:
    if not values.numel() or values.min() < 0 or values.max() > 1:
        raise MetricError("Memorisation needs shares or probabilities between 0 and 1.")


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum(dim=0) / chosen.sum(dim=0)
