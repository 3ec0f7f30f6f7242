"""What of a version can be downloaded."""

import datetime as dt
from collections.abc import Callable
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response

from app.registry import downloads
from app.registry.archive import FORMAT, StoredPart, tar_segments
from app.registry.downloads import Download
from app.registry.errors import FileNotInVersionError
from app.storage import Storage
from app.tables import Model, Version
from models.checkpoint import MANIFEST_NAME, Manifest

Describe = Callable[[Model, Version], Download]


def respond(
    request: Request, storage: Storage, model: Model, version: Version, describe: Describe
) -> Response:
    """Answer a download of what `describe` makes of a version."""
    return downloads.respond(request, describe(model, version), storage, version.location)


def manifest(model: Model, version: Version) -> Download:
    """Describe the manifest."""
    content = Manifest.from_json(version.manifest).to_bytes()
    return Download(
        (content,),
        version.digest,
        "application/json",
        f"{_stem(model, version)}-{MANIFEST_NAME}",
        version.created_at,
        version.digest,
    )


def file(model: Model, version: Version, path: str) -> Download:
    """Describe one file.

    Raises:
        FileNotInVersionError: The version has none at this path.
    """
    try:
        entry = Manifest.from_json(version.manifest).entry(path)
    except KeyError:
        raise FileNotInVersionError(model, version) from None
    name = PurePosixPath(path)
    return Download(
        (StoredPart(path, entry.size),),
        entry.sha256,
        "application/json" if name.suffix == ".json" else "application/octet-stream",
        name.name,
        version.created_at,
        entry.sha256,
    )


def archive(model: Model, version: Version) -> Download:
    """Describe the archive of all files."""
    stem = _stem(model, version)
    modified = int(version.created_at.astimezone(dt.UTC).timestamp())
    return Download(
        tar_segments(Manifest.from_json(version.manifest), stem, modified),
        f"{version.digest}-tar{FORMAT}",
        "application/x-tar",
        f"{stem}.tar",
        version.created_at,
    )


def _stem(model: Model, version: Version) -> str:
    return f"{model.name}-{version.number}"
