"""UnlearnRec's Influence Encoder: from a request's edges to a change of the embeddings of their ends.

The forgotten pairs are a bipartite graph of their own, normalised by its own degrees, Ã. From learned states H⁰ of all
users and items come S = Σ_{l=1..L} Ã^l H⁰, from the model's final embeddings W = Ã^L E, and the change is
ΔE = MLP(S - 0.1 W). Paper: "Pre-training for Recommendation Unlearning" (SIGIR 2025), arXiv 2505.22649, section 3.2.

Deviations: H⁰ itself is left out of the sum and the MLP has no biases, so that nobody outside a request is moved, and an
empty request moves nothing; with both, every request moved every node. The weights r of W are 1. What a request does
not name is not computed. Where it is known how far each pair has to come, W is weighted by it (`changes`).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.recommender.interaction_graph import InteractionGraph

RESIDUAL = 0.1
"""Share of the propagated embeddings that is taken off the states; the paper's."""


@dataclass(frozen=True)
class Request:
    """Forgotten pairs as a graph of their own.

    Attributes:
        users: Shape (a,): the model's users that are named, ascending.
        items: Shape (b,): the model's items that are named, ascending.
        graph: The pairs among them, by their place in `users` and `items`.
    """

    users: Tensor
    items: Tensor
    graph: InteractionGraph

    @classmethod
    def of(cls, pairs: Tensor) -> "Request":
        """Number the ends of the pairs, shape (2, n), anew."""
        users, user_index = torch.unique(pairs[0], return_inverse=True)
        items, item_index = torch.unique(pairs[1], return_inverse=True)
        return cls(users, items, InteractionGraph(len(users), len(items), user_index, item_index))


@dataclass(frozen=True)
class InfluenceEncoder:
    """The encoder's weights. Whoever pre-trains it makes them leaves.

    Attributes:
        layers: L, steps of message passing over the request.
        user_states: H⁰ of the model's users, shape (users, d), float32.
        item_states: H⁰ of the model's items, shape (items, d), float32.
        first: Shape (d, h): the MLP's first weights.
        second: Shape (h, d): its second weights, after a leaky ReLU.
    """

    layers: int
    user_states: Tensor
    item_states: Tensor
    first: Tensor
    second: Tensor

    def changes(
        self, request: Request, users: Tensor, items: Tensor, excess: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Propose changes of the initial embeddings of a request's users and items; gradients flow to the weights.

        Args:
            request: The forgotten pairs.
            users: Final embeddings of the model's users, shape (users, d).
            items: Final embeddings of the model's items, shape (items, d).
            excess: How far each pair's score is above where it should come to, shape (n,). With it W is the sum of
                the other ends' embeddings weighted by it: the direction in which the squared excess grows fastest,
                which the MLP learns to turn into a step. Without it W is the published Ã^L E.

        Returns:
            Shapes (a, d) and (b, d), rows as in `request.users` and `request.items`.
        """
        states = self.user_states[request.users], self.item_states[request.items]
        reached = users[request.users], items[request.items]
        summed = torch.zeros_like(states[0]), torch.zeros_like(states[1])
        for _ in range(self.layers):
            states = request.graph.step(*states)
            summed = summed[0] + states[0], summed[1] + states[1]
        if excess is None:
            for _ in range(self.layers):
                reached = request.graph.step(*reached)
        else:
            reached = _weighted_sums(request.graph, *reached, excess)
        return self._mlp(summed[0] - RESIDUAL * reached[0]), self._mlp(summed[1] - RESIDUAL * reached[1])

    def narrowed(self, users: Tensor, items: Tensor) -> "InfluenceEncoder":
        """Keep the states of some users and items, by their positions."""
        return replace(self, user_states=self.user_states[users], item_states=self.item_states[items])

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return {
            "user_states": self.user_states,
            "item_states": self.item_states,
            "first": self.first,
            "second": self.second,
        }

    def _mlp(self, inputs: Tensor) -> Tensor:
        return functional.leaky_relu(inputs @ self.first, 0.2) @ self.second


def _weighted_sums(
    graph: InteractionGraph, users: Tensor, items: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Add up the other ends' embeddings, each times its pair's weight, shape (n,); shapes stay."""
    to_users, to_items = items[graph.item_index], users[graph.user_index]
    return (
        torch.zeros_like(users).index_add(0, graph.user_index, weights[:, None] * to_users),
        torch.zeros_like(items).index_add(0, graph.item_index, weights[:, None] * to_items),
    )


def draw_encoder(
    users: int, items: int, width: int, layers: int, generator: torch.Generator
) -> InfluenceEncoder:
    """Draw first weights: small states, and an MLP that proposes nothing yet.

    Its first layer passes each coordinate with either sign, at the scale of the embeddings, so that the second can
    learn any linear map of them at once: what takes a trace off is nearly one.
    """
    eye = torch.eye(width) / RESIDUAL
    return InfluenceEncoder(
        layers,
        torch.randn(users, width, generator=generator) * 0.01,
        torch.randn(items, width, generator=generator) * 0.01,
        torch.cat([eye, -eye], dim=1),
        torch.zeros(2 * width, width),
    )
