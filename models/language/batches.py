"""Token rows to batches: side by side with padding, or one after the other without any.

Neither layout has an attention mask. Padding stands on the right, where causal attention never looks, and its outputs are not
read, so no token's id decides what is padding: an end-of-sequence token may be the padding token and is still learned.
Packed rows stand in one long sequence in which each begins again at position 0; `transformers` keeps attention
within a row wherever positions begin again (`models.language.verification` proves it for the model at hand).

Side by side is for CPUs, whose attention computes all of a packed sequence's square; packed is for kernels that skip it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.language.tokens import TokenRow

PADDING = 0
"""Any token does, for nothing reads it."""


@dataclass(frozen=True)
class Batch:
    """Rows laid out for one forward pass, with b sequences of length t, n records and a answer tokens."""

    rows: Tensor
    """Which of the caller's rows these are, shape (n,)."""
    tokens: Tensor
    """Shape (b, t)."""
    positions: Tensor
    """Each token's place within its record, shape (b, t)."""
    sources: Tensor
    """Where in the flattened sequences an answer token is predicted: one place before it. Shape (a,)."""
    targets: Tensor
    """The answer tokens, shape (a,)."""
    owners: Tensor
    """The record of each answer token, from 0 to n - 1 and ascending, shape (a,)."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def answer_counts(self) -> Tensor:
        """Answer tokens of each record, shape (n,)."""
        return self.owners.bincount(minlength=len(self))

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        return Batch(
            self.rows.to(device),
            self.tokens.to(device),
            self.positions.to(device),
            self.sources.to(device),
            self.targets.to(device),
            self.owners.to(device),
        )


def padded(rows: Sequence[TokenRow], indices: Sequence[int]) -> Batch:
    """Lay rows out side by side, padded on the right to the longest.

    Raises:
        ValueError: There are no indices.

    >>> row, short = TokenRow((5, 6, 7), (False, False, True)), TokenRow((8, 9), (False, True))
    >>> batch = padded([row, short], [0, 1])
    >>> batch.tokens.tolist(), batch.sources.tolist(), batch.targets.tolist()
    ([[5, 6, 7], [8, 9, 0]], [1, 3], [7, 9])
    """
    width = max(len(rows[index]) for index in indices)
    starts = [place * width for place in range(len(indices))]
    tokens = torch.full((len(indices), width), PADDING)
    for place, index in enumerate(indices):
        tokens[place, : len(rows[index])] = torch.tensor(rows[index].tokens)
    positions = torch.arange(width).expand(len(indices), -1)
    return batch_of(rows, indices, starts, tokens, positions)


def packed(rows: Sequence[TokenRow], indices: Sequence[int]) -> Batch:
    """Lay rows out one after the other in a single sequence.

    Raises:
        ValueError: There are no indices.

    >>> row, short = TokenRow((5, 6, 7), (False, False, True)), TokenRow((8, 9), (False, True))
    >>> batch = packed([row, short], [0, 1])
    >>> batch.tokens.tolist(), batch.positions.tolist(), batch.sources.tolist()
    ([[5, 6, 7, 8, 9]], [[0, 1, 2, 0, 1]], [1, 3])
    """
    if not indices:
        raise ValueError("a batch has at least one row")
    lengths = torch.tensor([len(rows[index]) for index in indices])
    starts = (lengths.cumsum(0) - lengths).tolist()
    tokens = torch.tensor([[token for index in indices for token in rows[index].tokens]])
    positions = torch.cat([torch.arange(length) for length in lengths.tolist()])[None]
    return batch_of(rows, indices, starts, tokens, positions)


def batch_of(
    rows: Sequence[TokenRow], indices: Sequence[int], starts: Sequence[int], tokens: Tensor, positions: Tensor
) -> Batch:
    """Find the answer tokens of rows that begin at `starts` of the flattened sequences."""
    places, owners = [], []
    for owner, (index, start) in enumerate(zip(indices, starts, strict=True)):
        found = [start + place for place, is_answer in enumerate(rows[index].answer) if is_answer]
        places += found
        owners += [owner] * len(found)
    where = torch.tensor(places)
    return Batch(
        torch.tensor(list(indices)),
        tokens,
        positions,
        where - 1,
        tokens.flatten()[where],
        torch.tensor(owners),
    )


def by_length(rows: Sequence[TokenRow], size: int) -> list[list[int]]:
    """Group rows of like length, longest first, so that padding is rare and memory runs out at once or never.

    >>> rows = [TokenRow((1,) * n, (False,) * (n - 1) + (True,)) for n in (3, 9, 4, 8)]
    >>> by_length(rows, 2)
    [[1, 3], [2, 0]]
    """
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def by_budget(rows: Sequence[TokenRow], tokens: int) -> list[list[int]]:
    """Group rows, in their order, into as many as fit into a number of tokens.

    Raises:
        ValueError: A row alone has more.

    >>> rows = [TokenRow((1,) * n, (False,) * (n - 1) + (True,)) for n in (3, 9, 4, 8)]
    >>> by_budget(rows, 13)
    [[0, 1], [2, 3]]
    """
    groups: list[list[int]] = []
    left = 0
    for index, row in enumerate(rows):
        if len(row) > tokens:
            raise ValueError(f"a row of {len(row)} tokens does not fit into {tokens}")
        if len(row) > left:
            groups.append([])
            left = tokens
        groups[-1].append(index)
        left -= len(row)
    return groups
