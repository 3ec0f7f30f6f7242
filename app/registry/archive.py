"""A version as one uncompressed tar file whose every byte is known in advance.

Names, order, times and owners follow from the manifest alone. So the length is known before the first byte is
sent, and a client that was cut off can go on in the middle: nothing is built, in memory or on disk.
"""

import tarfile
from dataclasses import dataclass

from models.checkpoint import MANIFEST_NAME, FileEntry, Manifest

FORMAT = 1
"""Goes up with every change of what `tar_segments` returns: an ETag must not outlive its bytes."""


@dataclass(frozen=True)
class StoredPart:
    """The bytes of one stored file."""

    path: str
    size: int


Segment = bytes | StoredPart
"""What a download is put together from."""


def tar_segments(manifest: Manifest, folder: str, modified: int) -> tuple[Segment, ...]:
    """Return the archive, piece by piece.

    Args:
        manifest: The version's files.
        folder: What the archive unpacks into.
        modified: Seconds since 1970, the time of every member.
    """
    files = [FileEntry(MANIFEST_NAME, manifest.digest, len(manifest.to_bytes())), *manifest.files]
    segments: list[Segment] = []
    for entry in sorted(files, key=lambda entry: entry.path):
        segments.append(_header(f"{folder}/{entry.path}", entry.size, modified))
        segments.append(StoredPart(entry.path, entry.size))
        segments.append(bytes(-entry.size % tarfile.BLOCKSIZE))
    segments.append(bytes(2 * tarfile.BLOCKSIZE))
    return tuple(segments)


def _header(name: str, size: int, modified: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = modified
    member.mode = 0o644
    # POSIX.1-2001: the only form without limits on names and sizes that every reader knows.
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
