"""Whether a model can be read by its decoder and head alone, and keeps packed records apart.

Things that most causal models do and no interface promises: that they take positions, that the logits are the head's
output as it is (some cap or scale them afterwards), and that attention stays within a record where positions begin
again (a recurrent model carries its state on). One of the last two missing gives plausible, wrong losses. So the model is
asked once, on real rows.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import CheckpointError
from models.language.batches import Batch, packed, padded
from models.language.scoring import record_losses, token_losses
from models.language.tokens import TokenRow

Layout = Callable[[Sequence[TokenRow], Sequence[int]], Batch]

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
HALF_TOLERANCE = 5e-2
PROBES = 3


def verify_head(model: Any, rows: Sequence[TokenRow]) -> None:
    """Compare losses by decoder and head with those of the model's own logits, on the shortest rows.

    Raises:
        CheckpointError: They differ, or the model takes no positions.
    """
    if "position_ids" not in inspect.signature(model.get_decoder().forward).parameters:
        raise CheckpointError("The model takes no positions of tokens: its family is not supported.")
    batch = padded(rows, shortest(rows)).to(device_of(model))
    with torch.no_grad():
        logits = model(input_ids=batch.tokens, use_cache=False).logits.flatten(0, 1)[batch.sources]
        wide = logits if logits.dtype == torch.float64 else logits.float()
        own = functional.cross_entropy(wide, batch.targets, reduction="none")
        refuse_difference(
            own,
            token_losses(model, batch),
            logits.dtype,
            "The model's logits are not its head's output: its family caps or scales them, and is not supported.",
        )


def verify_packing(model: Any, rows: Sequence[TokenRow]) -> None:
    """Compare losses of rows packed into one sequence with those of each row alone, on the shortest rows.

    Raises:
        CheckpointError: They differ: use `models.language.batches.padded` for this model.
    """
    indices = shortest(rows)
    device = device_of(model)
    with torch.no_grad():
        together = record_losses(model, packed(rows, indices).to(device))
        alone = torch.cat([record_losses(model, padded(rows, [index]).to(device)) for index in indices])
    refuse_difference(
        alone,
        together,
        next(model.parameters()).dtype,
        "The model does not keep packed records apart: lay them out side by side.",
    )


def shortest(rows: Sequence[TokenRow]) -> list[int]:
    """Return up to `PROBES` rows that cost least, the longest of them first."""
    return sorted(range(len(rows)), key=lambda index: len(rows[index]))[:PROBES][::-1]


def device_of(model: Any) -> torch.device:
    """Return where the model's weights are."""
    device: torch.device = next(model.parameters()).device
    return device


def refuse_difference(expected: Tensor, found: Tensor, dtype: torch.dtype, message: str) -> None:
    """Refuse losses that differ by more than the precision explains; one that is not a number differs from all.

    Raises:
        CheckpointError: They do.
    """
    allowed = TOLERANCES.get(dtype, HALF_TOLERANCE) * (1 + expected.abs())
    if not ((expected - found).abs() <= allowed).all():
        raise CheckpointError(message)
