"""Sealed files: AES-256-GCM by `cryptography`, in segments, so that nothing unverified is ever handed on.

A sealed file is a row of segments: length (4 bytes, big-endian), nonce (12 random bytes), ciphertext with its tag.
Each segment is bound to the file's name, its place and whether it is the last, so that segments cannot be moved,
dropped or taken from another file unnoticed.
"""

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.backup.errors import BackupError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
LENGTH_BYTES = 4
SEGMENT_BYTES = 4 << 20


def seal(key: bytes, name: str, chunks: Iterable[bytes], out: BinaryIO) -> None:
    """Write the bytes of all chunks, sealed under `key`, as the file called `name`."""
    cipher = AESGCM(key)
    segments = _segments(chunks)
    current: bytes | None = next(segments)
    place = 0
    while current is not None:
        following = next(segments, None)
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, current, _bound_to(name, place, last=following is None))
        out.write(len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed)
        current, place = following, place + 1


def unseal(key: bytes, name: str, source: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a sealed file, segment by segment, each verified before it is handed out.

    Raises:
        BackupError: It was changed, cut off, or sealed under another key or name.
    """
    cipher = AESGCM(key)
    current, place = _read(source), 0
    while True:
        following = _read(source)
        nonce, sealed = current[:NONCE_BYTES], current[NONCE_BYTES:]
        try:
            yield cipher.decrypt(nonce, sealed, _bound_to(name, place, last=not following))
        except (InvalidTag, ValueError):
            raise BackupError(f"{name} in the backup was changed, or sealed under another key.") from None
        if not following:
            return
        current, place = following, place + 1


def seal_bytes(key: bytes, name: str, value: bytes) -> bytes:
    """Return a short value, sealed: nonce, ciphertext and tag."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, value, name.encode())


def unseal_bytes(key: bytes, name: str, sealed: bytes) -> bytes:
    """Return what `seal_bytes` was given.

    Raises:
        BackupError: It was changed, or sealed under another key or name.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode())
    except (InvalidTag, ValueError):
        raise BackupError(f"{name} in the backup was changed, or sealed under another key.") from None


def _segments(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a stream into segments; an empty stream is one empty segment."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) > SEGMENT_BYTES:
            yield bytes(held[:SEGMENT_BYTES])
            del held[:SEGMENT_BYTES]
    yield bytes(held)


def _bound_to(name: str, place: int, *, last: bool) -> bytes:
    return f"{place}/{'last' if last else 'more'}/{name}".encode()


def _read(source: BinaryIO) -> bytes:
    length = int.from_bytes(source.read(LENGTH_BYTES), "big")
    if length > NONCE_BYTES + SEGMENT_BYTES + TAG_BYTES:
        raise BackupError("A file of the backup is damaged: a segment is longer than segments are.")
    return source.read(length)
