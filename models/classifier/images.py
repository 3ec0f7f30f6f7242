"""PNG images from outside as records' features; torch-free.

Before anything is decoded, the file's chunks are walked and their checksums compared. Pillow then sees the pixels'
chunks alone, so that neither text, nor colour profiles, nor anything else that a file may carry is ever unpacked, and
no more pixels than a record may have features.

Format: Portable Network Graphics, third edition, https://www.w3.org/TR/png-3/.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.classifier.rows import check_width
from models.errors import DatasetError

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = struct.Struct(">IIBBBBB")
_BIT_DEPTH: Final = 8
_CHANNELS: Mapping[int, int] = MappingProxyType({0: 1, 2: 3})
_COLOUR_TYPES: Mapping[int, str] = MappingProxyType(
    {3: "a palette", 4: "an alpha channel", 6: "an alpha channel"}
)
_PIXELS: Final = frozenset({b"IHDR", b"IDAT", b"IEND"})
_SPECIAL: Mapping[bytes, str] = MappingProxyType(
    {b"tRNS": "has a transparent colour", b"acTL": "is an animation"}
)


class ImageShape(NamedTuple):
    """What all images of one file share."""

    channels: int
    """1 (grey) or 3 (red, green, blue)."""
    height: int
    width: int

    @property
    def features(self) -> int:
        """How many features a record has."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.width} x {self.height} pixels in {'colour' if self.channels > 1 else 'grey'}"


class ImageReader:
    """Decodes the images of one file, all of which must be of one shape.

    Attributes:
        shape: Known from the first image on.

    Raises:
        DatasetError: Pillow is not installed.
    """

    def __init__(self) -> None:
        try:
            from PIL import Image  # noqa: PLC0415 - optional, and only for data that holds images
        except ImportError:
            raise DatasetError(
                "Images need Pillow, which is not installed: `pip install 'expunge[images]'`."
            ) from None
        self._open = Image.open
        self.shape: ImageShape | None = None

    def read(self, content: object) -> npt.NDArray[np.uint8]:
        """Decode one image.

        Returns:
            Its pixels, 0 to 255, shape (channels * height * width,): channel by channel, each row by row.

        Raises:
            ValueError: It is not a sound PNG image of 8-bit grey or colour, or not of the shape of those before.
        """
        if not isinstance(content, bytes):
            raise ValueError("there is no image")  # noqa: TRY004 - bad input
        shape, bare = _strip(content)
        if self.shape is not None and shape != self.shape:
            raise ValueError(f"the image is {shape}, but those before are {self.shape}")
        self.shape = shape
        try:
            with self._open(io.BytesIO(bare), formats=["PNG"]) as image:
                pixels = np.asarray(image)  # (h, w) or (h, w, 3)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"the image's pixels are damaged ({error})") from None
        return pixels.reshape(shape.height, shape.width, shape.channels).transpose(2, 0, 1).reshape(-1)


def _strip(content: bytes) -> tuple[ImageShape, bytes]:
    """Return an image's shape, and the image with its header and pixels alone.

    Raises:
        ValueError: It is not PNG, is damaged, or holds something else than 8-bit grey or colour.
    """
    if not content.startswith(_SIGNATURE):
        raise ValueError("the image is not PNG")
    chunks = list(_chunks(content))
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or len(chunks[0][1]) != _HEADER.size or kinds.count(b"IHDR") > 1:
        raise ValueError("the image has no PNG header")
    width, height, depth, colour_type, *_ = _HEADER.unpack(chunks[0][1])
    if colour_type not in _CHANNELS:
        colours = _COLOUR_TYPES.get(colour_type, f"the unknown colour type {colour_type}")
        raise ValueError(f"the image has {colours}; save it as plain grey or RGB")
    if depth != _BIT_DEPTH:
        raise ValueError(f"the image has {depth} bits per channel; save it with 8")
    if special := next((what for kind, what in _SPECIAL.items() if kind in kinds), None):
        raise ValueError(f"the image {special}; save it as one plain image in grey or RGB")
    shape = ImageShape(_CHANNELS[colour_type], height, width)
    check_width(shape.features)
    body = b"".join(_frame(kind, data) for kind, data in chunks if kind in _PIXELS)
    return shape, _SIGNATURE + body


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and data of each chunk up to the one that ends the image."""
    position, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        end = position + 8 + int.from_bytes(content[position : position + 4]) + 4
        if position + 12 > len(content) or end > len(content):
            raise ValueError("the image is cut off")
        kind, data = content[position + 4 : position + 8], content[position + 8 : end - 4]
        if zlib.crc32(kind + data) != int.from_bytes(content[end - 4 : end]):
            raise ValueError("the image is damaged: a checksum does not agree")
        yield kind, data
        position = end


def _frame(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return len(data).to_bytes(4) + checked + zlib.crc32(checked).to_bytes(4)
