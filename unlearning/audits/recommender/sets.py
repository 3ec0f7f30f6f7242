"""Which users, items and pairs a recommender's audit looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.contracts import ForgetSet
from models.recommender.data import RecommenderData
from unlearning.audits.evidence import RETAINED_AT_MOST, Records

NEGATIVES_SEED = 9_000_000
"""Seed of the pairs that nobody took: the same for every model and every audit of the same data."""
NEGATIVES_PER_PAIR = 5


@dataclass(frozen=True)
class Pairs:
    """Users with an item each, by their positions in the tables of the audit's `Ground`.

    Attributes:
        users: Shape (n,), int64.
        items: Shape (n,), int64.
    """

    users: Tensor
    items: Tensor

    def __len__(self) -> int:
        return len(self.users)


class Ground:
    """What remains of the data, and the users and items that every model of an audit knows.

    Attributes:
        retained: The data less what was forgotten, held-out interactions included; what every model reads histories from.
        known: The training interactions of it, with the tables that a model trained on them has. All positions of an audit
            are in these tables: whoever else the original knows, the others cannot be asked about.
        forgotten: Training interactions that were forgotten.
    """

    def __init__(self, data: RecommenderData, forget: ForgetSet) -> None:
        self.data = data
        self.retained = data.without(forget.record_ids)
        self.known = self.retained.learned()
        self.forgotten = data.only(forget.record_ids).training()

    @cached_property
    def wanted(self) -> Any:
        """Interactions of the audit half between known users and items: `csr_array` (users, items)."""
        return self._matrix(self.pairs_of(self.retained.audit()))

    @cached_property
    def taken(self) -> Any:
        """Training interactions that remain: `csr_array` (users, items)."""
        return self.known.matrix()

    @cached_property
    def taken_before(self) -> Any:
        """Training interactions that remain or were forgotten, between known users and items."""
        return self.taken + self._matrix(self.pairs_of(self.forgotten))

    @cached_property
    def evaluated(self) -> Tensor:
        """Users with a wanted item, shape (n,)."""
        return torch.from_numpy(np.flatnonzero(np.diff(self.wanted.indptr)))

    def pairs_of(self, data: RecommenderData) -> Pairs:
        """Return those interactions of `data` whose user and item are both known."""
        users = self.places(data.users, self.known.users)[data.user_index]
        items = self.places(data.items, self.known.items)[data.item_index]
        both = (users >= 0) & (items >= 0)
        return Pairs(users[both], items[both])

    @staticmethod
    def places(names: Sequence[str], table: Sequence[str]) -> Tensor:
        """Return each name's position in `table`, or -1, shape (names,)."""
        known = {name: place for place, name in enumerate(table)}
        return torch.tensor([known.get(name, -1) for name in names], dtype=torch.int64)

    def sets(self, seed: int) -> dict[Records, Pairs]:
        """Choose the pairs of an audit: forgotten ones that were learned, a sample of retained ones, held-out ones."""
        retained = Pairs(self.known.user_index, self.known.item_index)
        if len(retained) > RETAINED_AT_MOST:
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(len(retained), generator=generator)[:RETAINED_AT_MOST].sort().values
            retained = Pairs(retained.users[chosen], retained.items[chosen])
        return {
            Records.FORGOTTEN: self.pairs_of(self.forgotten),
            Records.RETAINED: retained,
            Records.NEVER_SEEN: self.pairs_of(self.retained.audit()),
        }

    def negatives(self, forgotten: Pairs, everything: Pairs) -> Pairs:
        """Draw, for each forgotten pair, items that its user has in no part of the data; a few may be left out.

        Args:
            forgotten: The pairs, users by any table.
            everything: All interactions before the forgetting, held-out ones included, users by the same table.
        """
        generator = torch.Generator().manual_seed(NEGATIVES_SEED)
        users = forgotten.users.repeat_interleave(NEGATIVES_PER_PAIR)
        items = torch.randint(len(self.known.items), (len(users),), generator=generator)
        size = len(self.known.items)
        strangers = ~torch.isin(users * size + items, everything.users * size + everything.items)
        return Pairs(users[strangers], items[strangers])

    def _matrix(self, pairs: Pairs) -> Any:
        shape = (len(self.known.users), len(self.known.items))
        matrix = csr_array((np.ones(len(pairs)), (pairs.users.numpy(), pairs.items.numpy())), shape)
        matrix.sort_indices()
        return matrix
