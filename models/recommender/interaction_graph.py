"""The bipartite graph of users and items, and one step of message passing over it.

Messages go along the symmetrically normalised adjacency matrix: an edge of a user with m items and an item with n
users weighs 1/√(mn). Both directions are kept as compressed rows, so that a step and its derivative are each two
products that read memory in order.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.recommender.data import RecommenderData


@dataclass(frozen=True)
class InteractionGraph:
    """Users and items, and who has taken what.

    Attributes:
        users: Number of users.
        items: Number of items.
        user_index: Shape (n,), int64: the user of each edge.
        item_index: Shape (n,), int64: the item of each edge.
    """

    users: int
    items: int
    user_index: Tensor
    item_index: Tensor

    @classmethod
    def of(cls, data: RecommenderData, users: tuple[str, ...], items: tuple[str, ...]) -> "InteractionGraph":
        """Take the training interactions of `data` as edges between a model's users and items.

        Raises:
            ValueError: A training interaction is of a user or an item that the model does not know.
        """
        known = data.training()
        user_index = among(data.users, users)[known.user_index]
        item_index = among(data.items, items)[known.item_index]
        strange = int(((user_index < 0) | (item_index < 0)).sum())
        if strange:
            raise ValueError(
                f"{strange} training interactions are of users or items that the model does not know"
            )
        return cls(len(users), len(items), user_index, item_index)

    def __len__(self) -> int:
        return len(self.user_index)

    @cached_property
    def user_degrees(self) -> Tensor:
        """Items of each user, shape (users,), int64."""
        return torch.bincount(self.user_index, minlength=self.users)

    @cached_property
    def item_degrees(self) -> Tensor:
        """Users of each item, shape (items,), int64."""
        return torch.bincount(self.item_index, minlength=self.items)

    @cached_property
    def matrix(self) -> Any:
        """The edges as ones: `scipy.sparse.csr_array`, (users, items), float32."""
        ones = np.ones(len(self), dtype=np.float32)
        return csr_array(
            (ones, (self.user_index.numpy(), self.item_index.numpy())), shape=(self.users, self.items)
        )

    @cached_property
    def to_users(self) -> Any:
        """Weights of the messages that users receive: `scipy.sparse.csr_array`, (users, items), float32."""
        degrees = self.user_degrees[self.user_index] * self.item_degrees[self.item_index]
        weights = degrees.to(torch.float64).rsqrt().to(torch.float32)
        matrix = csr_array(
            (weights.numpy(), (self.user_index.numpy(), self.item_index.numpy())),
            shape=(self.users, self.items),
        )
        matrix.sort_indices()
        return matrix

    @cached_property
    def to_items(self) -> Any:
        """Weights of the messages that items receive: `scipy.sparse.csr_array`, (items, users), float32."""
        matrix = self.to_users.T.tocsr()
        matrix.sort_indices()
        return matrix

    def step(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Let every node receive its neighbours' embeddings; gradients flow.

        Args:
            users: Shape (users, d), float32.
            items: Shape (items, d), float32.

        Returns:
            Of the same shapes; zero for nodes without edges.
        """
        return (
            sparse_product(items, self.to_users, self.to_items),
            sparse_product(users, self.to_items, self.to_users),
        )


def sparse_product(dense: Tensor, matrix: Any, transposed: Any) -> Tensor:
    """Multiply a sparse matrix with a dense one: (n, m) sparse and (m, d) -> (n, d); gradients flow to `dense`.

    Args:
        dense: Shape (m, d), float32.
        matrix: `csr_array` of shape (n, m).
        transposed: Its transpose as `csr_array`, for the derivative.
    """
    product: Tensor = _SparseProduct.apply(dense, matrix, transposed)  # type: ignore[no-untyped-call]
    return product


class _SparseProduct(torch.autograd.Function):
    """SciPy's product: on one core as fast as torch's, whose compressed rows are still declared experimental."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Any, transposed: Any) -> Tensor:
        ctx.transposed = transposed
        return torch.from_numpy(matrix @ dense.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return torch.from_numpy(ctx.transposed @ gradients[0].numpy()), None, None


def among(names: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Return the place of each name among the known ones, -1 for a stranger: shape (names,), int64."""
    if names is known:
        return torch.arange(len(names))
    places = {name: place for place, name in enumerate(known)}
    return torch.tensor([places.get(name, -1) for name in names], dtype=torch.int64)


def pair_matrix(data: RecommenderData, users: tuple[str, ...], items: tuple[str, ...]) -> Any:
    """Return all interactions of `data` between known users and items, ones in a `csr_array` (users, items), float32.

    Those of strangers are left out: nobody can rank them.
    """
    rows, columns = among(data.users, users)[data.user_index], among(data.items, items)[data.item_index]
    known = (rows >= 0) & (columns >= 0)
    ones = np.ones(int(known.sum()), dtype=np.float32)
    return csr_array((ones, (rows[known].numpy(), columns[known].numpy())), shape=(len(users), len(items)))
