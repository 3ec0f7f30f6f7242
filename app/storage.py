"""Checkpoints and data sets on a local directory or any fsspec file system.

A stored directory appears whole or not at all: it is written to a temporary place, synced, and renamed (local),
or uploaded with its manifest last (object stores, where readers know a directory by its manifest). Which
directory belongs to which version is recorded in the database, never guessed from names.
"""

import datetime as dt
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from models.checkpoint import MANIFEST_NAME, read_manifest

CHUNK_BYTES = 1 << 20


CACHES = ("objects", "files")
"""Directories of the cache: whole directories, and single files."""


@dataclass(frozen=True)
class Found:
    """A directory that was found by looking; whether it counts, a row says."""

    location: str
    modified: dt.datetime
    """When anything in it last changed, by the storage's clock."""


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
        with _held(directory):
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)

    def discard_staging(self, name: str) -> None:
        """Delete what a process that died has left in its staging directory, if it is on this file system."""
        shutil.rmtree(self._staging_directory(name), ignore_errors=True)

    def abandoned_staging(self, before: dt.datetime) -> Iterator[str]:
        """Yield the names of staging directories that no process holds and nothing was written to since `before`."""
        parent = self._staging_directory("any").parent
        for directory in sorted(parent.iterdir()) if parent.is_dir() else ():
            with suppress(FileNotFoundError):  # its process has ended it meanwhile
                if _newest(directory) < before and not _is_held(directory):
                    yield directory.name

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
            os.utime(directory)  # its age counts from now, however long its files took to be written
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

    def read_whole(self, location: str, path: str) -> bytes:
        """Return the bytes of a small stored file."""
        content: bytes = self._filesystem.cat_file(self._path(location, path))
        return content

    def local_file(self, location: str, path: str) -> Path | None:
        """Return the file's path where the storage is local, else None."""
        return Path(self._root) / location / path if self.is_local else None

    def exists(self, location: str) -> bool:
        """Tell whether a whole directory is stored at `location`."""
        return bool(self._filesystem.exists(self._path(location, MANIFEST_NAME)))

    def delete(self, location: str) -> None:
        """Delete everything at `location`, durably, and this machine's cached copies; doing it again is harmless.

        Raises:
            OSError: Something is still there.
        """
        if self.is_local:
            path = Path(self._root) / location
            _remove_tree(path)
            if path.parent.is_dir():
                _sync_directory(path.parent)
        else:
            self._filesystem.invalidate_cache()  # what a listing said once may have changed since
            with suppress(FileNotFoundError):
                self._filesystem.rm(self._path(location), recursive=True)
            self._filesystem.invalidate_cache()
            if self._filesystem.exists(self._path(location)):
                raise OSError(f"{location} could not be deleted")
        self.delete_cached(location)

    def delete_cached(self, location: str) -> None:
        """Delete this machine's copies of what is, or was, at `location`."""
        for kind in CACHES:
            _remove_tree(self._cache_dir / kind / location)

    def cached(self, root: str, depth: int) -> set[str]:
        """Return the locations, `depth` parts below `root`, that this machine has copies of."""
        return {
            path.relative_to(self._cache_dir / kind).as_posix()
            for kind in CACHES
            for path in _directories(self._cache_dir / kind / root, depth)
        }

    def directories(self, root: str, depth: int) -> Iterator[Found]:
        """Yield what lies `depth` parts below `root`, whole directories and half-written ones alike.

        Where the file system does not know when a file was written, nothing is found: nobody could tell what is
        just being written.
        """
        if self.is_local:
            for path in _directories(Path(self._root) / root, depth):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield Found(path.relative_to(self._root).as_posix(), _newest(path))
            return
        self._filesystem.invalidate_cache()
        newest: dict[str, dt.datetime] = {}
        unknown: set[str] = set()
        for path, details in self._filesystem.find(self._path(root), detail=True).items():
            location = self._location(path, depth + len(PurePosixPath(root).parts))
            modified = self._modified(path, details)
            if modified is None:
                unknown.add(location)
            else:
                newest[location] = max(modified, newest.get(location, modified))
        for location in sorted(newest.keys() - unknown):
            yield Found(location, newest[location])

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

    def _location(self, path: str, parts: int) -> str:
        """Return the first parts of a path that the file system has listed, relative to the root."""
        relative = f"/{path.lstrip('/')}".removeprefix(f"/{self._root.strip('/')}/")
        return "/".join(relative.split("/")[:parts])

    def _modified(self, path: str, details: dict[str, Any]) -> dt.datetime | None:
        """Return when an object was written, from its listing where that says so."""
        known = details.get("LastModified")
        try:
            modified = known if isinstance(known, dt.datetime) else self._filesystem.modified(path)
        except NotImplementedError:
            return None
        except FileNotFoundError:  # deleted meanwhile
            return None
        return modified.replace(tzinfo=dt.UTC) if modified.tzinfo is None else modified

    def _fetch(self, location: str, directory: Path) -> None:
        self._filesystem.get_file(self._path(location, MANIFEST_NAME), str(directory / MANIFEST_NAME))
        for entry in read_manifest(directory).files:
            target = directory / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._filesystem.get_file(self._path(location, entry.path), str(target))


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Show every process of this machine that somebody works in `directory`; it shows until the process dies."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        # Some shared file systems know no locks; there a directory's age alone protects it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_held(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _directories(parent: Path, depth: int) -> list[Path]:
    return sorted(path for path in parent.glob("/".join(["*"] * depth)) if path.is_dir())


def _newest(directory: Path) -> dt.datetime:
    """Return when anything in a directory was last written, renamed or linked.

    Raises:
        FileNotFoundError: It is being deleted, or moved away.
    """
    times = [path.lstat() for path in (directory, *directory.rglob("*"))]
    return dt.datetime.fromtimestamp(max(max(found.st_mtime, found.st_ctime) for found in times), dt.UTC)


def _remove_tree(path: Path) -> None:
    """Delete a directory; another process may be deleting it too."""
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


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
