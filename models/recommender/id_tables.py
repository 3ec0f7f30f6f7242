"""Tables of ids as tensors: a checkpoint's safetensors file then holds the names of what its rows are about."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from models.errors import CheckpointError


def pack_ids(ids: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return the ids' UTF-8 bytes, uint8, and where each ends, int64, shape (ids,).

    >>> [part.tolist() for part in pack_ids(("a", "bc"))]
    [[97, 98, 99], [1, 3]]
    """
    encoded = [name.encode() for name in ids]
    ends = torch.tensor([len(name) for name in encoded], dtype=torch.int64).cumsum(0)
    text = b"".join(encoded)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(
        0, dtype=torch.uint8
    ), ends


def unpack_ids(tensors: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
    """Read a table back from the tensors `NAME.text` and `NAME.ends`.

    Raises:
        CheckpointError: They are no table of distinct ids.
    """
    text, ends = tensors[f"{name}.text"], tensors[f"{name}.ends"]
    if text.dtype != torch.uint8 or ends.dtype != torch.int64 or text.ndim != 1 or ends.ndim != 1:
        raise CheckpointError(
            f"The tensors {name}.text and {name}.ends must be vectors of bytes and of int64."
        )
    bounds = [0, *ends.tolist()]
    if any(after < before for before, after in pairwise(bounds)) or bounds[-1] != len(text):
        raise CheckpointError(f"The tensor {name}.ends does not divide {name}.text.")
    raw = text.numpy().tobytes()
    try:
        ids = tuple(raw[before:after].decode() for before, after in pairwise(bounds))
    except UnicodeDecodeError:
        raise CheckpointError(f"The tensor {name}.text is not UTF-8.") from None
    if len(set(ids)) < len(ids):
        raise CheckpointError(f"The tensor {name}.text names an id twice.")
    return ids
