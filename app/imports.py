"""Server-side imports: files that the service fetches itself, from places its administrator allowed.

Everything is copied into a staging directory first, so that what is checked is what is kept, even when the
source changes meanwhile.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import fsspec

from app.errors import ServiceError
from app.settings import Settings
from app.uploads import MAX_FILES, ReceivedFile
from models.checkpoint import check_file_name

CHUNK_BYTES = 1 << 20
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)
_FILE_SCHEME = "file://"


class ImportNotAllowedError(ServiceError):
    """The URI lies outside every allowed root."""

    status, slug, title = 403, "import-not-allowed", "Import not allowed"

    def __init__(self) -> None:
        # The roots are not listed: they tell how the server is laid out.
        super().__init__(
            "The URI lies outside the places this service may import from (EXPUNGE_IMPORT_ROOTS); "
            "ask its administrator, or upload the files."
        )


class ImportFailedError(ServiceError):
    """The URI is allowed, but cannot be read."""

    status, slug, title = 422, "import-failed", "Import failed"


def import_files(settings: Settings, uri: str, directory: Path) -> tuple[ReceivedFile, ...]:
    """Copy the file, or all files of the directory, at `uri` into `directory`; blocking.

    Args:
        settings: Its import roots bound where files may come from, its upload limit how much.
        uri: An absolute local path, a `file://` URL, or an fsspec URL.
        directory: An existing empty directory, which the caller deletes whatever happens.

    Raises:
        ImportNotAllowedError: The URI, or a link below it, leaves the import roots.
        ImportFailedError: There is nothing there, it cannot be read, or it is too large.
        CheckpointError: A file has an unusable name.
    """
    copier = _Copier(directory, settings.max_upload_bytes)
    try:
        if not _SCHEME.match(uri) or uri.startswith(_FILE_SCHEME):
            _import_local(settings.import_roots, uri.removeprefix(_FILE_SCHEME), copier)
        else:
            _import_remote(settings.import_roots, uri, copier)
    except OSError as error:
        raise ImportFailedError(f"{uri!r} cannot be read ({type(error).__name__}).") from error
    if not copier.files:
        raise ImportFailedError(f"There are no files at {uri!r}.")
    return tuple(copier.files)


class _Copier:
    """Copies files one by one, within the limits of an upload."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._left = max_bytes
        self.files: list[ReceivedFile] = []

    def copy(self, source: BinaryIO, name: str) -> None:
        if len(self.files) >= MAX_FILES:
            raise ImportFailedError(f"An import may hold at most {MAX_FILES} files.")
        target = self._directory / check_file_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with target.open("xb") as file:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                if size > self._left:
                    raise ImportFailedError(f"An import may hold at most {self._max_bytes} bytes.")
                digest.update(chunk)
                file.write(chunk)
        self._left -= size
        self.files.append(ReceivedFile(name, digest.hexdigest(), size))


def _import_local(roots: tuple[str, ...], path: str, copier: _Copier) -> None:
    allowed = [
        Path(root.removeprefix(_FILE_SCHEME)).resolve()
        for root in roots
        if not _SCHEME.match(root) or root.startswith(_FILE_SCHEME)
    ]
    source = _resolve(path, allowed)
    if source.is_dir():
        for file, name in _walk(source):
            _copy_local(_resolve(str(file), allowed), name, copier)
    else:
        _copy_local(source, source.name, copier)


def _resolve(path: str, allowed: list[Path]) -> Path:
    """Follow every link, then judge where that led: a link inside a root may point anywhere."""
    real = Path(path).resolve()
    if not Path(path).is_absolute() or not any(real.is_relative_to(root) for root in allowed):
        raise ImportNotAllowedError
    return real


def _walk(directory: Path) -> Iterator[tuple[Path, str]]:
    for parent, directories, names in os.walk(directory, followlinks=False):
        directories.sort()
        for name in sorted(names):
            file = Path(parent) / name
            yield file, file.relative_to(directory).as_posix()


def _copy_local(file: Path, name: str, copier: _Copier) -> None:
    # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever; O_NOFOLLOW refuses a link that
    # took the file's place since it was resolved.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ImportFailedError(f"{name!r} is not a plain file.")
        copier.copy(source, name)


def _import_remote(roots: tuple[str, ...], uri: str, copier: _Copier) -> None:
    # `::` would chain file systems, and the other characters would ask a web server for something else.
    steps = unquote(uri).split("/")
    if "::" in uri or "?" in uri or "#" in uri or "\\" in uri or ".." in steps or "." in steps:
        raise ImportNotAllowedError
    if not any(f"{uri.rstrip('/')}/".startswith(f"{root.rstrip('/')}/") for root in roots if "://" in root):
        raise ImportNotAllowedError
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
        for file, name in _list_remote(filesystem, path):
            with filesystem.open(file, "rb", block_size=CHUNK_BYTES) as source:
                copier.copy(source, name)
    except (ServiceError, OSError):
        raise
    except Exception as error:
        # Each backend raises what its own client library raises; all of it means that the source failed.
        raise ImportFailedError(f"{uri!r} cannot be read ({type(error).__name__}).") from error


def _list_remote(filesystem: Any, path: str) -> list[tuple[str, str]]:
    if filesystem.isfile(path):
        return [(path, path.rsplit("/", 1)[-1])]
    prefix = f"{path.rstrip('/')}/"
    return [(file, file.removeprefix(prefix)) for file in sorted(filesystem.find(path))]
