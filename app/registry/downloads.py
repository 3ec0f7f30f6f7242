"""Answers that stream stored bytes, with what HTTP has for large immutable files (RFC 9110, 9111, 9530)."""

import base64
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.registry.archive import Segment
from app.registry.errors import RangeNotSatisfiableError
from app.storage import Storage

CACHE_CONTROL = "private, max-age=300, immutable"
"""The bytes never change, but a version can be quarantined: no client may rely on its copy for long."""

_SINGLE_RANGE = re.compile(
    r"bytes=\s*(?:(?P<first>\d{1,18})-(?P<last>\d{1,18})?|-(?P<suffix>\d{1,18}))\s*", re.ASCII
)


@dataclass(frozen=True)
class Download:
    """One immutable thing that can be downloaded."""

    segments: tuple[Segment, ...]
    etag: str
    """Without quotes; strong: equal tags mean equal bytes."""
    media_type: str
    filename: str
    modified: dt.datetime
    sha256: str | None = None
    """Of all bytes, in hexadecimal, where it is known."""

    @property
    def size(self) -> int:
        """Bytes of all segments together."""
        return sum(_size(segment) for segment in self.segments)


def respond(request: Request, download: Download, storage: Storage, location: str) -> Response:
    """Answer a GET or HEAD; the body streams from storage after this returned.

    Raises:
        RangeNotSatisfiableError: The range asked for begins after the end.
        OSError: The storage does not give the first bytes.
    """
    headers = _headers(download)
    if _is_known(request.headers, download):
        return Response(status_code=304, headers=headers)
    size = download.size
    first, length, status = 0, size, 200
    if request.method == "GET" and _may_be_partial(request.headers, download):
        wanted = _parse_range(request.headers.get("range", ""), size)
        if wanted is not None:
            first, length = wanted
            status = 206
            headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{size}"
    headers |= {
        "Content-Length": str(length),
        "Content-Type": download.media_type,
        "Content-Disposition": content_disposition(download.filename),
        "X-Content-Type-Options": "nosniff",
    }
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    chunks = _chunks(storage, location, download.segments, first, length)
    start = next(chunks, b"")  # a file that cannot be read is an error now, not a body that breaks off
    return StreamingResponse(_after(start, chunks), status_code=status, headers=headers)


def content_disposition(filename: str) -> str:
    r"""Name a download, for old clients in ASCII and for all others as it is (RFC 6266).

    >>> content_disposition('a "b".json')
    'attachment; filename="a _b_.json"; filename*=UTF-8\'\'a%20%22b%22.json'
    """
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _headers(download: Download) -> dict[str, str]:
    headers = {
        "ETag": f'"{download.etag}"',
        "Last-Modified": format_datetime(download.modified.astimezone(dt.UTC), usegmt=True),
        "Cache-Control": CACHE_CONTROL,
        "Accept-Ranges": "bytes",
    }
    if download.sha256 is not None:
        digest = base64.b64encode(bytes.fromhex(download.sha256)).decode()
        headers["Repr-Digest"] = f"sha-256=:{digest}:"
    return headers


def _is_known(headers: Mapping[str, str], download: Download) -> bool:
    """Tell whether the client says that it has the bytes already (RFC 9110, sections 13.1.2 and 13.1.3)."""
    tags = headers.get("if-none-match")
    if tags is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "*" in known or f'"{download.etag}"' in known
    since = _parse_date(headers.get("if-modified-since", ""))
    return since is not None and download.modified.replace(microsecond=0) <= since


def _may_be_partial(headers: Mapping[str, str], download: Download) -> bool:
    """Tell whether a range would be of the bytes that the client began with (RFC 9110, section 13.1.5)."""
    condition = headers.get("if-range")
    if condition is None or condition == f'"{download.etag}"':
        return True
    return _parse_date(condition) == download.modified.replace(microsecond=0)


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the length of a single range; None for anything that is not one.

    Several ranges are answered with the whole, as RFC 9110, section 14.2, allows.

    Raises:
        RangeNotSatisfiableError: The range begins after the end.
    """
    match = _SINGLE_RANGE.fullmatch(text)
    if match is None:
        return None
    if match["suffix"] is not None:
        length = min(int(match["suffix"]), size)
        if length == 0:
            raise RangeNotSatisfiableError(size)
        return size - length, length
    first = int(match["first"])
    last = min(int(match["last"] or size - 1), size - 1)
    if match["last"] is not None and int(match["last"]) < first:
        return None  # not a range at all (RFC 9110, section 14.1.1)
    if first >= size:
        raise RangeNotSatisfiableError(size)
    return first, last - first + 1


def _parse_date(text: str) -> dt.datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=dt.UTC)


def _size(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else segment.size


def _chunks(
    storage: Storage, location: str, segments: tuple[Segment, ...], first: int, length: int
) -> Iterator[bytes]:
    """Yield `length` bytes of all segments together, beginning with byte `first`."""
    for segment in segments:
        size = _size(segment)
        taken = min(max(size - first, 0), length)
        if taken > 0:
            if isinstance(segment, bytes):
                yield segment[first : first + taken]
            else:
                yield from storage.read(location, segment.path, first, taken)
        first = max(first - size, 0)
        length -= taken


def _after(start: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield start
    yield from chunks
