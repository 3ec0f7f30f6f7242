"""The likelihood of answers: logits at answer positions only, and never more of them at a time than asked for.

A full table of logits is (b · t · vocabulary) numbers, most of them for prompts and padding, and its softmax and gradient
are two more such tables. Here the decoder's output is picked at the positions that predict an answer token, and the head
runs over chunks of those; in training each chunk is computed again on the way back instead of being kept.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.errors import CheckpointError
from models.language.batches import Batch

CHUNK = 1024


def token_losses(model: Any, batch: Batch, chunk: int = CHUNK) -> Tensor:
    """Compute -log p(token | what stands before it in its record) of every answer token, in nats.

    Args:
        model: Of the Hugging Face layout. `models.language.verification` says whether it can be read in this way.
        batch: On the model's device.
        chunk: The most answer tokens whose logits exist at a time, ≥ 1.

    Returns:
        Shape (a,), in float64 if the model is and in float32 otherwise.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    states = decoder(
        input_ids=batch.tokens, position_ids=batch.positions, use_cache=False
    ).last_hidden_state  # (b, t, d)
    states = states.flatten(0, 1)[batch.sources]  # (b * t, d) -> (a, d)
    if len(states) <= chunk:
        return cross_entropy(head, states, batch.targets)
    parts = zip(torch.split(states, chunk), torch.split(batch.targets, chunk), strict=True)
    return torch.cat(
        [checkpoint(cross_entropy, head, part, targets, use_reentrant=False) for part, targets in parts]
    )


def cross_entropy(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    """Compute each token's loss from its state, (a, d) and (a,) -> (a,); half precision is widened after the head."""
    logits: Tensor = head(states)  # (a, d) -> (a, vocabulary)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return functional.cross_entropy(wide, targets, reduction="none")


def record_losses(model: Any, batch: Batch, chunk: int = CHUNK) -> Tensor:
    """Compute L, the negative log-likelihood of each record's answer, summed over its tokens: shape (n,), in nats.

    The mean per token is this over `batch.answer_counts`.
    """
    losses = token_losses(model, batch, chunk)
    return losses.new_zeros(len(batch)).index_add(0, batch.owners, losses)


def reference_losses(model: Any, batches: Iterable[Batch], count: int, chunk: int = CHUNK) -> Tensor:
    """Compute every row's L once, to be kept: all that a later comparison with this model needs of it.

    Args:
        model: In evaluation mode, or else dropout would make the reference a matter of chance.
        batches: Of all rows, each row once.
        count: How many rows there are.
        chunk: As for `token_losses`.

    Returns:
        L by row, so that a batch finds its own at `[batch.rows]`. Shape (count,), on the CPU.

    Raises:
        ValueError: The model is in training mode, or a row is in no batch or in two.
        CheckpointError: A loss is not a finite number.
    """
    if model.training:
        raise ValueError("reference losses are measured in evaluation mode")
    seen: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
    parts: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            parts.append(record_losses(model, batch, chunk).cpu())
            seen.append(batch.rows.cpu())
    rows = torch.cat(seen)
    order = rows.argsort()
    if not torch.equal(rows[order], torch.arange(count)):
        raise ValueError(f"the batches do not hold each of {count} rows once")
    losses = torch.cat(parts)[order] if parts else torch.empty(0)
    if not losses.isfinite().all():
        raise CheckpointError("The model's loss on the data is not a finite number: its weights are damaged.")
    return losses
