"""What the neural recommenders have in common: what an objective offers, and the losses that several of them use."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from models.recommender.interaction_graph import InteractionGraph


class Objective(Protocol):
    """One architecture on one graph: how embeddings are read, and what training minimises."""

    def embed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Turn initial embeddings into final ones, whose inner product is the score; gradients flow.

        Args:
            users: Shape (users, d).
            items: Shape (items, d).

        Returns:
            Of the same shapes.
        """
        ...

    def loss(
        self, users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Return what a step on a batch of training interactions minimises.

        Args:
            users: Initial embeddings, shape (users, d).
            items: Initial embeddings, shape (items, d).
            batch: Users and items of the interactions, each of shape (n,).
            generator: Draws negatives, and noise where there is any.

        Returns:
            A scalar.
        """
        ...


def layer_sum(graph: InteractionGraph, users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """Add up the embeddings after 0, 1, …, `layers` steps of message passing; gradients flow.

    Args:
        graph: Where messages go along.
        users: Shape (users, d).
        items: Shape (items, d).
        layers: How many steps.

    Returns:
        Of the same shapes.
    """
    total_users, total_items = users, items
    for _ in range(layers):
        users, items = graph.step(users, items)
        total_users, total_items = total_users + users, total_items + items
    return total_users, total_items


def bpr_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: the mean of -log sigmoid(positive - negative).

    Rendle et al. 2009, arXiv 1205.2618, equation (4). Written as softplus, which does not overflow.

    Args:
        positive: Scores of interactions, shape (n,).
        negative: Scores of what the same users have not taken, shape (n,).

    Returns:
        A scalar.

    >>> round(bpr_loss(torch.tensor([1.0]), torch.tensor([1.0])).item(), 6)
    0.693147
    """
    return functional.softplus(negative - positive).mean()


def bpr_of(final: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor], negatives: Tensor) -> Tensor:
    """Return the ranking loss of a batch: final embeddings (users, d) and (items, d), three index vectors (n,)."""
    users, items = final
    anchors = users[batch[0]]  # (n, d)
    positive = (anchors * items[batch[1]]).sum(dim=1)
    negative = (anchors * items[negatives]).sum(dim=1)
    return bpr_loss(positive, negative)


def batch_penalty(users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], negatives: Tensor) -> Tensor:
    """Return ½ Σ (‖e_u‖² + ‖e_i‖² + ‖e_j‖²) / n over the triples of a batch, as LightGCN's authors regularise.

    Each row is counted instead of gathered: a batch names most rows many times.

    Args:
        users: Initial embeddings, shape (users, d).
        items: Initial embeddings, shape (items, d).
        batch: Users and items, each of shape (n,).
        negatives: Shape (n,).

    Returns:
        A scalar.

    >>> ones = torch.ones(2, 3)
    >>> batch_penalty(ones, ones, (torch.tensor([0, 0]), torch.tensor([0, 1])), torch.tensor([1, 0])).item()
    4.5
    """
    user_counts = torch.bincount(batch[0], minlength=len(users)).to(users.dtype)
    item_counts = torch.bincount(torch.cat([batch[1], negatives]), minlength=len(items)).to(items.dtype)
    squares = users.square().sum(dim=1) @ user_counts + items.square().sum(dim=1) @ item_counts
    return squares / (2 * len(negatives))


def info_nce(view: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrast two views: mean of -log(exp(s_nn/τ) / Σ_m exp(s_nm/τ)), s the cosine of row n and row m.

    Van den Oord et al. 2018, arXiv 1807.03748, as SimGCL uses it (arXiv 2112.08679, equation 2).

    Args:
        view: Shape (n, d).
        other: Shape (n, d); row n of it is what row n of `view` should look like.
        temperature: τ.

    Returns:
        A scalar.

    >>> round(info_nce(torch.eye(2), torch.eye(2), 1.0).item(), 6)  # log(1 + 1/e)
    0.313262
    """
    cosines = functional.normalize(view) @ functional.normalize(other).T  # (n, n)
    return functional.cross_entropy(cosines / temperature, torch.arange(len(view)))


def at_most(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return a random choice of `count` rows, shape (count,), or all where there are no more: shape (n,)."""
    if len(rows) <= count:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:count]]
