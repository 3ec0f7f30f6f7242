"""The difference of two losses: down on what is kept, up on what is forgotten."""

from torch import Tensor


def gradient_difference_loss(
    forgotten: Tensor, retained: Tensor, forget_weight: float = 1.0, retain_weight: float = 1.0
) -> Tensor:
    """w_r · mean L(retained) - w_f · mean L(forgotten).

    Each mean is over its own records, so batches of unequal size weigh the same.

    Args:
        forgotten: Losses per forgotten record, shape (n,), n ≥ 1.
        retained: Losses per retained record, shape (m,), m ≥ 1.
        forget_weight: w_f ≥ 0.
        retain_weight: w_r ≥ 0.

    Returns:
        A scalar; it has no lower bound.

    >>> import torch
    >>> gradient_difference_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.5]), 2.0, 4.0).item()
    -2.0
    """
    return retain_weight * retained.mean() - forget_weight * forgotten.mean()
