"""A recommender's interactions in memory."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.holdout import in_audit_half
from models.recommender.pairs import interaction_id, parse_interaction_id
from models.recommender.records import HOLDOUT, read_interactions


@dataclass(frozen=True)
class RecommenderData:
    """Interactions, training and held out. Never changed in place: selections are new objects.

    One interaction is one record: that a user has taken an item. No pair is here twice.

    Users and items are sorted by their ids as text, so that who else is in the data decides nothing about anybody's
    place among the others: taking records away and never having had them leave the same order. Every selection keeps
    the tables of users and items as they are, so that positions mean the same in all selections of one snapshot;
    `learned` alone narrows them.

    Attributes:
        users: Every user of the snapshot, sorted as text.
        items: Every item of the snapshot, sorted as text.
        user_index: Shape (n,), int64 positions in `users`.
        item_index: Shape (n,), int64 positions in `items`.
        timestamps: Shape (n,), float64 seconds, or None where the source has none. Nothing learns them.
        held_out: Shape (n,), bool: True for an interaction that no model learns.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    user_index: Tensor
    item_index: Tensor
    timestamps: Tensor | None
    held_out: Tensor

    def __len__(self) -> int:
        return len(self.user_index)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The interactions' record ids, in their order."""
        pairs = zip(self.user_index.tolist(), self.item_index.tolist(), strict=True)
        return tuple(interaction_id(self.users[user], self.items[item]) for user, item in pairs)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each record id."""
        return {record_id: position for position, record_id in enumerate(self.ids)}

    @cached_property
    def user_positions(self) -> dict[str, int]:
        """Position of each user in `users`."""
        return {user: position for position, user in enumerate(self.users)}

    @cached_property
    def item_positions(self) -> dict[str, int]:
        """Position of each item in `items`."""
        return {item: position for position, item in enumerate(self.items)}

    def missing(self, record_ids: Iterable[str]) -> list[str]:
        """Return those record ids that are not here."""
        record_ids = list(record_ids)
        here = torch.isin(self._wanted(record_ids), self._keys).tolist()
        return [record_id for record_id, there in zip(record_ids, here, strict=True) if not there]

    def only(self, record_ids: Iterable[str]) -> "RecommenderData":
        """Return these interactions, in the order in which they stand here; ids not here are ignored."""
        return self.select(self._mask(record_ids))

    def without(self, record_ids: Iterable[str]) -> "RecommenderData":
        """Return all other interactions; ids not here are ignored. The tables keep whom nothing is left of."""
        return self.select(~self._mask(record_ids))

    def training(self) -> "RecommenderData":
        """Return the interactions that a model learns."""
        return self.select(~self.held_out)

    def calibration(self) -> "RecommenderData":
        """Return the half of the held-out interactions that methods may use as target and stopping rule."""
        return self.select(self.held_out & ~self._audited)

    def audit(self) -> "RecommenderData":
        """Return the half of the held-out interactions that no method ever receives."""
        return self.select(self.held_out & self._audited)

    def for_methods(self) -> "RecommenderData":
        """Return everything but the audit half."""
        return self.select(~(self.held_out & self._audited))

    def learned(self) -> "RecommenderData":
        """Return the training interactions with the tables that a model trained on them has.

        Users and items without a training interaction are not in them: a model that never learned of somebody does
        not know the name either, and a model that has forgotten somebody must not know it any more.
        """
        known = self.training()
        user_taken = torch.zeros(len(self.users), dtype=torch.bool).index_fill_(0, known.user_index, True)
        item_taken = torch.zeros(len(self.items), dtype=torch.bool).index_fill_(0, known.item_index, True)
        return replace(
            known,
            users=tuple(compress(self.users, user_taken.tolist())),
            items=tuple(compress(self.items, item_taken.tolist())),
            user_index=(user_taken.cumsum(0) - 1)[known.user_index],
            item_index=(item_taken.cumsum(0) - 1)[known.item_index],
        )

    def training_digest(self) -> str:
        """Return the SHA-256 of everything that training depends on: what it learns, and what tells it when to stop.

        The order counts, because stochastic training visits records by their place. Times do not: none learns them.
        """
        described = [self.training().ids, self.calibration().ids]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def changes_to(self, target: "RecommenderData") -> tuple["RecommenderData", "RecommenderData"]:
        """Compare training interactions with those of `target`.

        Returns:
            Interactions of this object to unlearn, and interactions of `target` to learn.
        """
        mine, theirs = self.training(), target.training()
        return mine.without(theirs.ids), theirs.without(mine.ids)

    def matrix(self) -> Any:
        """Return the training interactions as a sparse matrix of ones.

        Returns:
            A `scipy.sparse.csr_array` of shape (users, items), float64, columns sorted within each row.
        """
        known = self.training()
        matrix = csr_array(
            (
                np.ones(len(known)),
                (known.user_index.numpy(), known.item_index.numpy()),
            ),
            shape=(len(self.users), len(self.items)),
        )
        matrix.sort_indices()
        return matrix

    def select(self, mask: Tensor) -> "RecommenderData":
        """Return the interactions where `mask`, shape (n,) and bool, is True; the tables stay."""
        return replace(
            self,
            user_index=self.user_index[mask],
            item_index=self.item_index[mask],
            timestamps=None if self.timestamps is None else self.timestamps[mask],
            held_out=self.held_out[mask],
        )

    @cached_property
    def _audited(self) -> Tensor:
        """True for held-out interactions of the audit half, shape (n,)."""
        audited = torch.zeros(len(self), dtype=torch.bool)
        # Only the held-out ones are hashed, so only their ids are written down.
        audited[self.held_out] = torch.tensor(
            [in_audit_half(record_id) for record_id in self.select(self.held_out).ids], dtype=torch.bool
        )
        return audited

    def _mask(self, record_ids: Iterable[str]) -> Tensor:
        return torch.isin(self._keys, self._wanted(record_ids))

    @cached_property
    def _keys(self) -> Tensor:
        """One number for each interaction, shape (n,): a selection is then told without writing down any ids."""
        return self.user_index * len(self.items) + self.item_index

    def _wanted(self, record_ids: Iterable[str]) -> Tensor:
        """Return the numbers of record ids; -1 for one whose user or item is not in the tables."""
        return torch.tensor([self._key(record_id) for record_id in record_ids], dtype=torch.int64)

    def _key(self, record_id: str) -> int:
        try:
            user, item = parse_interaction_id(record_id)
        except ValueError:
            return -1
        row, column = bisect_left(self.users, user), bisect_left(self.items, item)
        known = self.users[row : row + 1] == (user,) and self.items[column : column + 1] == (item,)
        return row * len(self.items) + column if known else -1


def load_data(directory: Path) -> RecommenderData:
    """Load a snapshot directory.

    Raises:
        DatasetError: It is not a snapshot of interactions.
    """
    found = read_interactions(directory)
    return RecommenderData(
        users=found.users,
        items=found.items,
        user_index=torch.from_numpy(found.user_index),
        item_index=torch.from_numpy(found.item_index),
        timestamps=None if found.timestamps is None else torch.from_numpy(found.timestamps),
        held_out=torch.from_numpy(found.split == HOLDOUT),
    )
