"""Negative preference optimisation without a reference model: answers are judged by their mean token, not their change."""

from torch import Tensor
from torch.nn import functional


def simnpo_loss(answers: Tensor, lengths: Tensor, beta: float, delta: float = 0.0) -> Tensor:
    """-(2/β) · mean over records of log σ(β (L / |y| - δ)), L the summed negative log-likelihood of an answer in nats.

    Fan et al., "Simplicity Prevails" (arXiv 2410.07163), whose margin γ is βδ here: δ is in nats per token and
    keeps its meaning when β changes. The gradient of a record is that of ascent on its mean token, times 2σ(-β(L/|y| - δ)):
    long answers are not pushed harder than short ones, and what the original model found hard gets no head start.

    Args:
        answers: L, summed over the answer's tokens, shape (n,), n ≥ 1.
        lengths: |y| ≥ 1, the number of tokens of each answer, shape (n,).
        beta: β > 0.
        delta: δ, the mean loss per token at which a record's weight is 1.

    Returns:
        A scalar, > 0.

    >>> import math, torch
    >>> answers, lengths = torch.tensor([4 * math.log(3.0)]), torch.tensor([4])
    >>> round(simnpo_loss(answers, lengths, 2.0).item(), 4)  # -ln σ(2 ln 3) = -ln .9
    0.1054
    """
    return -2 / beta * functional.logsigmoid(beta * (answers / lengths - delta)).mean()
