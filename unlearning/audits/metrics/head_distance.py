"""Distance between two linear heads."""

import math

from torch import Tensor


def relative_distance(head: Tensor, reference: Tensor) -> float:
    """‖W - W_ref‖_F / ‖W_ref‖_F; exactly zero only for equal heads (signed zeros apart).

    Args:
        head: W, shape (d, classes).
        reference: W_ref, of the same shape.

    >>> import torch
    >>> relative_distance(torch.tensor([[3.0], [3.0]]), torch.tensor([[3.0], [4.0]]))
    0.2
    """
    difference, size = float((head - reference).norm()), float(reference.norm())
    if size == 0.0:
        return 0.0 if difference == 0.0 else math.inf
    return difference / size
