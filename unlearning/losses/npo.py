"""Negative preference optimisation: an ascent that slows down by itself on what is already forgotten."""

from torch import Tensor
from torch.nn import functional


def npo_loss(answers: Tensor, reference: Tensor, beta: float) -> Tensor:
    """-(2/β) · mean over records of log σ(β (L - L_ref)), L the summed negative log-likelihood of an answer in nats.

    Zhang et al., "Negative Preference Optimization" (arXiv 2404.05868). With π = exp(-L) its gradient is
    that of gradient ascent, -∇L, times 2π^β / (π^β + π_ref^β) for each record: 1 at the reference, and fading as the
    answer grows improbable. For β → 0 the factor stays 1, so the gradient becomes that of ascent on the *sum* over an
    answer's tokens and not on their mean, while the loss itself grows like 2 ln 2 / β.

    The reference model is here one number per record, for nothing else of it enters: compute it once and keep it.

    Args:
        answers: L, summed over the answer's tokens, shape (n,), n ≥ 1.
        reference: L_ref, the same sums under the model before unlearning, shape (n,). No gradient flows to them.
        beta: β > 0, per nat.

    Returns:
        A scalar, > 0.

    >>> import math, torch
    >>> round(npo_loss(torch.tensor([math.log(3.0)]), torch.zeros(1), 2.0).item(), 4)  # -ln σ(2 ln 3) = -ln .9
    0.1054
    """
    return -2 / beta * functional.logsigmoid(beta * (answers - reference.detach())).mean()
