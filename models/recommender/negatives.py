"""Drawing items that a user has not taken, for many users at once and without a loop or a second try.

A user who has taken the items t_0 < t_1 < … of M has left M - m others. The r-th of these (from 0) is r + k, where k
counts the t_j with t_j - j ≤ r: so many taken items stand before it. As t_j - j never falls, k is found by bisection,
and for all users together in one sorted array of keys, user by user.
"""

import torch
from torch import Tensor

from models.recommender.interaction_graph import InteractionGraph


class NegativeSampler:
    """Draws uniformly among the items that each user has not taken.

    Attributes:
        remaining: Shape (users,), int64: how many items each user has not taken.
    """

    def __init__(self, graph: InteractionGraph) -> None:
        """Sort the edges' keys, once for all draws."""
        self._span = graph.items + 1
        self.remaining = graph.items - graph.user_degrees
        keys = (graph.user_index * self._span + graph.item_index).sort().values
        self._starts = graph.user_degrees.cumsum(0) - graph.user_degrees
        place = torch.arange(len(keys)) - self._starts[keys // self._span]
        self._keys = keys - place

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one item for each entry of `users`.

        Args:
            users: Shape (n,), int64; each must have an item left (`remaining`).
            generator: Uniform numbers come from here, one for each entry.

        Returns:
            Items, shape (n,), int64.

        Raises:
            ValueError: A user has taken every item.
        """
        left = self.remaining[users]
        if len(left) and int(left.min()) < 1:
            raise ValueError("a user who has taken every item has no negatives")
        uniform = torch.rand(len(users), generator=generator, dtype=torch.float64)
        # A number just below one may be rounded up to the count itself.
        rank = torch.minimum((uniform * left).to(torch.int64), left - 1)
        before = torch.searchsorted(self._keys, users * self._span + rank, right=True) - self._starts[users]
        return rank + before
