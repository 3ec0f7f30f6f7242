"""Full ranking: every item against every other, for many users at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SCORES = 1 << 22
"""Scores held at a time: 16 MiB of float32."""


@dataclass(frozen=True)
class RankingQuality:
    """What a ranking is worth, as means over the users who want something.

    Attributes:
        recall: Share of the wanted items among the first K.
        ndcg: Discounted gain of the wanted items among the first K, over that of the best ranking possible.
        users: How many users the means are over.
    """

    recall: float
    ndcg: float
    users: int


def ranking_quality(
    score: Callable[[Tensor], Tensor], seen: Any, wanted: Any, *, k: int = 20
) -> RankingQuality:
    """Rank all items for every user who wants any, and compare with what is wanted.

    Recall is hits / |wanted|; the ideal gain is that of min(K, |wanted|) hits in front (He et al. 2020, as LightGCN
    evaluates).

    Args:
        score: Positions of users, shape (n,), to scores of all items, shape (n, items).
        seen: `csr_array` (users, items): not to be recommended again, as they were learned.
        wanted: `csr_array` (users, items): what a good ranking has in front.
        k: Length of the list.

    Raises:
        ValueError: Nobody wants anything.
    """
    counts = np.diff(wanted.indptr)
    users = torch.from_numpy(np.flatnonzero(counts))
    if not len(users):
        raise ValueError("no user has an interaction to be ranked")
    recall = ndcg = 0.0
    discounts = 1.0 / torch.log2(torch.arange(min(k, wanted.shape[1]), dtype=torch.float64) + 2.0)
    ideal = discounts.cumsum(0)
    for chunk in torch.split(users, max(1, _SCORES // wanted.shape[1])):
        rows = chunk.numpy()
        top = top_items(score(chunk), seen[rows], k)
        hits = torch.from_numpy(wanted[rows].toarray() > 0).gather(1, top).to(torch.float64)  # (n, k)
        many = torch.from_numpy(counts[rows]).to(torch.int64)
        recall += float((hits.sum(1) / many).sum())
        ndcg += float(((hits * discounts).sum(1) / ideal[many.clamp(max=len(ideal)) - 1]).sum())
    return RankingQuality(recall / len(users), ndcg / len(users), len(users))


def top_items(scores: Tensor, seen: Any, k: int) -> Tensor:
    """Return each user's best items, best first.

    Args:
        scores: Shape (n, items).
        seen: `csr_array` (n, items) of what is left out while anything else is there.
        k: How many; fewer where there are not so many items.

    Returns:
        Shape (n, min(k, items)), int64.
    """
    taken = seen.tocoo()
    masked = scores.clone()
    masked[torch.from_numpy(taken.row).long(), torch.from_numpy(taken.col).long()] = -torch.inf
    return masked.topk(min(k, scores.shape[1]), dim=1).indices
