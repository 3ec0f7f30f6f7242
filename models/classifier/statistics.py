"""Exact sums over records: what an analytic classifier has learned, and all that it has learned.

With features on the grid of `models.classifier.features`, every partial sum here is exact in float64. Adding and
subtracting records in any order therefore leaves the bits that summing the remaining records afresh gives.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PANEL_ROWS = 256
"""Rows of a panel: tall enough for full speed in matrix products, low enough to keep little above the diagonal."""
_STRIP_ROWS = 64
"""Rows of a panel that are multiplied at a time: 2 MiB at d = 4096, what a core's cache holds."""


@dataclass(frozen=True)
class SymmetricMatrix:
    """A symmetric float64 matrix kept as its lower half, in panels of rows up to and including the diagonal's.

    Half the memory, half the disk and half the arithmetic of the full matrix, while each panel is an ordinary
    dense matrix for fast products.

    Attributes:
        values: All panels one after another, flat, float64.
        size: Rows and columns.
    """

    values: Tensor
    size: int

    @classmethod
    def zeros(cls, size: int) -> "SymmetricMatrix":
        """Return the zero matrix."""
        return cls(torch.zeros(cls.storage(size), dtype=torch.float64), size)

    @staticmethod
    def storage(size: int) -> int:
        """Return the length of `values`.

        >>> SymmetricMatrix.storage(2)
        4
        >>> SymmetricMatrix.storage(512) == 256 * 256 + 256 * 512
        True
        """
        stops = [min(start + PANEL_ROWS, size) for start in range(0, size, PANEL_ROWS)]
        return sum((stop - start) * stop for start, stop in zip([0, *stops], stops, strict=False))

    def panels(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield start row, stop row and the panel, a view of shape (stop - start, stop)."""
        offset = 0
        for start in range(0, self.size, PANEL_ROWS):
            stop = min(start + PANEL_ROWS, self.size)
            length = (stop - start) * stop
            yield start, stop, self.values[offset : offset + length].view(stop - start, stop)
            offset += length

    def clone(self) -> "SymmetricMatrix":
        """Return a copy that shares nothing."""
        # numpy asks the kernel for huge pages, torch does not: at d = 4096 the page faults of fresh memory would
        # take twice as long as the copying.
        memory = torch.from_numpy(np.empty(len(self.values)))
        return SymmetricMatrix(memory.copy_(self.values), self.size)

    def add_gram_(self, rows: Tensor, sign: int) -> None:
        """Add `sign` * rowsᵀ rows in place; `rows` has shape (n, size)."""
        for start, stop, panel in self.panels():
            panel.addmm_(rows[:, start:stop].T, rows[:, :stop], alpha=sign)

    def times(self, matrix: Tensor) -> Tensor:
        """Multiply: shape (size, c) -> (size, c)."""
        columns = matrix.T.contiguous()  # (c, size)
        below = torch.empty_like(matrix)
        above = torch.zeros_like(columns)
        for start, _, panel in self.panels():
            # Every entry below the diagonal's block is needed twice. Strips that stay in the cache between the two
            # products are read from memory once: that reading is the whole cost.
            for first in range(start, start + len(panel), _STRIP_ROWS):
                strip = panel[first - start : first - start + _STRIP_ROWS]
                last = first + len(strip)
                torch.mm(strip, matrix[: strip.shape[1]], out=below[first:last])
                above[:, :start].addmm_(columns[:, first:last], strip[:, :start])
        return below.add_(above.T)

    def diagonal(self) -> Tensor:
        """Return a copy of the diagonal, shape (size,)."""
        return torch.cat([panel[:, start:].diagonal() for start, _, panel in self.panels()])

    def lower(self) -> Tensor:
        """Return a dense copy, shape (size, size); above the diagonal's blocks it is zero, not mirrored."""
        dense = torch.zeros(self.size, self.size, dtype=torch.float64)
        for start, stop, panel in self.panels():
            dense[start:stop, :stop] = panel
        return dense

    def is_symmetric(self) -> bool:
        """Tell whether the diagonal blocks, the only part kept twice, agree with themselves."""
        blocks = (panel[:, start:] for start, _, panel in self.panels())
        return all(torch.equal(block, block.T) for block in blocks)


@dataclass(frozen=True)
class Statistics:
    """The state of a ridge head: G = XᵀX, C = XᵀY and the number of records of each class.

    Never changed in place once it is published in a model.
    """

    gram: SymmetricMatrix
    """G, of size d."""
    cross: Tensor
    """C, shape (d, classes), float64."""
    counts: Tensor
    """Shape (classes,), int64."""

    @classmethod
    def zeros(cls, feature_dim: int, classes: int) -> "Statistics":
        """Return the statistics of no record."""
        return cls(
            SymmetricMatrix.zeros(feature_dim),
            torch.zeros(feature_dim, classes, dtype=torch.float64),
            torch.zeros(classes, dtype=torch.int64),
        )

    @property
    def records(self) -> int:
        """How many records they sum over."""
        return int(self.counts.sum().item())

    def clone(self) -> "Statistics":
        """Return a copy that shares nothing."""
        return Statistics(self.gram.clone(), self.cross.clone(), self.counts.clone())

    def add_(self, features: Tensor, labels: Tensor, sign: int = 1) -> None:
        """Add (sign 1) or subtract (sign -1) records in place.

        Args:
            features: Shape (n, d), on the model's feature grid.
            labels: Shape (n,), int64.
            sign: 1 or -1.
        """
        if not len(features):
            return
        classes = len(self.counts)
        self.gram.add_gram_(features, sign)
        self.cross.addmm_(features.T, one_hot(labels, classes), alpha=sign)
        self.counts.add_(torch.bincount(labels, minlength=classes), alpha=sign)

    def equal(self, other: "Statistics") -> bool:
        """Tell whether every bit agrees (signed zeros apart)."""
        return (
            torch.equal(self.counts, other.counts)
            and torch.equal(self.cross, other.cross)
            and torch.equal(self.gram.values, other.gram.values)
        )


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return float64 indicators: shape (n,) -> (n, classes).

    >>> one_hot(torch.tensor([1, 0]), 3)
    tensor([[0., 1., 0.],
            [1., 0., 0.]], dtype=torch.float64)
    """
    return torch.nn.functional.one_hot(labels, classes).to(torch.float64)
