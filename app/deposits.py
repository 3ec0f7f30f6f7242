"""Directories that are stored before the row that names them, and must not outlive its failure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from app.runtime import Runtime


@contextmanager
def deposited(
    runtime: Runtime, directory: Path, location: str, recorded: Callable[[Session, str], bool]
) -> Iterator[None]:
    """Store `directory` at `location`; the block then records it, or it is deleted again.

    Args:
        runtime: Storage and database.
        directory: A complete local directory; it is moved away where the storage is local.
        location: Where nothing is stored yet.
        recorded: Tells whether a committed row names the location. The database is asked even when the block
            raised: a commit whose answer was lost has still happened.
    """
    runtime.storage.publish(directory, location)
    try:
        yield
    finally:
        with runtime.database.read() as session:
            kept = recorded(session, location)
        if not kept:
            runtime.storage.delete(location)
