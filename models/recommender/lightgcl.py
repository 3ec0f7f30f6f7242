"""LightGCL: message passing that also agrees with what the graph's leading singular vectors say.

Beside the embeddings of the graph itself stand those of its low-rank approximation, which sees every user's place in
the whole; a contrastive loss wants both views of a user (or item) alike and those of different ones apart. Paper: Cai
et al., "LightGCL" (ICLR 2023), arXiv 2302.08191, equations (1) to (11). As in the paper's later code
(github.com/HKUDS/LightGCL), layers have no activation and embeddings are sums over all layers, the initial ones among
them. Deviations: no edges are dropped at random (the published rate for most data is 0), cosines instead of clamped
inner products in the contrast, as the paper writes them, a bound on how many users and items of a batch are contrasted, and larger steps by default.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse.linalg import svds
from torch import Tensor
from torch.nn import functional

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.negatives import NegativeSampler
from models.recommender.neural_configuration import LightGclRecipe
from models.recommender.objectives import at_most, bpr_of


@dataclass(frozen=True)
class LightGcl:
    """LightGCL on one graph (`models.recommender.objectives.Objective`)."""

    recipe: LightGclRecipe
    graph: InteractionGraph

    @cached_property
    def _negatives(self) -> NegativeSampler:
        return NegativeSampler(self.graph)

    @cached_property
    def _low_rank(self) -> tuple[Tensor, Tensor]:
        """U√S and V√S of the normalised matrix, shapes (users, rank) and (items, rank), float32."""
        return low_rank(self.graph, self.recipe.rank)

    def embed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the layers, the initial embeddings among them; shapes stay."""
        return self._views(users, items)[0]

    def loss(
        self, users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Add the ranking loss, the contrast of both views, and the penalty on all embeddings."""
        negatives = self._negatives.draw(batch[0], generator)
        local, broad = self._views(users, items, self._low_rank)
        ranking = bpr_of(local, batch, negatives)
        named = [
            at_most(torch.unique(side), self.recipe.contrast_rows, generator)
            for side in (batch[0], torch.cat([batch[1], negatives]))
        ]
        contrast = sum(
            contrast_with_all(one, two, rows, self.recipe.temperature)
            for one, two, rows in zip(local, broad, named, strict=True)
        )
        penalty = users.square().sum() + items.square().sum()
        return ranking + self.recipe.contrast_weight * contrast + self.recipe.weight_decay * penalty

    def _views(
        self, users: Tensor, items: Tensor, factors: tuple[Tensor, Tensor] | None = None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return users' and items' sums over the layers, by the graph and by its approximation."""
        local, broad = (users, items), (users, items)
        for _ in range(self.recipe.layers):
            if factors is not None:
                left, right = factors
                broad = broad[0] + left @ (right.T @ items), broad[1] + right @ (left.T @ users)
            users, items = self.graph.step(users, items)
            local = local[0] + users, local[1] + items
        return local, broad


def contrast_with_all(view: Tensor, other: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """Contrast the named rows of one view with all of the other: equation (8).

    The mean of -s_nn/τ + log Σ_m exp(s_nm/τ), s the cosine of row n of `other` and row m of `view`.

    Args:
        view: The graph's embeddings, shape (n, d).
        other: Those of the approximation, shape (n, d).
        rows: Positions that a batch names, shape (b,).
        temperature: τ.

    Returns:
        A scalar.

    >>> round(contrast_with_all(torch.eye(2), torch.eye(2), torch.tensor([0]), 1.0).item(), 6)  # log(1 + 1/e)
    0.313262
    """
    cosines = functional.normalize(other[rows]) @ functional.normalize(view).T  # (b, n)
    return functional.cross_entropy(cosines / temperature, rows)


def low_rank(graph: InteractionGraph, rank: int) -> tuple[Tensor, Tensor]:
    """Return U√S and V√S of the leading singular triples: (users, rank) and (items, rank), float32.

    The starting vector is fixed, so that equal graphs give equal factors.

    Raises:
        ValueError: The graph is too small for the rank.
    """
    least = min(graph.users, graph.items)
    if rank >= least:
        raise ValueError(
            f"a graph of {graph.users} users and {graph.items} items has no rank beyond {least - 1}"
        )
    start = np.ones(least) / np.sqrt(least)
    left, singular, right = svds(graph.to_users.astype(np.float64), k=rank, v0=start)
    roots = np.sqrt(singular)
    return (
        torch.from_numpy((left * roots).astype(np.float32)),
        torch.from_numpy((right.T * roots).astype(np.float32)),
    )
