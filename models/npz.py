"""Reading `.npz` files from outside: no objects, no bombs, bounded memory; torch-free.

`numpy.load` decides what to allocate by what the file says. Here every claim is checked first, and the arrays are read
side by side, as many rows at a time as the reader wants.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from models.errors import DatasetError

MAX_EXPANSION: Final = 200
"""How many times its own size a compressed file may expand to; real data, sparse data too, stays below."""

_FREE_EXPANSION = 64 << 20
_MAX_READ: Final = 4 << 20
_PIECE: Final = 1 << 20
_MAX_STRING_BYTES: Final = 1 << 14
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_HEADER: Final = re.compile(
    # numpy evaluates the header as a Python literal, which fails in many ways on a hostile one. This is what
    # numpy.save writes, with any spacing.
    r"\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?(?P<kind>[a-zA-Z?])[0-9]{0,9})'\s*,"
    r"\s*'fortran_order'\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*'shape'\s*:\s*\((?P<shape>(?:[0-9]{1,15}(?:\s*,\s*[0-9]{1,15})*\s*,?)?)\s*\)\s*,?\s*\}\s*",
    re.ASCII,
)

NUMBERS: Final = "?biuf"
NAMES: Final = "iuUS"
"""Kinds of numpy type that ids and labels come as: integers and strings."""


@dataclass(frozen=True)
class Layout:
    """What one array must be like."""

    kinds: str
    """Letters of numpy's kinds of type that are accepted."""
    dimensions: int = 1
    either_order: bool = False
    """Whether it may be stored column by column; then it cannot be read row by row."""


class ArrayStream:
    """One array of an open file, read row by row."""

    def __init__(self, name: str, file: IO[bytes], size: int, layout: Layout) -> None:
        self.name = name
        self._file = file
        self.shape, self.dtype, self._by_columns = self._read_header(layout)
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if file.tell() + math.prod(self.shape) * self.dtype.itemsize != size:
            raise ValueError(f"the array {name!r} does not have the size that its header claims")

    def take(self, rows: int) -> npt.NDArray[Any]:
        """Return the next rows.

        Raises:
            ValueError: There are not so many left.
        """
        return self._read(rows * self.row_bytes).reshape(rows, *self.shape[1:])

    def all(self) -> npt.NDArray[Any]:
        """Return the whole array, and check that it is undamaged; nothing must have been taken before.

        Raises:
            ValueError: The array is cut off.
            zipfile.BadZipFile: The array is damaged.
        """
        values = self._read(math.prod(self.shape) * self.dtype.itemsize)
        self.finish()
        return values.reshape(self.shape, order="F" if self._by_columns else "C")

    def finish(self) -> None:
        """Read past the end, which makes `zipfile` compare the checksum."""
        self._file.read(1)

    def _read(self, size: int) -> npt.NDArray[Any]:
        # Piece by piece, so that no more room is taken than there are data, whatever the file claims.
        data = bytearray()
        while len(data) < size:
            piece = self._file.read(min(_PIECE, size - len(data)))
            if not piece:
                raise ValueError(f"the array {self.name!r} is cut off")
            data += piece
        return np.frombuffer(data, self.dtype)

    def _read_header(self, layout: Layout) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
        length = self._file.read(len(_MAGIC) + 2)
        text = self._file.read(int.from_bytes(length[len(_MAGIC) :], "little")).decode("latin-1")
        header = _HEADER.fullmatch(text)
        if not length.startswith(_MAGIC) or header is None:
            raise ValueError(f"the array {self.name!r} has no header of version 1.0 of the npy format")
        if header["kind"] not in layout.kinds:
            raise ValueError(
                f"the array {self.name!r} is of type {header['dtype']!r}, which is not accepted there"
            )
        try:
            dtype = np.dtype(header["dtype"])
        except TypeError as error:
            raise ValueError(f"the array {self.name!r} is of the unknown type {header['dtype']!r}") from error
        shape = tuple(int(length) for length in header["shape"].replace(",", " ").split())
        if len(shape) != layout.dimensions:
            raise ValueError(f"the array {self.name!r} has the shape {shape}")
        by_columns = header["fortran"] == "True" and sum(length > 1 for length in shape) > 1
        if by_columns and not layout.either_order:
            raise ValueError(
                f"the {self.name} are stored column by column; save numpy.ascontiguousarray({self.name}) instead"
            )
        if dtype.kind in "US" and dtype.itemsize > _MAX_STRING_BYTES:
            raise ValueError(f"the strings of the array {self.name!r} are too long")
        return shape, dtype, by_columns


@contextmanager
def open_npz(path: Path, layouts: Mapping[str, Layout]) -> Iterator[dict[str, ArrayStream]]:
    """Open a file whose arrays are among those of `layouts`; each is there at most once.

    Raises:
        DatasetError: The file is damaged or has other arrays; a ValueError within the block becomes one too, so that
            what a reader finds wrong is reported in the same way.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(_BoundedReader(io.FileIO(path)))
            archive = stack.enter_context(zipfile.ZipFile(file))
            yield {
                name: ArrayStream(
                    name, stack.enter_context(archive.open(member)), member.file_size, layouts[name]
                )
                for name, member in _check_members(path, archive, layouts).items()
            }
    except (ValueError, NotImplementedError, EOFError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path.name} is not a usable npz file: {error}.") from error


def array_names(path: Path) -> frozenset[str]:
    """Return what the arrays of a file are called, without a look into them.

    Raises:
        DatasetError: It is no npz file.
    """
    try:
        with _BoundedReader(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            return frozenset(member.filename.removesuffix(".npy") for member in archive.infolist())
    except (ValueError, NotImplementedError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path.name} is not a usable npz file: {error}.") from error


def check_expansion(source: str, declared: int, size: int) -> None:
    """Refuse a compressed file that claims to hold implausibly much.

    Args:
        source: Name of the file.
        declared: Bytes it expands to, by its own account.
        size: Bytes of the file.

    Raises:
        DatasetError: It is a decompression bomb.
    """
    if declared > MAX_EXPANSION * size + _FREE_EXPANSION:
        raise DatasetError(
            f"{source} expands to {declared} bytes, implausibly many for a file of {size} bytes."
        )


class _BoundedReader(io.BufferedReader):
    """Refuses to read much at once: `zipfile` reads a directory in one piece, however long it claims to be."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_READ:
            raise ValueError("its directory is implausibly long")
        return super().read(size)


def _check_members(
    path: Path, archive: zipfile.ZipFile, layouts: Mapping[str, Layout]
) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name not in layouts or name in members:
            raise ValueError(f"it has an unexpected or repeated member {member.filename[:100]!r}")
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} or member.flag_bits & 1:
            raise ValueError(f"the member {member.filename!r} is encrypted or compressed in an unusual way")
        members[name] = member
    check_expansion(path.name, sum(member.file_size for member in members.values()), path.stat().st_size)
    return members
