"""What an upload is made of."""

from collections.abc import Sequence
from pathlib import Path

from app.client.errors import ClientError


def data_parts(files: Sequence[Path]) -> dict[str, Path]:
    """Name data files as they are uploaded: by their last part.

    Raises:
        ClientError: Two have the same.
    """
    parts = {path.name: path for path in files}
    if len(parts) < len(files):
        raise ClientError("Two of the data files have the same name.")
    return parts


def checkpoint_parts(directory: Path) -> dict[str, Path]:
    """Name a checkpoint's files as they are uploaded: by their path below it.

    Raises:
        ClientError: There is none.
    """
    parts = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    if not parts:
        raise ClientError(f"There is no checkpoint in {directory}.")
    return parts
