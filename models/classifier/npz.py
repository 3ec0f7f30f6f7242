"""Reading `.npz` files from outside: no objects, no bombs, bounded memory; torch-free.

`numpy.load` decides what to allocate by what the file says. Here every claim is checked first, and the arrays are
read side by side in batches of about a megabyte.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from models.classifier.rows import (
    Batch,
    batch_length,
    check_expansion,
    check_width,
    to_features,
    to_name,
    to_split,
    to_subject,
)
from models.errors import DatasetError

_REQUIRED: Final = frozenset({"features", "labels", "ids"})
_OPTIONAL: Final = frozenset({"subjects", "split"})
_MAX_READ: Final = 4 << 20
_MAX_STRING_BYTES: Final = 1 << 14
_MATRIX_DIMENSIONS: Final = 2
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_HEADER: Final = re.compile(
    # numpy evaluates the header as a Python literal, which fails in many ways on a hostile one. This is what
    # numpy.save writes, with any spacing.
    r"\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?(?P<kind>[a-zA-Z?])[0-9]{0,9})'\s*,"
    r"\s*'fortran_order'\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*'shape'\s*:\s*\((?P<shape>(?:[0-9]{1,15}(?:\s*,\s*[0-9]{1,15})*\s*,?)?)\s*\)\s*,?\s*\}\s*",
    re.ASCII,
)
_T = TypeVar("_T")


def read_npz(path: Path) -> Iterator[Batch]:
    """Yield the records of an `.npz` file.

    Arrays: `features` (n, p) of numbers; `labels`, `ids` and optionally `subjects` and `split`, (n,) of strings or,
    except for `split`, integers. An empty string as subject means none; without `split`, all records are for training.

    Raises:
        DatasetError: The file is damaged or breaks one of these rules.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(_BoundedReader(io.FileIO(path)))
            archive = stack.enter_context(zipfile.ZipFile(file))
            arrays = {
                name: _ArrayStream(name, stack.enter_context(archive.open(member)), member.file_size)
                for name, member in _check_members(path, archive).items()
            }
            yield from _read_batches(path.name, arrays)
    except (ValueError, NotImplementedError, EOFError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path.name} is not a usable npz file: {error}.") from error


class _BoundedReader(io.BufferedReader):
    """Refuses to read much at once: `zipfile` reads a directory in one piece, however long it claims to be."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_READ:
            raise ValueError("its directory is implausibly long")
        return super().read(size)


class _ArrayStream:
    """One `.npy` member, read row by row."""

    def __init__(self, name: str, file: IO[bytes], size: int) -> None:
        self.name = name
        self._file = file
        self.shape, self.dtype = self._read_header()
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if file.tell() + self.shape[0] * self.row_bytes != size:
            raise ValueError(f"the array {name!r} does not have the size that its header claims")

    def take(self, rows: int) -> npt.NDArray[Any]:
        """Return the next rows."""
        data = self._file.read(rows * self.row_bytes)
        if len(data) != rows * self.row_bytes:
            raise ValueError(f"the array {self.name!r} is cut off")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])

    def finish(self) -> None:
        """Read past the end, which makes `zipfile` compare the checksum."""
        self._file.read(1)

    def _read_header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        length = self._file.read(len(_MAGIC) + 2)
        text = self._file.read(int.from_bytes(length[len(_MAGIC) :], "little")).decode("latin-1")
        header = _HEADER.fullmatch(text)
        if not length.startswith(_MAGIC) or header is None:
            raise ValueError(f"the array {self.name!r} has no header of version 1.0 of the npy format")
        matrix = self.name == "features"
        if header["kind"] not in ("?biuf" if matrix else "iuUS"):
            raise ValueError(
                f"the array {self.name!r} is of type {header['dtype']!r}, which is not accepted there"
            )
        try:
            dtype = np.dtype(header["dtype"])
        except TypeError as error:
            raise ValueError(f"the array {self.name!r} is of the unknown type {header['dtype']!r}") from error
        shape = tuple(int(length) for length in header["shape"].replace(",", " ").split())
        if len(shape) != (_MATRIX_DIMENSIONS if matrix else 1):
            raise ValueError(f"the array {self.name!r} has the shape {shape}")
        if matrix:
            check_width(shape[1])
            if header["fortran"] == "True" and min(shape) > 1:
                raise ValueError(
                    "the features are stored column by column; save numpy.ascontiguousarray(features) instead"
                )
        elif dtype.itemsize > _MAX_STRING_BYTES:
            raise ValueError(f"the strings of the array {self.name!r} are too long")
        return shape, dtype


def _check_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name not in _REQUIRED | _OPTIONAL or name in members:
            raise ValueError(f"it has an unexpected or repeated member {member.filename[:100]!r}")
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} or member.flag_bits & 1:
            raise ValueError(f"the member {member.filename!r} is encrypted or compressed in an unusual way")
        members[name] = member
    if missing := _REQUIRED - members.keys():
        raise ValueError(f"it lacks the arrays {', '.join(sorted(missing))}")
    check_expansion(path.name, sum(member.file_size for member in members.values()), path.stat().st_size)
    return members


def _read_batches(source: str, arrays: dict[str, _ArrayStream]) -> Iterator[Batch]:
    lengths = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its arrays have different lengths: {lengths}")
    records = lengths["ids"]
    step = batch_length(max(array.row_bytes for array in arrays.values()))
    for start in range(0, records, step):
        count = min(step, records - start)
        taken = {name: array.take(count) for name, array in arrays.items()}
        yield Batch(
            source=source,
            ids=_convert(taken["ids"], start, lambda value: to_name(value, "id")),
            labels=_convert(taken["labels"], start, lambda value: to_name(value, "label")),
            subjects=_convert(taken["subjects"], start, to_subject)
            if "subjects" in taken
            else [None] * count,
            splits=_convert(taken["split"], start, to_split)
            if "split" in taken
            else [to_split(None)] * count,
            features=to_features(taken["features"]),
        )
    for array in arrays.values():
        array.finish()


def _convert(values: npt.NDArray[Any], start: int, convert: Callable[[object], _T]) -> list[_T]:
    result = []
    for number, value in enumerate(values.tolist(), start):
        try:
            result.append(convert(value.decode() if isinstance(value, bytes) else value))
        except ValueError as error:
            raise ValueError(f"record number {number} (counting from 0): {error}") from error
    return result
