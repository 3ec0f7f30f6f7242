"""Restoring a backup into an empty database and a storage, without undoing what was erased since it was made.

What was erased, the keyring knows: the keys of targets and files that are gone were shredded, so they come back
empty, as destroyed. What was withdrawn, its journal knows: such versions come back in quarantine. What was asked
for since, nobody can know again but the clients: the journal names those requests, to be sent again.
"""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, select, text
from sqlalchemy.orm import Session

from app.backup.errors import BackupError
from app.backup.journal import Journal, request_ids
from app.backup.keyring import Keyring
from app.backup.making import DATABASE, DESTROYED, FORMAT, HEADER, SEALED_SUFFIX, STORAGE
from app.backup.personal import BACKUPS, STORED, candidate_parts, tables
from app.backup.rows import Row, from_lines, insert_all
from app.backup.sealing import unseal
from app.database import database_now
from app.retention.periods import predecessor_retention
from app.runtime import Runtime
from app.schema import current_revision
from app.tables import ForgetRequest, Model, Version
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from app.trust.log.tree import append_leaves
from app.trust.log.versions import version_entry
from models.checkpoint import check_file_name, verify_directory
from models.errors import CheckpointError


@dataclass
class Restored:
    """What came back, and what did not."""

    made_at: str
    rows: int = 0
    directories: int = 0
    erased_targets: int = 0
    """Rows whose personal columns were erased since."""
    destroyed: list[str] = field(default_factory=list)
    """Places whose files were destroyed since."""
    quarantined: list[str] = field(default_factory=list)
    """`model/version` of versions that were withdrawn since."""
    without_version: list[str] = field(default_factory=list)
    """Models without a published version now: run their requests again, or register a version."""
    requests_since: list[str] = field(default_factory=list)
    """Forget requests that came in since: their clients must send them again."""

    def note_erasure(self) -> None:
        """Count a row that comes back without its personal columns."""
        self.erased_targets += 1


def restore_backup(runtime: Runtime, backup: Path) -> Restored:
    """Bring database and storage to what a backup says, less what was erased since.

    Files come first, as a row without its files is an error, and all rows in one transaction. When it fails, it can
    be run again: files that are there already are compared and kept.

    Raises:
        BackupError: The backup is not whole, was changed, or its keys are not in the keyring; or the database is
            not empty, or of another revision.
    """
    header = _read_header(runtime, backup)
    keyring = Keyring(runtime.settings.keyring_dir)
    key = keyring.find(BACKUPS, header["id"])
    if key is None:
        raise BackupError(
            f"The key of this backup is not in the keyring {keyring.directory}: without it nothing can be read."
        )
    restored = Restored(made_at=header["made_at"])
    for location, described in header["directories"].items():
        if _restore_directory(runtime, keyring, backup / STORAGE, location, described):
            restored.directories += 1
        else:
            restored.destroyed.append(location)
    with runtime.database.write() as session:
        _require_empty(session)
        for table in tables():
            source = backup / DATABASE / f"{table.name}{SEALED_SUFFIX}"
            restored.rows += _restore_table(session, table, source, key, keyring, header, restored)
        _require_counts(session, header)
        _apply_journal(session, runtime, Journal(keyring.directory), restored)
    # The log goes on from where the backup was made: another history, but one that somebody has decided on.
    runtime.signed_heads.forget()
    return restored


def _read_header(runtime: Runtime, backup: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((backup / HEADER).read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{backup} holds no finished backup: there is no {HEADER}.") from None
    except ValueError:
        raise BackupError(f"{HEADER} of the backup is damaged.") from None
    if header.get("format") != FORMAT:
        raise BackupError("The backup is of a format that this version of Expunge does not read.")
    revision = current_revision(runtime.database)
    if header["revision"] != revision:
        raise BackupError(
            f"The backup is of revision {header['revision']}, the database of {revision or 'none'}: restore with the "
            "version of Expunge that made it, then migrate."
        )
    return header


def _restore_directory(
    runtime: Runtime, keyring: Keyring, storage: Path, location: str, described: dict[str, Any]
) -> bool:
    """Put one stored directory back; tell whether its key is still there."""
    key = keyring.find(STORED, location)
    if key is None:
        return False
    if runtime.storage.exists(location):  # an earlier try has put it there, or it was never lost
        _verify(runtime.storage.materialise(location), location, described, "storage")
        return True
    with runtime.storage.staging() as staging:
        for place, path in enumerate(described["files"]):
            target = staging / check_file_name(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            sealed = storage / described["folder"] / f"{place}{SEALED_SUFFIX}"
            with sealed.open("rb") as source, target.open("xb") as out:
                out.writelines(unseal(key, f"{location}/{path}", source))
        _verify(staging, location, described, "backup")
        runtime.storage.publish(staging, location)
    return True


def _verify(directory: Path, location: str, described: dict[str, Any], where: str) -> None:
    try:
        digest = verify_directory(directory).digest
    except CheckpointError as error:
        raise BackupError(f"{location} in the {where} is damaged: {error}") from error
    if described["digest"] not in {None, digest}:
        raise BackupError(f"{location} in the {where} is damaged: its manifest is not the recorded one.")


def _require_empty(session: Session) -> None:
    for table in tables():
        if session.scalar(select(func.count()).select_from(table)):
            raise BackupError(
                f"The database is not empty: {table.name} has rows. Restore into a new one, after `expunge migrate`."
            )


def _restore_table(
    session: Session,
    table: Table,
    source: Path,
    key: bytes,
    keyring: Keyring,
    header: dict[str, Any],
    restored: Restored,
) -> int:
    connection = session.connection()
    with source.open("rb") as file:
        rows = from_lines(table, unseal(key, table.name, file), keyring, restored.note_erasure)
        count = insert_all(connection, table, _as_of_now(table, rows, header, restored))
    _advance_sequence(connection, table)
    return count


def _as_of_now(
    table: Table, rows: Iterator[Row], header: dict[str, Any], restored: Restored
) -> Iterator[Row]:
    """Let rows say what is true now of files that were destroyed since; versions follow with their log entries."""
    gone = set(restored.destroyed)
    present = header["directories"].keys() - gone
    now = dt.datetime.now(dt.UTC)
    for row in rows:
        match table.name:
            case "snapshots" if row["state"] != DESTROYED and row["location"] not in present:
                row |= {"state": SnapshotState.DESTROYED, "destroyed_at": now}
            case "trained_references" if row["destroyed_at"] is None and row["location"] not in present:
                row["destroyed_at"] = now
            case "jobs" if not present.issuperset(candidate_parts(row["outcome"], row["id"])):
                row["outcome"] = {**row["outcome"], "candidate": None}
            case "versions" if row["state"] != DESTROYED and row["location"] not in present | gone:
                restored.destroyed.append(row["location"])
        yield row


def _advance_sequence(connection: Connection, table: Table) -> None:
    """Let new rows get numbers after those that were inserted with theirs (PostgreSQL; SQLite does so by itself)."""
    column = table.autoincrement_column
    if connection.dialect.name != "postgresql" or column is None or column.server_default is not None:
        return
    connection.execute(
        text(
            f"SELECT setval(sequence, greatest((SELECT max({column.name}) FROM {table.name}), 1)) "  # noqa: S608 - our own names
            "FROM pg_get_serial_sequence(:table, :column) AS sequence WHERE sequence IS NOT NULL"
        ),
        {"table": table.name, "column": column.name},
    )


def _require_counts(session: Session, header: dict[str, Any]) -> None:
    for table in tables():
        count = session.scalar(select(func.count()).select_from(table))
        if count != header["rows"][table.name]:
            raise BackupError(
                f"The backup is damaged: {table.name} has {count} rows, not {header['rows'][table.name]}."
            )


def _apply_journal(session: Session, runtime: Runtime, journal: Journal, restored: Restored) -> None:
    """Withdraw again what was withdrawn since, each with an entry in the log, as when it happened."""
    now, entries = database_now(session), []
    gone = set(restored.destroyed)
    for version in session.scalars(select(Version).order_by(Version.model_id, Version.number)):
        if version.location in gone:
            version.state, version.destroyed_at = VersionState.DESTROYED, now
        elif version.state is VersionState.PUBLISHED and version.location in journal.withdrawn:
            planned = journal.withdrawn[version.location]
            version.state, version.quarantined_at = VersionState.QUARANTINED, now
            version.destroy_after = (
                dt.datetime.fromisoformat(planned)
                if planned is not None
                else now + predecessor_retention(runtime.settings)
            )
            restored.quarantined.append(f"{version.model_id}/{version.number}")
        else:
            continue
        entries.append(version_entry(version.model_id, version.number, version.state, version.digest))
    session.flush()
    restored.without_version = list(session.scalars(_models_without_version()))
    restored.requests_since = request_ids(journal, set(session.scalars(select(ForgetRequest.id))))
    if entries:
        append_leaves(session, entries, now)


def _models_without_version() -> Any:
    published = (
        select(Version.model_id)
        .where(
            Version.model_id == Model.id,
            Version.number == Model.latest_version,
            Version.state == VersionState.PUBLISHED,
        )
        .exists()
    )
    return select(Model.name).where(~published).order_by(Model.name)
