"""Recall and NDCG of the first K recommendations, and how much two lists have in common."""

import torch
from torch import Tensor

from unlearning.errors import MetricError


def recall_at_k(hits: Tensor, wanted: Tensor) -> Tensor:
    """Each user's recall@K = hits among the first K / items wanted (He et al., SIGIR 2020, as LightGCN evaluates).

    Args:
        hits: Whether each of the first K items is wanted, shape (users, K), bool.
        wanted: How many items each user wants, shape (users,), at least 1.

    Returns:
        Shape (users,), float64.

    Raises:
        MetricError: A user wants nothing.

    >>> recall_at_k(torch.tensor([[True, False], [True, True]]), torch.tensor([4, 2]))
    tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    _refuse_nobody(wanted)
    return hits.sum(dim=1).to(torch.float64) / wanted


def ndcg_at_k(hits: Tensor, wanted: Tensor) -> Tensor:
    """Each user's NDCG@K = Σ_r hit_r / log₂(r + 1) over the same sum of min(K, |wanted|) hits in front.

    Järvelin and Kekäläinen (2002), binary gains; ranks r count from 1.

    Args:
        hits: Whether each of the first K items is wanted, shape (users, K), bool.
        wanted: How many items each user wants, shape (users,), at least 1.

    Returns:
        Shape (users,), float64.

    Raises:
        MetricError: A user wants nothing.

    >>> ndcg_at_k(torch.tensor([[False, True]]), torch.tensor([1]))  # 1 / log₂ 3
    tensor([0.6309], dtype=torch.float64)
    """
    _refuse_nobody(wanted)
    discounts = 1 / torch.log2(torch.arange(hits.shape[1], dtype=torch.float64) + 2)
    ideal = discounts.cumsum(0)[wanted.clamp(max=hits.shape[1]) - 1]
    return (hits * discounts).sum(dim=1) / ideal


def overlap_at_k(lists: Tensor, others: Tensor) -> Tensor:
    """Each user's share of the first K items that another model recommends too, whatever their order.

    Args:
        lists: Items, shape (users, K), none twice in a row; -1 stands for nothing.
        others: The other model's, of the same shape.

    Returns:
        Shape (users,), float64.

    Raises:
        MetricError: The shapes differ, or a list is empty.

    >>> overlap_at_k(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[4, 9, 8, 1]]))
    tensor([0.5000], dtype=torch.float64)
    """
    there = lists >= 0
    if lists.shape != others.shape or not bool(there.any(dim=1).all()):
        raise MetricError("lists to compare must be equally long and not empty")
    common = (lists.unsqueeze(2) == others.unsqueeze(1)).any(dim=2) & there
    return common.sum(dim=1).to(torch.float64) / there.sum(dim=1)


def _refuse_nobody(wanted: Tensor) -> None:
    if len(wanted) and int(wanted.min()) < 1:
        raise MetricError("every user of a ranking must want something")
