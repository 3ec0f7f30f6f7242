"""Checkpoints and data sets on a local directory or any fsspec file system.

A stored directory appears whole or not at all: it is written to a temporary place, synced, and renamed (local),
or uploaded with its manifest last (object stores, where readers know a directory by its manifest). Which
directory belongs to which version is recorded in the database, never guessed from names.
"""

import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from models.checkpoint import MANIFEST_NAME, read_manifest

CHUNK_BYTES = 1 << 20


class Storage:
    """Directories under one root URL.

    Locations are `/`-separated paths relative to the root; the service alone builds them.
    """

    def __init__(self, url: str, cache_dir: Path) -> None:
        self._filesystem, root = fsspec.core.url_to_fs(url)
        self._root = str(root)
        self._cache_dir = cache_dir
        self._fetching = threading.Lock()
        self.is_local = isinstance(self._filesystem, LocalFileSystem)

    @contextmanager
    def staging(self, name: str | None = None) -> Iterator[Path]:
        """Yield an empty local directory that is gone afterwards, unless it was published.

        Args:
            name: A unique name, for whoever may have to clean up after this process (`discard_staging`).
        """
        directory = self._staging_directory(name or uuid.uuid4().hex)
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def discard_staging(self, name: str) -> None:
        """Delete what a process that died has left in its staging directory, if it is on this file system."""
        shutil.rmtree(self._staging_directory(name), ignore_errors=True)

    def publish(self, directory: Path, location: str) -> None:
        """Make the complete local `directory` available at `location`, durably.

        Raises:
            FileExistsError: Something is there already; nothing was changed.
        """
        if self.is_local:
            destination = Path(self._root) / location
            if destination.exists():
                raise FileExistsError(location)
            _sync_tree(directory)
            destination.parent.mkdir(parents=True, exist_ok=True)
            directory.rename(destination)
            _sync_directory(destination.parent)
            return
        if self._filesystem.exists(self._path(location, MANIFEST_NAME)):
            raise FileExistsError(location)
        paths = [
            path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != MANIFEST_NAME
        ]
        for path in [*paths, directory / MANIFEST_NAME]:
            self._filesystem.put_file(str(path), self._path(location, path.relative_to(directory).as_posix()))
        shutil.rmtree(directory)

    def materialise(self, location: str) -> Path:
        """Return a local directory with the contents of `location`, fetching it once if it is remote."""
        if self.is_local:
            return Path(self._root) / location
        cached = self._cache_dir / "objects" / location
        with self._fetching:
            if cached.exists():
                return cached
            with self.staging() as directory:
                self._fetch(location, directory)
                cached.parent.mkdir(parents=True, exist_ok=True)
                try:
                    directory.rename(cached)
                except OSError:
                    if not cached.exists():  # otherwise another process was first, with the same contents
                        raise
        return cached

    def materialise_file(self, location: str, path: str) -> Path:
        """Return a local copy of one stored file, fetching that file alone, and once, if it is remote."""
        directory = self._cache_dir / "objects" / location
        if self.is_local or directory.exists():
            return self.materialise(location) / path
        cached = self._cache_dir / "files" / location / path
        if not cached.exists():
            with self.staging() as staging:
                fetched = staging / "file"
                self._filesystem.get_file(self._path(location, path), str(fetched))
                cached.parent.mkdir(parents=True, exist_ok=True)
                fetched.replace(cached)  # two threads may both fetch it; what they put here is the same
        return cached

    def read(self, location: str, path: str, start: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes of a stored file from `start`, in chunks of at most 1 MiB."""
        with self._filesystem.open(self._path(location, path), "rb", block_size=CHUNK_BYTES) as file:
            file.seek(start)
            while length > 0:
                chunk = file.read(min(CHUNK_BYTES, length))
                if not chunk:
                    raise OSError(f"{location}/{path} is shorter than its manifest says")
                length -= len(chunk)
                yield chunk

    def local_file(self, location: str, path: str) -> Path | None:
        """Return the file's path where the storage is local, else None."""
        return Path(self._root) / location / path if self.is_local else None

    def exists(self, location: str) -> bool:
        """Tell whether a whole directory is stored at `location`."""
        return bool(self._filesystem.exists(self._path(location, MANIFEST_NAME)))

    def delete(self, location: str) -> None:
        """Delete everything at `location`, its cached copies included."""
        if self._filesystem.exists(self._path(location)):
            self._filesystem.rm(self._path(location), recursive=True)
        for kind in ("objects", "files"):
            shutil.rmtree(self._cache_dir / kind / location, ignore_errors=True)

    def check(self) -> None:
        """Write, read and delete a small file.

        Raises:
            OSError: The storage cannot be used.
        """
        path = self._path(f".probe-{uuid.uuid4().hex}")
        if self.is_local:
            Path(self._root).mkdir(parents=True, exist_ok=True)
        self._filesystem.pipe_file(path, b"probe")
        intact = self._filesystem.cat_file(path) == b"probe"
        self._filesystem.rm_file(path)
        if not intact:
            raise OSError("a probe file came back changed")

    def _staging_directory(self, name: str) -> Path:
        parent = Path(self._root) / ".staging" if self.is_local else self._cache_dir / "staging"
        return parent / name

    def _path(self, location: str, *parts: str) -> str:
        return "/".join([self._root.rstrip("/"), location, *parts])

    def _fetch(self, location: str, directory: Path) -> None:
        self._filesystem.get_file(self._path(location, MANIFEST_NAME), str(directory / MANIFEST_NAME))
        for entry in read_manifest(directory).files:
            target = directory / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._filesystem.get_file(self._path(location, entry.path), str(target))


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_dir():
            _sync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
