"""Pairs of nodes without an edge, drawn at random: what link prediction learns to tell edges from."""

import math

import torch
from torch import Tensor


class NegativeSampler:
    """Draws ordered or unordered pairs of distinct nodes that are not among some positive ones.

    Each pair has a number, and the positives' numbers are sorted once: whether a draw is one of them is then a binary
    search, and a million pairs take a fraction of a second.
    """

    def __init__(self, positives: Tensor, nodes: int, *, directed: bool) -> None:
        """Sort the pairs never to draw.

        Args:
            positives: Shape (2, e), in either order if undirected.
            nodes: Number of nodes.
            directed: Whether (u, v) and (v, u) are two pairs.

        Raises:
            ValueError: Every pair of nodes is a positive one.
        """
        self._nodes, self._directed = nodes, directed
        keys = self._numbered(positives[:, positives[0] != positives[1]]).sort().values
        self._keys = keys[keys.diff(prepend=keys.new_full((1,), -1)) > 0]
        pairs = nodes * (nodes - 1) if directed else nodes * (nodes - 1) // 2
        self._free = 1.0 - len(self._keys) / pairs if pairs else 0.0
        if self._free <= 0.0:
            raise ValueError("every pair of nodes has an edge: there are no negative examples to learn from")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw pairs, independently of each other: shape (2, count). Undirected ones have the smaller end first."""
        found: list[Tensor] = []
        missing = count
        while missing > 0:
            drawn = self._draw(math.ceil(1.1 * missing / self._free) + 8, generator)[:, :missing]
            found.append(drawn)
            missing -= drawn.shape[1]
        return torch.cat(found, dim=1) if found else torch.empty(2, 0, dtype=torch.int64)

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw pairs and keep those that are no positives."""
        first = torch.randint(self._nodes, (count,), generator=generator)
        # An offset other than 0 makes the second end any node but the first, each as likely as the others.
        offset = torch.randint(1, self._nodes, (count,), generator=generator)
        pairs = torch.stack([first, (first + offset) % self._nodes])
        if not self._directed:
            pairs = pairs.sort(dim=0).values
        numbers = self._numbered(pairs)
        if not len(self._keys):
            return pairs
        place = torch.searchsorted(self._keys, numbers).clamp_(max=len(self._keys) - 1)
        return pairs[:, self._keys[place] != numbers]

    def _numbered(self, pairs: Tensor) -> Tensor:
        first, second = pairs if self._directed else pairs.sort(dim=0).values
        numbers: Tensor = first * self._nodes + second
        return numbers
