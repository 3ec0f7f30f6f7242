"""Uploads: multipart bodies whose files stream straight to disk.

Starlette's own form parser spools every file to a temporary place first, so that each byte would be written
twice, and knows nothing of digests. Here each byte is parsed, hashed and written once, in a worker thread, a
mebibyte at a time: memory stays flat and the event loop free, whatever the size.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastapi.concurrency import run_in_threadpool
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.body_limit import expect_upload
from app.errors import ServiceError
from models.checkpoint import check_file_name
from models.errors import CheckpointError

BATCH_BYTES = 1 << 20
MAX_FILES = 1000
MAX_METADATA_BYTES = 1 << 20
METADATA_PART = "metadata"
FILES_PART = "files"
ESCAPES = {"%0A": "\n", "%0D": "\r", "%22": '"'}
"""How clients write these characters in a file name (HTML standard, multipart/form-data encoding)."""


class UploadRefusedError(ServiceError):
    """The multipart body is not one that this service reads."""

    status, slug, title = 422, "invalid-upload", "Upload refused"


class UploadCutOffError(ServiceError):
    """The body ended too early."""

    status, slug, title = 400, "upload-cut-off", "Upload cut off"

    def __init__(self) -> None:
        super().__init__("The upload ended before its closing boundary; nothing was kept. Send it again.")


@dataclass(frozen=True)
class ReceivedFile:
    """One file as it arrived."""

    path: str
    """Relative and checked."""
    sha256: str
    """In hexadecimal."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Upload:
    """What a multipart body held besides the files' bytes."""

    metadata: bytes
    files: tuple[ReceivedFile, ...]


async def receive_upload(request: Request, directory: Path) -> Upload:
    """Stream a multipart body's files into `directory`, which the caller deletes whatever happens.

    Raises:
        UploadRefusedError: The body is not well-formed, or breaks a limit.
        UploadCutOffError: It ended too early.
        CheckpointError: A file has an unusable name.
        HTTPException: It is larger than an upload may be.
    """
    expect_upload(request)
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise UploadRefusedError("The Content-Type of a multipart body must name its boundary.")
    receiver = UploadReceiver(boundary, directory)
    try:
        async with aclosing(_batches(request)) as batches:
            async for batch in batches:
                await run_in_threadpool(receiver.feed, batch)
        return receiver.finish()
    except ClientDisconnect:
        raise UploadCutOffError from None  # nobody will read this answer; it only ends the call in order
    finally:
        receiver.close()


async def _batches(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body in larger pieces: a thread per network packet would cost more than the work itself."""
    pieces: list[bytes] = []
    size = 0
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size >= BATCH_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
    yield b"".join(pieces)


class UploadReceiver:
    """Takes a multipart body in pieces; blocking, for a worker thread.

    Args:
        boundary: The boundary that the Content-Type names.
        directory: An existing directory that the files are written to.
    """

    def __init__(self, boundary: bytes, directory: Path) -> None:
        self._directory = directory
        self._files: list[ReceivedFile] = []
        self._names: set[str] = set()
        self._directories: set[str] = set()
        self._metadata: bytes | None = None
        self._part: _FilePart | _MetadataPart | None = None
        self._complete = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise UploadRefusedError(f"The multipart body cannot be read: {error}.") from None

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            UploadRefusedError: The body is not well-formed, or breaks a limit.
            CheckpointError: A file has an unusable name.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise UploadRefusedError(f"The multipart body cannot be read: {error}.") from None

    def finish(self) -> Upload:
        """Return what was received, once the whole body was fed.

        Raises:
            UploadCutOffError: The closing boundary never came.
            UploadRefusedError: There were no metadata or no files.
        """
        if not self._complete:
            raise UploadCutOffError
        if self._metadata is None:
            raise UploadRefusedError(f"The upload needs a JSON part named {METADATA_PART!r}.")
        if not self._files:
            raise UploadRefusedError(f"The upload needs at least one file in a part named {FILES_PART!r}.")
        return Upload(self._metadata, tuple(self._files))

    def close(self) -> None:
        """Close the file that was being written, if any."""
        if self._part is not None:
            self._part.close()

    def _begin_part(self) -> None:
        self._disposition = b""

    def _begin_header(self) -> None:
        self._header_name = self._header_value = b""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]  # the parser bounds a header's length and a part's headers

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value

    def _open_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = _text(options.get(b"name", b""))
        if name == METADATA_PART:
            if self._metadata is not None:
                raise UploadRefusedError(f"There are two parts named {METADATA_PART!r}.")
            self._part = _MetadataPart()
        elif name == FILES_PART and b"filename" in options:
            path = check_file_name(_unescape(_text(options[b"filename"])))
            self._claim_name(path)
            self._part = _FilePart(self._directory, path)
        else:
            raise UploadRefusedError(
                f"Unexpected part {name[:100]!r}: send one JSON part named {METADATA_PART!r} and the files, each "
                f"with its file name, in parts named {FILES_PART!r}."
            )

    def _claim_name(self, path: str) -> None:
        if len(self._names) >= MAX_FILES:
            raise UploadRefusedError(f"An upload may hold at most {MAX_FILES} files.")
        parents = {str(parent) for parent in PurePosixPath(path).parents}
        if path in self._names or path in self._directories or parents & self._names:
            raise CheckpointError(f"The file name {path!r} is used twice.")
        self._names.add(path)
        self._directories |= parents

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if isinstance(part, _FilePart):
            self._files.append(part.finish())
        elif isinstance(part, _MetadataPart):
            self._metadata = bytes(part.content)

    def _end(self) -> None:
        self._complete = True


class _FilePart:
    def __init__(self, directory: Path, path: str) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = target.open("xb")

    def write(self, data: memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    def finish(self) -> ReceivedFile:
        self._file.close()
        return ReceivedFile(self._path, self._digest.hexdigest(), self._size)

    def close(self) -> None:
        self._file.close()


class _MetadataPart:
    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, data: memoryview) -> None:
        if len(self.content) + len(data) > MAX_METADATA_BYTES:
            raise UploadRefusedError(f"The part {METADATA_PART!r} is larger than {MAX_METADATA_BYTES} bytes.")
        self.content += data

    def close(self) -> None:
        """Nothing is held open."""


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UploadRefusedError("Names of parts and files must be UTF-8.") from None


def _unescape(name: str) -> str:
    for escape, character in ESCAPES.items():
        name = name.replace(escape, character)
    return name
