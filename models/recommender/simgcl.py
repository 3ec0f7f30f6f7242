"""SimGCL: LightGCN whose embeddings also agree with themselves under noise, and spread evenly for it.

At each layer two views add to every embedding a random vector of fixed length in its own orthant; a contrastive loss
wants the two views of one user (or item) alike and those of different ones apart. Paper: Yu et al., "Are Graph
Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation" (SIGIR 2022), arXiv 2112.08679,
equations (7) to (9). As there, the initial embeddings are left out of the mean over the layers. Deviations: larger
steps by default, first embeddings of LightGCN's size (the noise has a length of its own, and would drown smaller ones
for hundreds of steps), and a bound on how many users and items of a batch are contrasted.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.negatives import NegativeSampler
from models.recommender.neural_configuration import SimGclRecipe
from models.recommender.objectives import at_most, batch_penalty, bpr_of, info_nce


@dataclass(frozen=True)
class SimGcl:
    """SimGCL on one graph (`models.recommender.objectives.Objective`)."""

    recipe: SimGclRecipe
    graph: InteractionGraph

    @cached_property
    def _negatives(self) -> NegativeSampler:
        return NegativeSampler(self.graph)

    def embed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Average over the layers 1 to L, without noise; shapes stay."""
        return self._mean(users, items, None)

    def loss(
        self, users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Add the ranking loss, the penalty, and the contrast of two noisy views of the batch's users and items."""
        negatives = self._negatives.draw(batch[0], generator)
        ranking = bpr_of(self.embed(users, items), batch, negatives)
        penalty = self.recipe.weight_decay * batch_penalty(users, items, batch, negatives)
        return (
            ranking + penalty + self.recipe.contrast_weight * self._contrast(users, items, batch, generator)
        )

    def _contrast(
        self, users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        view, other = self._mean(users, items, generator), self._mean(users, items, generator)
        named = [at_most(torch.unique(side), self.recipe.contrast_rows, generator) for side in batch]
        return torch.stack(
            [
                info_nce(one[rows], two[rows], self.recipe.temperature)
                for one, two, rows in zip(view, other, named, strict=True)
            ]
        ).sum()

    def _mean(self, users: Tensor, items: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Average over the layers 1 to L; with a generator each layer is perturbed before the next one reads it."""
        total_users, total_items = torch.zeros_like(users), torch.zeros_like(items)
        for _ in range(self.recipe.layers):
            users, items = self.graph.step(users, items)
            if generator is not None:
                users = perturbed(users, self.recipe.noise, generator)
                items = perturbed(items, self.recipe.noise, generator)
            total_users, total_items = total_users + users, total_items + items
        return total_users / self.recipe.layers, total_items / self.recipe.layers


def perturbed(embeddings: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Add to each row noise of the given length in the row's own orthant: shape (n, d) -> (n, d).

    Equation (7): ‖Δ‖ = ε, and Δ = X ⊙ sign(e) with X uniform, so that no coordinate changes its sign.
    """
    noise = torch.rand(embeddings.shape, generator=generator, dtype=embeddings.dtype)
    return embeddings + embeddings.detach().sign() * functional.normalize(noise) * length
