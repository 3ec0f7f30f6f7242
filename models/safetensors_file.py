"""The safetensors format, read with suspicion and written as a stream; torch-free.

Format: https://github.com/huggingface/safetensors#format. Eight bytes of little-endian header length, a JSON
header, then the tensors' bytes. The library's own reader trusts the process it runs in; here the file came from
outside, so everything the header claims is compared with the file before anything is allocated.
"""

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from models.errors import CheckpointError
from models.strict_json import parse_object

MAX_HEADER_BYTES = 16 << 20
"""Enough for 100,000 tensors. The format allows 100 MB, but parsing a hostile header that long takes gigabytes."""

_LENGTH = struct.Struct("<Q")
_MAX_RANK = 64
_MAX_ELEMENTS = 2**62
_CHUNK_BYTES = 4 << 20  # a multiple of every element size
_HEADER_DEPTH = 3  # header, tensor, shape


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file."""

    dtype: str
    """Its name in the format, such as `F32`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    size: int
    """Bytes it occupies."""


@dataclass(frozen=True)
class _Dtype:
    """How wide an element is, and which bit patterns are not finite.

    An element is not finite if `word & mask == pattern`; `word` is None for types that only hold finite values.
    """

    bits: int
    word: str | None = None
    mask: int = 0
    pattern: int = 0


_DTYPES: Mapping[str, _Dtype] = MappingProxyType(
    {
        "BOOL": _Dtype(8),
        "U8": _Dtype(8),
        "I8": _Dtype(8),
        "U16": _Dtype(16),
        "I16": _Dtype(16),
        "U32": _Dtype(32),
        "I32": _Dtype(32),
        "U64": _Dtype(64),
        "I64": _Dtype(64),
        # All exponent bits set means infinity or NaN in every IEEE-like type ...
        "F16": _Dtype(16, "<u2", 0x7C00, 0x7C00),
        "BF16": _Dtype(16, "<u2", 0x7F80, 0x7F80),
        "F32": _Dtype(32, "<u4", 0x7F80_0000, 0x7F80_0000),
        "F64": _Dtype(64, "<u8", 0x7FF0_0000_0000_0000, 0x7FF0_0000_0000_0000),
        "C64": _Dtype(64, "<u4", 0x7F80_0000, 0x7F80_0000),
        "F8_E5M2": _Dtype(8, "u1", 0x7C, 0x7C),
        # ... the other 8-bit types have no infinity and only these NaNs (OCP 8-bit and MX specifications) ...
        "F8_E4M3": _Dtype(8, "u1", 0x7F, 0x7F),
        "F8_E8M0": _Dtype(8, "u1", 0xFF, 0xFF),
        "F8_E4M3FNUZ": _Dtype(8, "u1", 0xFF, 0x80),
        "F8_E5M2FNUZ": _Dtype(8, "u1", 0xFF, 0x80),
        # ... and the shorter ones are finite throughout.
        "F6_E2M3": _Dtype(6),
        "F6_E3M2": _Dtype(6),
        "F4": _Dtype(4),
    }
)

NUMPY_DTYPES: Mapping[str, npt.DTypeLike] = MappingProxyType(
    {"U8": "u1", "I32": "<i4", "I64": "<i8", "F32": "<f4", "F64": "<f8"}
)
"""The formats that data files use, as numpy names them."""
_FORMAT_NAMES = {np.dtype(dtype): name for name, dtype in NUMPY_DTYPES.items()}


def check_safetensors(path: Path, *, finite: bool = True) -> dict[str, TensorInfo]:
    """Check a file whole and return its tensors in file order.

    Memory is bounded by the header and one chunk, whatever the file's size.

    Args:
        path: The file.
        finite: Also read every floating-point tensor and refuse NaN and infinity.

    Raises:
        CheckpointError: The file is truncated, its header lies, or a weight is not finite.
    """
    try:
        with path.open("rb") as file:
            tensors = _read_header(file)
            if finite:
                for name, info in tensors.items():
                    _check_finite(file, name, info)
    except ValueError as error:
        raise CheckpointError(f"{path.name} is not a usable safetensors file: {error}.") from None
    return tensors


def map_tensor(path: Path, info: TensorInfo) -> npt.NDArray[Any]:
    """Map one tensor of a checked file read-only into memory, without reading it."""
    dtype = np.dtype(NUMPY_DTYPES[info.dtype])
    if not info.size:
        return np.empty(info.shape, dtype)  # an empty range cannot be mapped
    return np.memmap(path, dtype, mode="r", offset=info.offset, shape=info.shape)


@dataclass(frozen=True)
class TensorStream:
    """A tensor that is written chunk by chunk."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    chunks: Iterable[npt.NDArray[Any]]
    """Pieces along the first dimension, in order."""


def write_safetensors(path: Path, tensors: Mapping[str, TensorStream]) -> None:
    """Write tensors in the order given; equal content makes equal bytes.

    Put types with wider elements first, so that every tensor is aligned.

    Raises:
        RuntimeError: The chunks of a tensor do not add up to its shape (a fault of the caller).
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        dtype = np.dtype(tensor.dtype)
        begin, end = end, end + math.prod(tensor.shape) * dtype.itemsize
        header[name] = {
            "dtype": _FORMAT_NAMES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(_LENGTH.pack(len(text)) + text)
        start = file.tell()
        for name, tensor in tensors.items():
            for chunk in tensor.chunks:
                file.write(np.ascontiguousarray(chunk, tensor.dtype).data)
            if file.tell() - start != header[name]["data_offsets"][1]:  # type: ignore[index]
                raise RuntimeError(f"the chunks of {name!r} do not add up to its shape")


def _read_header(file: BinaryIO) -> dict[str, TensorInfo]:
    size = os.fstat(file.fileno()).st_size
    if size < _LENGTH.size:
        raise ValueError("it is truncated")
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    start = _LENGTH.size + length
    if length > MAX_HEADER_BYTES or start > size:
        raise ValueError(f"its header claims to be {length} bytes long, but the file has {size}")
    header = parse_object(file.read(length), max_depth=_HEADER_DEPTH)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not a map of strings")
    tensors = sorted(
        ((name, _read_entry(name, entry, start)) for name, entry in header.items()),
        key=lambda item: (item[1].offset, item[1].size),
    )
    _check_cover(tensors, start, size)
    return dict(tensors)


def _read_entry(name: str, entry: object, start: int) -> TensorInfo:
    if not name.isprintable():
        raise ValueError(f"the tensor name {name[:100]!r} contains unprintable characters")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name[:100]!r} must have exactly dtype, shape and data_offsets")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"tensor {name[:100]!r} has the unknown dtype {str(entry['dtype'])[:100]!r}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or len(shape) > _MAX_RANK or _elements_bound(shape) > _MAX_ELEMENTS:
        raise ValueError(f"tensor {name[:100]!r} has an impossible shape")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - begin and end
        raise ValueError(f"tensor {name[:100]!r} has impossible data_offsets")
    size = offsets[1] - offsets[0]
    if math.prod(shape) * dtype.bits != size * 8:
        raise ValueError(f"tensor {name[:100]!r} has a shape that does not fit its {size} bytes")
    return TensorInfo(entry["dtype"], tuple(shape), start + offsets[0], size)


def _are_sizes(values: object) -> bool:
    """Tell whether this is a list of numbers of bytes or elements. True is an int in Python, but not here."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _MAX_ELEMENTS for value in values
    )


def _elements_bound(shape: list[int]) -> int:
    """Bound the strides too: a zero beside huge numbers makes an empty tensor that still overflows them."""
    bound = 1
    for value in shape:
        bound = min(bound * max(value, 1), _MAX_ELEMENTS + 1)
    return bound


def _check_cover(tensors: Sequence[tuple[str, TensorInfo]], start: int, size: int) -> None:
    end = start
    for name, info in tensors:
        if info.offset != end:
            kind = "overlaps" if info.offset < end else "leaves a gap after"
            raise ValueError(f"tensor {name[:100]!r} {kind} the data before it")
        end += info.size
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, but the file has {size}")


def _check_finite(file: BinaryIO, name: str, info: TensorInfo) -> None:
    dtype = _DTYPES[info.dtype]
    if dtype.word is None:
        return
    word = np.dtype(dtype.word)
    mask, pattern = word.type(dtype.mask), word.type(dtype.pattern)
    file.seek(info.offset)
    left = info.size
    while left:
        data = file.read(min(_CHUNK_BYTES, left))
        if not data:
            raise ValueError("it is truncated")
        left -= len(data)
        words = cast("npt.NDArray[np.unsignedinteger[Any]]", np.frombuffer(data, word))
        if ((words & mask) == pattern).any():
            raise ValueError(f"tensor {name[:100]!r} holds NaN or infinity")
