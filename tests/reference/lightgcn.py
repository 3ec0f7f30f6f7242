"""LightGCN as it is written straightforwardly: triples sampled in Python, the graph propagated for each small batch.

Like github.com/gusye1234/LightGCN-PyTorch at 947ca2b: one square adjacency matrix in coordinate form over users and
items together, a list of triples drawn with a Python loop and a set per user, batches of 2,048, autograd through the
sparse products, the penalty from gathered rows. Slow and obvious: the product's own training is compared with it.
"""

import random

import torch
from torch import Tensor


class StraightforwardLightGcn:
    def __init__(
        self,
        users: int,
        items: int,
        pairs: list[tuple[int, int]],
        *,
        width: int = 64,
        layers: int = 3,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 2048,
        seed: int = 0,
    ) -> None:
        self.users, self.items, self.pairs = users, items, pairs
        self.layers, self.weight_decay, self.batch_size = layers, weight_decay, batch_size
        self.random = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        self.user_embedding = (torch.randn(users, width, generator=generator) * 0.1).requires_grad_()
        self.item_embedding = (torch.randn(items, width, generator=generator) * 0.1).requires_grad_()
        self.optimizer = torch.optim.Adam([self.user_embedding, self.item_embedding], lr=learning_rate)
        self.taken: dict[int, set[int]] = {}
        for user, item in pairs:
            self.taken.setdefault(user, set()).add(item)
        self.adjacency = self.build_adjacency()

    def build_adjacency(self) -> Tensor:
        """D^-1/2 A D^-1/2 with A = [[0, R], [R^T, 0]], as a coalesced coordinate tensor."""
        rows = [user for user, _ in self.pairs] + [self.users + item for _, item in self.pairs]
        columns = [self.users + item for _, item in self.pairs] + [user for user, _ in self.pairs]
        degrees = torch.bincount(torch.tensor(rows), minlength=self.users + self.items).float()
        values = [
            float((degrees[row] * degrees[column]) ** -0.5) for row, column in zip(rows, columns, strict=True)
        ]
        size = (self.users + self.items,) * 2
        return torch.sparse_coo_tensor(
            torch.tensor([rows, columns]), torch.tensor(values), size, check_invariants=True
        ).coalesce()

    def propagate(self) -> tuple[Tensor, Tensor]:
        embedding = torch.cat([self.user_embedding, self.item_embedding])
        layers = [embedding]
        for _ in range(self.layers):
            embedding = torch.sparse.mm(self.adjacency, embedding)
            layers.append(embedding)
        final = torch.stack(layers, dim=1).mean(dim=1)
        return final[: self.users], final[self.users :]

    def sample(self) -> list[tuple[int, int, int]]:
        triples = []
        for _ in range(len(self.pairs)):
            user, item = self.pairs[self.random.randrange(len(self.pairs))]
            while True:
                negative = self.random.randrange(self.items)
                if negative not in self.taken[user]:
                    break
            triples.append((user, item, negative))
        return triples

    def loss(self, triples: list[tuple[int, int, int]]) -> Tensor:
        users, items, negatives = torch.tensor(triples).T
        all_users, all_items = self.propagate()
        positive_scores = (all_users[users] * all_items[items]).sum(dim=1)
        negative_scores = (all_users[users] * all_items[negatives]).sum(dim=1)
        ranking = torch.nn.functional.softplus(negative_scores - positive_scores).mean()
        penalty = (
            self.user_embedding[users].norm(2).pow(2)
            + self.item_embedding[items].norm(2).pow(2)
            + self.item_embedding[negatives].norm(2).pow(2)
        ) / (2 * len(triples))
        total: Tensor = ranking + self.weight_decay * penalty
        return total

    def epoch(self) -> float:
        """Sample the epoch's triples, then take a step for each batch; return the mean loss."""
        triples = self.sample()
        losses = []
        for start in range(0, len(triples), self.batch_size):
            loss = self.loss(triples[start : start + self.batch_size])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)
