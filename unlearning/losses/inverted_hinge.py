"""The inverted hinge loss: the answer's token falls just behind its strongest rival, and no further for its own sake."""

import torch
from torch import Tensor


def inverted_hinge_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean over answer tokens of 1 + p(y) - max over v ≠ y of p(v), p the softmax of a position's logits.

    Cha et al., "Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs" (LoKU, arXiv 2408.06621).
    It is bounded, within [0, 2], and its gradient on the logits of all other tokens is p(v) (max p - p(y)): small where
    the answer was certain, so that a large vocabulary is not stirred up as gradient ascent does.

    The strongest rival is read from the two largest logits; the probabilities of the whole vocabulary are never
    written down. Where rivals are equally strong, one of them receives the gradient.

    Args:
        logits: One row per answer token, at the position before it, shape (tokens, vocabulary), both ≥ 1 and ≥ 2.
        tokens: The token y of each row, int64, shape (tokens,).

    Returns:
        A scalar within [0, 2].

    >>> logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    >>> [round(inverted_hinge_loss(logits, torch.tensor([y])).item(), 4) for y in (0, 1)]  # 1 + .7 - .2, 1 + .2 - .7
    [1.5, 0.5]
    """
    total = logits.logsumexp(dim=1)  # (t, v) -> (t,)
    best, indices = logits.topk(2, dim=1)  # (t, v) -> (t, 2)
    rival = torch.where(indices[:, 0] == tokens, best[:, 1], best[:, 0])
    own = logits.gather(1, tokens[:, None])[:, 0]
    return (1 + (own - total).exp() - (rival - total).exp()).mean()
