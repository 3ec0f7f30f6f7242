"""The on-disk format of checkpoints and snapshots: plain files, safetensors, and a manifest; torch-free.

A directory is known by its manifest: the sha256 and size of every other file in it. The manifest's own digest
therefore names the whole directory.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from models.errors import CheckpointError
from models.safetensors_file import TensorInfo, check_safetensors
from models.strict_json import parse_object

__all__ = [
    "CONFIG_NAME",
    "MANIFEST_NAME",
    "FileEntry",
    "Manifest",
    "TensorInfo",
    "check_checkpoint",
    "check_file_name",
    "check_safetensors",
    "list_files",
    "read_json_object",
    "read_manifest",
    "verify_directory",
    "write_manifest",
]

MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.json"
MAX_CONFIG_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 64 << 20
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
"""What common file systems accept as one name."""

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class FileEntry:
    """One file of a directory."""

    path: str
    """Relative, `/`-separated."""
    sha256: str
    """Lower-case hexadecimal digest."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Manifest:
    """Every file of a directory except the manifest itself, sorted by path."""

    files: tuple[FileEntry, ...]

    @cached_property
    def digest(self) -> str:
        """The sha256 of the manifest file, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def entry(self, path: str) -> FileEntry:
        """Return the entry of one file.

        Raises:
            KeyError: There is no such file.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(path)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return {
            "files": [
                {"path": entry.path, "sha256": entry.sha256, "size": entry.size} for entry in self.files
            ]
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON: sorted keys, no spaces, ASCII. These are the manifest file's bytes."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a manifest back from JSON values.

        Raises:
            CheckpointError: They are not a manifest.
        """
        files = value.get("files")
        if value.keys() != {"files"} or not isinstance(files, list):
            raise CheckpointError(f"{MANIFEST_NAME} must have one key, files, with a list.")
        entries = sorted((_entry_from_json(file) for file in files), key=lambda entry: entry.path)
        if len({entry.path for entry in entries}) < len(entries):
            raise CheckpointError(f"{MANIFEST_NAME} names a file twice.")
        return cls(tuple(entries))


def write_manifest(directory: Path) -> Manifest:
    """Hash every file of a directory and write its manifest, replacing an older one.

    Raises:
        CheckpointError: The directory holds a link, a special file or a file with an unusable name.
    """
    manifest = Manifest(
        tuple(_hash_file(directory, path) for path in sorted(list_files(directory)) if path != MANIFEST_NAME)
    )
    (directory / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Read a directory's manifest without comparing it with the files.

    Raises:
        CheckpointError: It is missing or malformed.
    """
    return Manifest.from_json(read_json_object(directory / MANIFEST_NAME, MAX_MANIFEST_BYTES))


def verify_directory(directory: Path) -> Manifest:
    """Compare every file of a directory with its manifest.

    Raises:
        CheckpointError: A file is missing, damaged or not in the manifest, or the manifest is not canonical.
    """
    manifest = read_manifest(directory)
    if (directory / MANIFEST_NAME).read_bytes() != manifest.to_bytes():
        raise CheckpointError(f"{MANIFEST_NAME} is not in its canonical form.")
    _compare(directory, manifest)
    return manifest


def check_file_name(name: str) -> str:
    """Return `name` if it is a harmless relative path with `/` between its parts.

    Raises:
        CheckpointError: It is absolute, leaves its directory, or holds characters that some reader would
            understand differently.

    >>> check_file_name("tokenizer/vocabulary.json")
    'tokenizer/vocabulary.json'
    >>> check_file_name("../config.json")
    Traceback (most recent call last):
    ...
    models.errors.CheckpointError: '../config.json' is not an acceptable file name: use a plain relative path.
    """
    parts = name.split("/")
    # isprintable() also excludes lone surrogates, so encoding cannot fail after it.
    if (
        not name.isprintable()
        or "\\" in name
        or any(part in {"", ".", ".."} or len(part.encode()) > MAX_PART_BYTES for part in parts)
        or len(name.encode()) > MAX_PATH_BYTES
    ):
        raise CheckpointError(f"{name[:100]!r} is not an acceptable file name: use a plain relative path.")
    return name


def check_checkpoint(directory: Path, suffixes: Collection[str]) -> Manifest:
    """Check a directory that came from outside, and leave it with a canonical manifest.

    Args:
        directory: The directory; if it has a manifest, its files must agree with it.
        suffixes: File-name suffixes that its family allows, such as `.safetensors`.

    Raises:
        CheckpointError: A file is not allowed, missing or damaged, or a weight is not finite.
    """
    paths = [path for path in list_files(directory) if path != MANIFEST_NAME]
    for path in paths:
        if Path(path).suffix not in suffixes:
            raise CheckpointError(
                f"{path!r} does not belong in this checkpoint; allowed: {', '.join(sorted(suffixes))}."
            )
    if CONFIG_NAME not in paths:
        raise CheckpointError(f"The checkpoint has no {CONFIG_NAME}.")
    read_json_object(directory / CONFIG_NAME, MAX_CONFIG_BYTES)
    weights = [path for path in paths if path.endswith(".safetensors")]
    if not weights:
        raise CheckpointError("The checkpoint has no .safetensors file.")
    supplied = (directory / MANIFEST_NAME).exists()
    if supplied:
        _compare(directory, read_manifest(directory))
    for path in weights:
        check_safetensors(directory / path)
    return write_manifest(directory)


def list_files(directory: Path) -> Iterator[str]:
    """Yield every file's checked path below a directory; links and special files are refused, not followed.

    Raises:
        CheckpointError: The directory holds one, or a file with an unusable name.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(directory / prefix) as entries:
            for entry in entries:
                path = check_file_name(prefix + entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    yield path
                else:
                    raise CheckpointError(
                        f"{path!r} is a link or special file; only plain files are allowed."
                    )


def read_json_object(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object strictly (`models.strict_json`), and never more than `max_bytes`.

    Raises:
        CheckpointError: The file is missing, too long, or not such an object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
        if len(text) > max_bytes:
            raise CheckpointError(f"{path.name} is longer than {max_bytes} bytes.")
        return parse_object(text)
    except FileNotFoundError:
        raise CheckpointError(f"There is no {path.name}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path.name} is not usable: {error}.") from None


def _entry_from_json(value: object) -> FileEntry:
    if not isinstance(value, dict) or value.keys() != {"path", "sha256", "size"}:
        raise CheckpointError(f"Each file in {MANIFEST_NAME} must have exactly path, sha256 and size.")
    path, sha256, size = value["path"], value["sha256"], value["size"]
    if not isinstance(path, str) or check_file_name(path) == MANIFEST_NAME:
        raise CheckpointError(f"{MANIFEST_NAME} names a file that it cannot contain.")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise CheckpointError(f"{MANIFEST_NAME} has no sha256 for {path!r}.")
    if type(size) is not int or size < 0:
        raise CheckpointError(f"{MANIFEST_NAME} has no size for {path!r}.")
    return FileEntry(path, sha256, size)


def _hash_file(directory: Path, path: str) -> FileEntry:
    with (directory / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(path, digest.hexdigest(), file.tell())


def _compare(directory: Path, manifest: Manifest) -> None:
    present = {path for path in list_files(directory) if path != MANIFEST_NAME}
    expected = {entry.path for entry in manifest.files}
    if missing := sorted(expected - present):
        raise CheckpointError(f"Files of the manifest are missing: {', '.join(map(repr, missing[:20]))}.")
    if extra := sorted(present - expected):
        raise CheckpointError(f"Files are not in the manifest: {', '.join(map(repr, extra[:20]))}.")
    for entry in manifest.files:
        if (directory / entry.path).stat().st_size != entry.size:
            raise CheckpointError(f"{entry.path!r} does not have the size that the manifest states.")
        if _hash_file(directory, entry.path) != entry:
            raise CheckpointError(f"{entry.path!r} does not have the sha256 that the manifest states.")
