"""Making a backup: a consistent copy of the database, then the files that its rows name.

    OUT/backup.json                 what is in it; written last, so a backup that was cut off has none
    OUT/database/TABLE.sealed       rows as JSON lines, sealed under the backup's key
    OUT/storage/NUMBER/PLACE.sealed files of one stored directory, sealed under the directory's key

Rows come first: what is stored later is not in the copy, and what is deleted meanwhile was destroyed, which the
database can tell. Every file is compared with its digest on the way, so a backup is a check of the storage too.
"""

import datetime as dt
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table

from app.backup.errors import BackupError
from app.backup.keyring import Keyring, sync_directory
from app.backup.personal import BACKUPS, STORED, candidate_parts, tables
from app.backup.reconciliation import reconcile
from app.backup.rows import Row, read_rows, to_line
from app.backup.sealing import seal
from app.retention.locations import is_named
from app.runtime import Runtime
from app.schema import current_revision
from models.checkpoint import MANIFEST_NAME, Manifest

FORMAT = 1
HEADER = "backup.json"
DATABASE, STORAGE = "database", "storage"
SEALED_SUFFIX = ".sealed"
DESTROYED = "destroyed"


@dataclass
class _Copy:
    """What the copied rows say."""

    rows: dict[str, int] = field(default_factory=dict)
    locations: dict[str, str | None] = field(default_factory=dict)
    """Where files are -> their manifest's digest, where a row says it."""


@dataclass(frozen=True)
class Made:
    """A finished backup."""

    backup_id: uuid.UUID
    rows: int
    directories: int


def make_backup(runtime: Runtime, out: Path) -> Made:
    """Write a backup into `out`, which must not exist yet.

    Raises:
        BackupError: A stored directory is missing or damaged.
        FileExistsError: There is something at `out`.
    """
    out.mkdir(mode=0o700, parents=True)
    keyring = Keyring(runtime.settings.keyring_dir)
    keyring.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    reconcile(runtime)
    backup_id, made_at = uuid.uuid4(), dt.datetime.now(dt.UTC)
    key = keyring.obtain(BACKUPS, str(backup_id))
    copy = _copy_database(runtime, out / DATABASE, key, keyring)
    directories = _copy_storage(runtime, out / STORAGE, copy, keyring)
    keyring.sync()
    header = {
        "format": FORMAT,
        "id": str(backup_id),
        "made_at": made_at.isoformat(),
        "revision": current_revision(runtime.database),
        "rows": copy.rows,
        "directories": directories,
    }
    _write_header(out, header)
    return Made(backup_id, sum(copy.rows.values()), len(directories))


def _copy_database(runtime: Runtime, out: Path, key: bytes, keyring: Keyring) -> _Copy:
    """Copy every table as it was at one moment."""
    out.mkdir()
    copy, engine = _Copy(), runtime.database.engine
    if runtime.database.dialect == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:  # on SQLite every transaction sees one moment
        for table in tables():
            with (out / f"{table.name}{SEALED_SUFFIX}").open("xb") as file:
                seal(key, table.name, _lines(connection, table, keyring, copy), file)
                _sync(file.fileno())
    return copy


def _lines(connection: Connection, table: Table, keyring: Keyring, copy: _Copy) -> Iterator[bytes]:
    copy.rows[table.name] = 0
    for row in read_rows(connection, table):
        copy.rows[table.name] += 1
        copy.locations.update(_locations(table, row))
        yield to_line(table, row, keyring)


def _locations(table: Table, row: Row) -> dict[str, str | None]:
    """Return where the files are that a row says exist."""
    match table.name:
        case "versions" | "snapshots" if row["state"] != DESTROYED:
            return {row["location"]: row["digest"]}
        case "trained_references" if row["destroyed_at"] is None:
            return {row["location"]: row["digest"]}
        case "jobs":
            return dict.fromkeys(candidate_parts(row["outcome"], row["id"]))
        case _:
            return {}


def _copy_storage(runtime: Runtime, out: Path, copy: _Copy, keyring: Keyring) -> dict[str, Any]:
    """Copy the files of every place that a row names; return each place's folder and files."""
    out.mkdir()
    directories: dict[str, Any] = {}
    for number, (location, digest) in enumerate(sorted(copy.locations.items())):
        folder = out / f"{number:06d}"
        folder.mkdir()
        try:
            files = _copy_directory(runtime, location, digest, folder, keyring.obtain(STORED, location))
        except FileNotFoundError as error:
            with runtime.database.read() as session:
                if is_named(session, location):
                    raise BackupError(f"{location}: files are missing in the storage.") from error
            continue  # destroyed since its row was copied; its key is shredded like that of every such place
        directories[location] = {"folder": folder.name, "files": files, "digest": digest}
    return directories


def _copy_directory(
    runtime: Runtime, location: str, digest: str | None, folder: Path, key: bytes
) -> list[str]:
    storage = runtime.storage
    content = storage.read_whole(location, MANIFEST_NAME)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise BackupError(f"{location}: the manifest in the storage is not the one that was recorded.")
    manifest = Manifest.from_json(json.loads(content))
    paths = [MANIFEST_NAME]
    _seal_file(folder, 0, key, f"{location}/{MANIFEST_NAME}", iter([content]))
    for place, entry in enumerate(manifest.files, start=1):
        chunks = _checked(storage.read(location, entry.path, 0, entry.size), entry.sha256, location)
        _seal_file(folder, place, key, f"{location}/{entry.path}", chunks)
        paths.append(entry.path)
    sync_directory(folder)
    return paths


def _checked(chunks: Iterator[bytes], sha256: str, location: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise BackupError(f"{location}: a file in the storage is damaged.")


def _seal_file(folder: Path, place: int, key: bytes, name: str, chunks: Iterator[bytes]) -> None:
    with (folder / f"{place}{SEALED_SUFFIX}").open("xb") as file:
        seal(key, name, chunks, file)
        _sync(file.fileno())


def _write_header(out: Path, header: dict[str, Any]) -> None:
    for directory in (out / DATABASE, out / STORAGE):
        sync_directory(directory)
    made = out / f".{HEADER}"
    with made.open("x") as file:
        json.dump(header, file, indent=1)
        file.flush()
        _sync(file.fileno())
    made.rename(out / HEADER)
    sync_directory(out)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
