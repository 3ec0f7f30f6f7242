"""`backup` and `restore`: copies of database and storage that a lost key can still empty."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.backup.making import make_backup
from app.backup.restoring import Restored, restore_backup
from app.cli.database import check_schema
from app.cli.output import JsonFlag, print_json, say
from app.runtime import Runtime
from app.settings import get_settings


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("backup")(backup)
    program.command("restore")(restore)


def backup(
    out: Annotated[Path, typer.Argument(help="A directory that does not exist yet.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Copy the database and the storage into a sealed backup, while the service runs.

    Its keys stay in EXPUNGE_KEYRING_DIR, which must be kept, elsewhere than the backup: without it the backup
    cannot be read, and what is erased later is erased from the backup by shredding its key.
    """
    check_schema()
    settings = get_settings()
    with closing(Runtime.open(settings)) as runtime:
        made = make_backup(runtime, out)
    result = {"id": str(made.backup_id), "out": str(out), "rows": made.rows, "directories": made.directories}
    if as_json:
        print_json(result)
    else:
        typer.echo(
            f"{made.rows} rows and {made.directories} directories are in {out}, sealed under keys in "
            f"{settings.keyring_dir}."
        )


def restore(
    backup: Annotated[Path, typer.Argument(help="A directory that `expunge backup` made.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup into an empty, migrated database and its storage, with the service stopped.

    What was erased or withdrawn since the backup stays so. Requests that came in since must be sent again; they
    are listed.
    """
    check_schema()
    with closing(Runtime.open(get_settings())) as runtime:
        restored = restore_backup(runtime, backup)
    if as_json:
        print_json(asdict(restored))
    else:
        _tell(restored)


def _tell(restored: Restored) -> None:
    typer.echo(
        f"{restored.rows} rows and {restored.directories} directories of {restored.made_at} are back; "
        f"{restored.erased_targets} targets and {len(restored.destroyed)} directories had been erased."
    )
    for name in restored.quarantined:
        say(f"Withdrawn since, and in quarantine again: version {name}.")
    for name in restored.without_version:
        say(f"The model {name} has no published version now: send its requests again, or register a version.")
    for name in restored.requests_since:
        say(f"Received since, and to be sent again by its client: forget request {name}.")
