"""Exact sums over users for pairs of items: what the closed forms have learned, and all that they have learned.

Every user with an item i and an item j adds a whole number to the pair (i, j). Whole numbers add and subtract without
rounding, in any order, so taking a user away leaves the very numbers of never having learned of that user.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array, diags_array

Integers = npt.NDArray[np.int64]


class ForeignPairsError(ArithmeticError):
    """More is taken away from a pair of items than was ever added to it."""


@dataclass(frozen=True)
class PairSums:
    """A symmetric matrix of sums over users, (items, items), kept as its entries on and above the diagonal.

    Attributes:
        items: Rows and columns.
        keys: Shape (pairs,), ascending: row * items + column of every entry that is not zero, row ≤ column.
        values: Shape (pairs,), the entries. All are positive.
    """

    items: int
    keys: Integers
    values: Integers

    @classmethod
    def of(cls, histories: Any, weights: Integers) -> "PairSums":
        """Sum over users from nothing.

        Args:
            histories: `csr_array` (users, items) of ones.
            weights: Shape (users,): what each user adds to every pair of items taken.
        """
        rows = csr_array(histories, dtype=np.int64)
        upper = coo_array(rows.T @ (diags_array(weights, dtype=np.int64) @ rows))
        above = upper.row <= upper.col
        keys = upper.row[above].astype(np.int64) * rows.shape[1] + upper.col[above]
        order = np.argsort(keys)
        return cls(rows.shape[1], keys[order], upper.data[above][order].astype(np.int64))

    def changed(self, removed: "PairSums", added: "PairSums") -> "PairSums":
        """Return the sums less those of some users, and plus those of others; all over the same items.

        Raises:
            ForeignPairsError: An entry of `removed` is larger than the sum that it is taken from.
        """
        less = _merged(self, removed, -1)
        if len(less.values) and int(less.values.min()) < 0:
            raise ForeignPairsError("more is taken away than was added")
        return _merged(less, added, 1).without_zeros()

    def subtract_(self, items: Integers, weight: int) -> None:
        """Take one user away in place: `weight` from every pair of `items`, ascending positions, shape (n,).

        What becomes zero stays as an entry until `without_zeros`. The cost is n² look-ups, whatever the catalogue's
        size.

        Raises:
            ForeignPairsError: A sum is smaller than that; nothing is changed then.
        """
        # Looked up row by row, each in its own short stretch of keys, which stays in the cache: several times faster for
        # long histories than looking all pairs up in all keys.
        wanted = [item * self.items + items[place:] for place, item in enumerate(items.tolist())]
        begin = np.searchsorted(self.keys, items * self.items)
        end = np.searchsorted(self.keys, (items + 1) * self.items)
        found = [
            start + np.searchsorted(self.keys[start:stop], row)
            for start, stop, row in zip(begin.tolist(), end.tolist(), wanted, strict=True)
        ]
        if not found:
            return
        places, keys = np.concatenate(found), np.concatenate(wanted)
        there = places < len(self.keys)
        if not there.all() or (self.keys[places] != keys).any() or (self.values[places] < weight).any():
            raise ForeignPairsError("more is taken away than was added")
        self.values[places] -= weight

    def without_zeros(self) -> "PairSums":
        """Return the same sums without entries that are zero."""
        there = self.values != 0
        return self if there.all() else PairSums(self.items, self.keys[there], self.values[there])

    def clone(self) -> "PairSums":
        """Return a copy that shares nothing."""
        return PairSums(self.items, self.keys.copy(), self.values.copy())

    def placed(self, places: Integers, items: int) -> "PairSums":
        """Return the sums over another table of items.

        Args:
            places: Shape (items,), ascending: each item's position in the other table, or -1 where it is not there;
                such an item's sums must be zero.
            items: Size of the other table.
        """
        if items == self.items and (places >= 0).all():
            return self
        rows, columns = self.rows_and_columns()
        keys = places[rows] * items + places[columns]
        kept = (places[rows] >= 0) & (places[columns] >= 0)
        return PairSums(items, keys[kept], self.values[kept])

    def rows_and_columns(self) -> tuple[Integers, Integers]:
        """Return where each entry stands, both of shape (pairs,)."""
        rows, columns = np.divmod(self.keys, max(self.items, 1))
        return rows, columns

    def diagonal(self) -> Integers:
        """Return the entries of each item with itself, shape (items,)."""
        diagonal = np.zeros(self.items, np.int64)
        rows, columns = self.rows_and_columns()
        own = rows == columns
        diagonal[rows[own]] = self.values[own]
        return diagonal

    def matrix(self, unit: float = 1.0) -> Any:
        """Return the full symmetric matrix, entries times `unit`: `csr_array` (items, items), float64."""
        rows, columns = self.rows_and_columns()
        values = self.values * unit
        above = rows != columns
        full = coo_array(
            (
                np.concatenate([values, values[above]]),
                (np.concatenate([rows, columns[above]]), np.concatenate([columns, rows[above]])),
            ),
            shape=(self.items, self.items),
        )
        return csr_array(full)

    def equal(self, other: "PairSums") -> bool:
        """Tell whether every bit agrees."""
        return (
            self.items == other.items
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.values, other.values)
        )

    def differing(self, other: "PairSums") -> int:
        """Count the pairs whose sums differ; over other items, all are taken to."""
        if self.items != other.items:
            return max(len(self.keys), len(other.keys), 1)
        return len(_merged(self, other, -1).without_zeros().keys)

    def fault(self) -> str | None:
        """Say why these cannot be the sums of any users, or None where nothing shows it."""
        if len(self.keys) != len(self.values) or (np.diff(self.keys) <= 0).any():
            return "the pairs are not in ascending order"
        if len(self.keys) and not 0 <= int(self.keys[0]) <= int(self.keys[-1]) < self.items**2:
            return "a pair is of an item that is not there"
        rows, columns = self.rows_and_columns()
        own = self.diagonal()
        faults = {
            "a pair stands below the diagonal": rows > columns,
            "a sum is not positive": self.values <= 0,
            "an item was taken by nobody": own == 0,
            "a pair was taken more often than one of its items": self.values
            > np.minimum(own[rows], own[columns]),
        }
        return next((fault for fault, found in faults.items() if found.any()), None)


def _merged(left: PairSums, right: PairSums, sign: int) -> PairSums:
    """Return left + sign * right over the same items, zeros kept."""
    if not len(right.keys):
        return left
    places = np.searchsorted(left.keys, right.keys)
    known = places < len(left.keys)
    known[known] = left.keys[places[known]] == right.keys[known]
    if known.all():
        # Nothing new: no need to bring two tables of keys into order.
        values = left.values.copy()
        values[places] += sign * right.values
        return PairSums(left.items, left.keys, values)
    keys = np.union1d(left.keys, right.keys)
    values = np.zeros(len(keys), np.int64)
    values[np.searchsorted(keys, left.keys)] = left.values
    values[np.searchsorted(keys, right.keys)] += sign * right.values
    return PairSums(left.items, keys, values)
