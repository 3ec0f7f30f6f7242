"""Downloading a version: resumed where it stopped, verified to the last byte, and there whole or not at all."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from app.client.errors import DownloadError, UnreachableError
from app.client.paths import version_path
from app.client.transport import JsonObject, Progress, Transport
from models.checkpoint import MANIFEST_NAME, FileEntry, Manifest, check_file_name, verify_directory
from models.errors import CheckpointError

ATTEMPTS = 5
"""Tries of one file whose connection breaks; each goes on where the one before it stopped."""
PARTIAL_CONTENT = 206


def download_version(
    api: Transport, model: str, version: int | str, directory: Path, progress: Progress | None
) -> JsonObject:
    """Download a version; see `Client.download`."""
    found = api.get(version_path(model, version))
    number = int(found["number"])
    manifest = Manifest.from_json(api.get(f"{version_path(model, number)}/manifest"))
    if manifest.digest != found["digest"]:
        raise DownloadError(
            f"The manifest of version {number} is not the one that the version's digest names."
        )
    if directory.exists():
        _require_same(directory, manifest)
        return found
    partial = directory.with_name(f".{directory.name}.{manifest.digest[:16]}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    done = 0
    for entry in manifest.files:
        # The name comes over the network and is about to become a path.
        target = partial / check_file_name(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        before = done

        def report(count: int, *, entry: FileEntry = entry, before: int = before) -> None:
            if progress is not None:
                progress(entry.path, before + count, manifest.size)

        url = f"{version_path(model, number)}/files/{quote(entry.path)}"
        _fetch(api, url, entry, target, report)
        done += entry.size
    (partial / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    partial.rename(directory)
    return found


def _require_same(directory: Path, manifest: Manifest) -> None:
    """Accept a directory that holds this very version already; touch nothing else."""
    try:
        same = verify_directory(directory).digest == manifest.digest
    except (CheckpointError, OSError):
        same = False
    if not same:
        raise DownloadError(f"{directory} is there already and holds something else; name another directory.")


def _fetch(api: Transport, url: str, entry: FileEntry, target: Path, report: Callable[[int], None]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(api, url, entry, target, report)
            break
        except UnreachableError:
            if attempt == ATTEMPTS:
                raise
    if target.stat().st_size != entry.size or _digest(target) != entry.sha256:
        target.unlink()
        raise DownloadError(f"{entry.path} arrived damaged: its digest is not the manifest's. Try again.")


def _fetch_rest(
    api: Transport, url: str, entry: FileEntry, target: Path, report: Callable[[int], None]
) -> None:
    """Fetch what is missing of one file."""
    have = target.stat().st_size if target.exists() else 0
    if have >= entry.size > 0:
        report(have)
        return
    # If-Range asks for the whole file, should it no longer be the one whose beginning lies here.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{entry.sha256}"'}
    with api.stream(url, headers) as response:
        resumed = response.status_code == PARTIAL_CONTENT
        have = have if resumed else 0
        with target.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
                have += len(chunk)
                report(have)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
