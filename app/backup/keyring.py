"""The keyring: one key per thing that a backup seals, in files outside every backup.

To erase a thing from all backups there are, its key is shredded. A key is a file of 32 random bytes that only its
owner may read. It is overwritten before it is unlinked; on flash memory and on file systems that copy on write
that says little about the medium, so the directory belongs on a volume that is encrypted or can be discarded.
"""

import os
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path

from app.backup.sealing import KEY_BYTES

SUFFIX = ".key"
SLASH = "~"
"""Stands for `/` in a file name; no location has it."""


class Keyring:
    """Keys by kind and name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def obtain(self, kind: str, name: str) -> bytes:
        """Return the key of a thing, made now if it has none."""
        known = self.find(kind, name)
        if known is not None:
            return known
        path = self._path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = path.with_name(f".{uuid.uuid4().hex}")
        _write_durably(made, secrets.token_bytes(KEY_BYTES))
        try:
            os.link(made, path)  # unlike a rename, it leaves the key that another process was first with
        except FileExistsError:
            pass
        finally:
            made.unlink()
        return path.read_bytes()

    def find(self, kind: str, name: str) -> bytes | None:
        """Return the key of a thing; None where it has none, or none any more."""
        try:
            return self._path(kind, name).read_bytes()
        except FileNotFoundError:
            return None

    def shred(self, kind: str, name: str) -> None:
        """Overwrite and delete a key; doing it again is harmless."""
        path = self._path(kind, name)
        try:
            with path.open("r+b") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        except FileNotFoundError:
            return
        sync_directory(path.parent)

    def names(self, kind: str) -> Iterator[str]:
        """Yield the names of all things of a kind that have a key."""
        directory = self.directory / kind
        for path in sorted(directory.glob(f"*{SUFFIX}")) if directory.is_dir() else ():
            yield path.name.removesuffix(SUFFIX).replace(SLASH, "/")

    def sync(self) -> None:
        """Return once every key that was made is on the disk: a backup without its keys is worth nothing."""
        for kind in self.directory.iterdir():
            if kind.is_dir():
                sync_directory(kind)
        sync_directory(self.directory)

    def _path(self, kind: str, name: str) -> Path:
        return self.directory / kind / f"{name.replace('/', SLASH)}{SUFFIX}"


def sync_directory(directory: Path) -> None:
    """Return once the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
