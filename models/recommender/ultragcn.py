"""UltraGCN: no message passing; constraints stand for its limit after infinitely many layers.

Every interaction is a term of a cross-entropy, weighted by how much the limit of LightGCN's propagation would make of
it, and users are drawn to the items most similar to theirs. Paper: Mao et al., "UltraGCN" (CIKM 2021),
arXiv 2110.15114: β of equation (10), the user-item constraint (9), the item-item constraint (13) to (16), the sum
(17). As in github.com/xue-pai/UltraGCN, negatives count by their mean times a weight, they are drawn from all items,
and all embeddings are penalised in each step. Deviation: the negatives of a step are one pool for all its
interactions instead of one draw for each. The expectation is the same, and the scores become one product of matrices.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.neural_configuration import UltraGcnRecipe


@dataclass(frozen=True)
class UltraGcn:
    """UltraGCN on one graph (`models.recommender.objectives.Objective`)."""

    recipe: UltraGcnRecipe
    graph: InteractionGraph

    def embed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings as they are: no message is passed."""
        return users, items

    def loss(
        self, users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Add up the constrained cross-entropy, the item-item constraint and the penalty over a batch."""
        recipe = self.recipe
        pool = torch.randint(self.graph.items, (recipe.negatives,), generator=generator)
        anchors = users[batch[0]]  # (n, d)
        positive = (anchors * items[batch[1]]).sum(dim=1)  # (n,)
        negative = anchors @ items[pool].T  # (n, negatives)
        taken = self._weights(batch[0], batch[1]) * functional.softplus(-positive)
        others = self._weights(batch[0][:, None], pool[None, :]) * functional.softplus(negative)
        penalty = (users.square().sum() + items.square().sum()) / 2
        return (
            taken.sum()
            + recipe.negative_weight * others.mean(dim=1).sum()
            + recipe.item_weight * self._item_constraint(anchors, items, batch[1])
            + recipe.weight_decay * penalty
        )

    @cached_property
    def _user_factor(self) -> Tensor:
        """√(d_u + 1) / d_u, shape (users,), float32; 0 where a user has nothing."""
        degrees = self.graph.user_degrees.to(torch.float64)
        return ((degrees + 1).sqrt() / degrees.clamp(min=1) * (degrees > 0)).to(torch.float32)

    @cached_property
    def _item_factor(self) -> Tensor:
        """1 / √(d_i + 1), shape (items,), float32."""
        return (self.graph.item_degrees.to(torch.float64) + 1).rsqrt().to(torch.float32)

    def _weights(self, users: Tensor, items: Tensor) -> Tensor:
        """Return base + λ β of pairs, β = √(d_u + 1) / (d_u √(d_i + 1)), in the shape users and items broadcast to."""
        beta = self._user_factor[users] * self._item_factor[items]
        return self.recipe.base_weight + self.recipe.constraint_weight * beta

    def _item_constraint(self, anchors: Tensor, items: Tensor, taken: Tensor) -> Tensor:
        """Return -Σ ω_ij log sigmoid(e_u · e_j) over the items j most similar to the taken ones i."""
        neighbours, similarity = self._similar
        near = items[neighbours[taken]]  # (n, k, d)
        scores = torch.einsum("nd,nkd->nk", anchors, near)
        return (similarity[taken] * functional.softplus(-scores)).sum()

    @cached_property
    def _similar(self) -> tuple[Tensor, Tensor]:
        """Return each item's most similar items and their ω, both of shape (items, k)."""
        return similar_items(self.graph, self.recipe.item_neighbours)


def similar_items(graph: InteractionGraph, k: int) -> tuple[Tensor, Tensor]:
    """Find the k items that most often go with each item, by ω_ij = G_ij / (g_i - G_ii) · √(g_i / g_j).

    G = AᵀA counts users in common, g_i = Σ_k G_ik; equation (14). An item is not its own neighbour. Where there are
    fewer than k, ω is 0 in the places left over.

    Args:
        graph: Who has taken what.
        k: At most so many; fewer where there are not so many items.

    Returns:
        Item positions, int64, and ω, float32, both of shape (items, min(k, items)).
    """
    common = (graph.matrix.T @ graph.matrix).tocsr()
    own = common.diagonal()
    sums = np.asarray(common.sum(axis=1)).ravel()
    roots = np.sqrt(np.maximum(sums, 1.0))
    k = min(k, graph.items)
    places = torch.zeros(graph.items, k, dtype=torch.int64)
    weights = torch.zeros(graph.items, k)
    for item in range(graph.items):
        span = slice(common.indptr[item], common.indptr[item + 1])
        others = common.indices[span]
        strength = common.data[span] / roots[others]
        strength[others == item] = 0.0
        best = np.argsort(-strength, kind="stable")[:k]
        places[item, : len(best)] = torch.from_numpy(others[best].astype(np.int64))
        beyond = max(float(sums[item] - own[item]), 1.0)
        weights[item, : len(best)] = torch.from_numpy(strength[best] * roots[item] / beyond)
    return places, weights
