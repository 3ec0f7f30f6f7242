"""The sum that holds one half of a model's knowledge and takes the other away."""

from torch import Tensor


def preserve_and_destroy(preserved: Tensor, destroyed: Tensor, alpha: float) -> Tensor:
    """α · L_r + (1 - α) · L_f, the objective of D2DGN (arXiv 2309.16173).

    Args:
        preserved: L_r, a scalar: the distance to the preserver on what is retained.
        destroyed: L_f, a scalar: the distance to the destroyer on what is forgotten.
        alpha: α within [0, 1].

    Returns:
        A scalar.

    >>> import torch
    >>> preserve_and_destroy(torch.tensor(1.0), torch.tensor(5.0), 0.75).item()
    2.0
    """
    return alpha * preserved + (1 - alpha) * destroyed
