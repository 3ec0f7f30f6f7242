"""LightGCN: the mean of the embeddings after zero to L steps of plain message passing.

Neither weights nor nonlinearities: all that is learned are the initial embeddings. Paper: He et al., "LightGCN"
(SIGIR 2020), arXiv 2002.02126, equations (3) to (8) with α_k = 1/(L + 1), and the ranking loss (15) with the penalty
as in github.com/gusye1234/LightGCN-PyTorch at 947ca2b. Deviation: larger batches and steps by default, since every
batch costs a propagation of the whole graph.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.negatives import NegativeSampler
from models.recommender.neural_configuration import LightGcnRecipe
from models.recommender.objectives import batch_penalty, bpr_of, layer_sum


@dataclass(frozen=True)
class LightGcn:
    """LightGCN on one graph (`models.recommender.objectives.Objective`)."""

    recipe: LightGcnRecipe
    graph: InteractionGraph

    @cached_property
    def _negatives(self) -> NegativeSampler:
        return NegativeSampler(self.graph)

    def embed(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Average over the layers, the initial embeddings among them; shapes stay."""
        layers = self.recipe.layers
        total_users, total_items = layer_sum(self.graph, users, items, layers)
        return total_users / (layers + 1), total_items / (layers + 1)

    def loss(
        self, users: Tensor, items: Tensor, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Rank interactions before drawn negatives, and keep the initial embeddings short."""
        negatives = self._negatives.draw(batch[0], generator)
        ranking = bpr_of(self.embed(users, items), batch, negatives)
        return ranking + self.recipe.weight_decay * batch_penalty(users, items, batch, negatives)
