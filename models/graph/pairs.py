"""Inner products of pairs of rows, in bounded memory however many pairs there are."""

from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 12
"""Pairs at a time: with embeddings of width 64, a copy of 1 MiB of either end's rows, which stays in the core's cache."""


def pair_products(embeddings: Tensor, pairs: Tensor) -> Tensor:
    """Return the inner product of each pair's embeddings: shape (n, d), (2, m) -> (m,).

    Neither forwards nor backwards are all pairs' embeddings in memory at once: for ten million edges and as many pairs
    without one they would be 10 GB, twice.
    """
    products: Tensor = _PairProducts.apply(embeddings, pairs)  # type: ignore[no-untyped-call]
    return products


class _PairProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(embeddings, pairs)
        chunks = [
            torch.linalg.vecdot(*(embeddings.index_select(0, ends) for ends in chunk))
            for chunk in torch.split(pairs, CHUNK, dim=1)
        ]
        return torch.cat(chunks)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        embeddings, pairs = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _slope(embeddings, pairs, gradient), None
        total = torch.zeros_like(embeddings)
        for chunk, slopes in zip(torch.split(pairs, CHUNK, dim=1), torch.split(gradient, CHUNK), strict=True):
            for near, far in (chunk, chunk.flip(0)):
                total.index_add_(0, near, embeddings.index_select(0, far) * slopes[:, None])
        return total, None


def _slope(embeddings: Tensor, pairs: Tensor, gradient: Tensor) -> Tensor:
    """Return the same gradient in a form that can be differentiated again."""
    first, second = pairs
    into_first = embeddings.index_select(0, second) * gradient[:, None]
    into_second = embeddings.index_select(0, first) * gradient[:, None]
    return torch.zeros_like(embeddings).index_add(0, first, into_first).index_add(0, second, into_second)
