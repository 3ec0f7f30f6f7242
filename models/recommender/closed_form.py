"""What EASE and GF-CF share: tables of ids, users' histories as rows, and how a catalogue's changes are told."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.sparse import csr_array
from torch import Tensor

from models.errors import CheckpointError
from models.recommender.data import RecommenderData
from models.recommender.id_tables import pack_ids, unpack_ids
from models.recommender.pair_sums import PairSums

WEIGHTS_NAME = "model.safetensors"

TABLES = ("users.text", "users.ends", "items.text", "items.ends")
PAIRS = ("pairs.keys", "pairs.values")

Positions = npt.NDArray[np.int64]
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Change:
    """How some users' histories change from one data set to another, over the items of either.

    Attributes:
        items: The items of both, sorted as text.
        before: Shape (items before,), ascending: where each item of the data before stands in `items`.
        after: Shape (items after,), ascending: where each item of the data after stands in `items`.
        removed: `csr_array` (users, items): histories of the changed users before; empty rows are left out.
        added: `csr_array` (users, items): histories of the changed users after; empty rows are left out.
    """

    items: tuple[str, ...]
    before: Positions
    after: Positions
    removed: Any
    added: Any

    @classmethod
    def between(cls, before: RecommenderData, after: RecommenderData, changed: Collection[str]) -> "Change":
        """Compare two data sets as they are learned (`RecommenderData.learned`).

        Args:
            before: What the model has learned.
            after: What it shall have learned.
            changed: The users whose histories are not the same in both.
        """
        items = before.items if before.items == after.items else _union(before.items, after.items)
        old, new = _places(before.items, items), _places(after.items, items)
        return cls(
            items=items,
            before=old,
            after=new,
            removed=_histories(before, changed, old, len(items)),
            added=_histories(after, changed, new, len(items)),
        )

    @property
    def rank(self) -> int:
        """How many histories are taken away or added."""
        return int(self.removed.shape[0] + self.added.shape[0])

    def carried(self, sums: PairSums, weigh: Callable[[Any], Positions]) -> PairSums:
        """Return sums over the items before, with the change, over the items after.

        Args:
            sums: Sums over the data before.
            weigh: Histories, `csr_array` (users, items), to what each user adds to every pair, shape (users,).

        Raises:
            ForeignPairsError: A history that is taken away was never added.
        """
        removed, added = (PairSums.of(part, weigh(part)) for part in (self.removed, self.added))
        kept = np.full(len(self.items), -1, np.int64)
        kept[self.after] = np.arange(len(self.after))
        whole = sums.placed(self.before, len(self.items)).changed(removed, added)
        return whole.placed(kept, len(self.after))


class Histories:
    """The training interactions of one data set by a model's own tables; those of the last data are kept."""

    def __init__(self, users: Sequence[str], items: Sequence[str]) -> None:
        self._users, self._items = users, items
        self._data: RecommenderData | None = None
        self._matrix: Any = None

    def of(self, data: RecommenderData) -> Any:
        """Return a `csr_array` (users, items) of ones, float64.

        Raises:
            ValueError: An interaction is of a user or an item that the model does not know.
        """
        if self._data is not data:
            known = data.learned()
            users, items = _places(known.users, self._users), _places(known.items, self._items)
            if len(known) and min(int(users.min()), int(items.min())) < 0:
                raise ValueError("the data have users or items that the model does not know")
            rows, columns = users[known.user_index.numpy()], items[known.item_index.numpy()]
            matrix = csr_array((np.ones(len(known)), (rows, columns)), (len(self._users), len(self._items)))
            matrix.sort_indices()
            self._data, self._matrix = data, matrix
        return self._matrix


def degrees(histories: Any) -> Positions:
    """Return the number of interactions in each row, shape (rows,), int64."""
    lengths: Positions = np.diff(histories.indptr).astype(np.int64)
    return lengths


def table_tensors(users: tuple[str, ...], items: tuple[str, ...], pairs: PairSums) -> dict[str, Tensor]:
    """Return what both architectures save besides their own."""
    tensors = dict(zip(TABLES, (*pack_ids(users), *pack_ids(items)), strict=True))
    return tensors | dict(zip(PAIRS, map(torch.from_numpy, (pairs.keys, pairs.values)), strict=True))


def read_tensors(directory: Path, expected: Mapping[str, tuple[Shape, torch.dtype]]) -> dict[str, Tensor]:
    """Read a checkpoint's tensors; None in a shape stands for any length.

    Raises:
        CheckpointError: The file cannot be read, or a tensor is missing, too many, or of another shape or type.
    """
    try:
        tensors = load_file(directory / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} cannot be read: {error}.") from None
    vectors: dict[str, tuple[Shape, torch.dtype]] = {
        name: ((None,), torch.uint8 if name.endswith(".text") else torch.int64) for name in (*TABLES, *PAIRS)
    }
    wanted = vectors | dict(expected)
    if tensors.keys() != wanted.keys():
        raise CheckpointError(
            f"{WEIGHTS_NAME} must hold exactly these tensors: {', '.join(wanted)}; "
            f"it holds {', '.join(sorted(tensors)) or 'none'}."
        )
    for name, (shape, dtype) in wanted.items():
        tensor = tensors[name]
        fits = len(shape) == tensor.ndim and all(
            wanted in {None, length} for wanted, length in zip(shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != dtype:
            described = ", ".join("any" if length is None else str(length) for length in shape)
            raise CheckpointError(f"The tensor {name} must have shape ({described}) and type {dtype}.")
    return tensors


def read_tables(
    tensors: Mapping[str, Tensor], users: int, items: int
) -> tuple[tuple[str, ...], tuple[str, ...], PairSums]:
    """Return users, items and sums from a checkpoint's tensors.

    Raises:
        CheckpointError: A table is not sorted or not as long as `config.json` says, or no users have such sums.
    """
    tables = unpack_ids(tensors, "users"), unpack_ids(tensors, "items")
    for table, size, what in zip(tables, (users, items), ("users", "items"), strict=True):
        if len(table) != size or tuple(sorted(table)) != table:
            raise CheckpointError(f"The table of {what} is not sorted, or not as long as config.json says.")
    keys, values = (tensors[name].numpy() for name in PAIRS)
    pairs = PairSums(items, keys, values)
    if fault := pairs.fault():
        raise CheckpointError(f"The sums over pairs of items are impossible: {fault}.")
    return *tables, pairs


def _union(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*some, *others}))


def _places(names: Sequence[str], table: Sequence[str]) -> Positions:
    """Return each name's position in `table`, or -1."""
    if names == table:
        return np.arange(len(table))
    known = {name: position for position, name in enumerate(table)}
    return np.array([known.get(name, -1) for name in names], np.int64)


def _histories(data: RecommenderData, users: Collection[str], places: Positions, items: int) -> Any:
    """Return the histories of those of `users` who have one: `csr_array` (users, items), float64."""
    # The table is sorted: a few users are found sooner than all of them are put into a dictionary.
    found = [(bisect_left(data.users, user), user) for user in sorted(users)]
    rows = [row for row, user in found if row < len(data.users) and data.users[row] == user]
    taken = data.matrix()[rows].tocoo()
    matrix = csr_array((taken.data, (taken.row, places[taken.col])), shape=(len(rows), items))
    matrix.sort_indices()
    return matrix
