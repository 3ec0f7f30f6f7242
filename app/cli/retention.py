"""`sweep` and `destroy`: the end of what was kept long enough."""

import threading
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.database import check_schema
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_fields, print_json
from app.retention.sweeper import Swept, sweep
from app.runtime import Runtime
from app.settings import get_settings

MOST_ROUNDS = 5
"""One round finds what the round before has made superfluous: a version's snapshot, say. Three are enough."""


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("sweep")(sweep_command)
    program.command("destroy")(destroy)


def sweep_command(
    *,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Have the database overwrite erased bytes now. On PostgreSQL this locks tables meanwhile.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Erase and destroy everything whose retention is over, once.

    Workers do so by themselves; this is for when there are none, or when it cannot wait. It works on the
    database and the storage themselves.
    """
    check_schema()
    with closing(Runtime.open(get_settings())) as runtime:
        swept = _sweep_all(runtime, compact=compact)
    if as_json:
        print_json(asdict(swept))
    else:
        print_fields(asdict(swept))
    if swept.failed:
        raise CommandError(f"{swept.failed} things could not be deleted; the log says why. Run it again.")


def destroy(
    model: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[int, typer.Argument(min=1, help="The number of a quarantined version.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept for good, so no personal data.", show_default=False)],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Destroy a quarantined version now, before its retention is over.

    Its files are deleted; its row stays, with its digests. A published version cannot be destroyed.
    """
    with connect(url, api_key) as client:
        destroyed = client.destroy(model, version, reason)
    if as_json:
        print_json(destroyed)
    else:
        typer.echo(f"Version {version} of {model} was destroyed.")


def _sweep_all(runtime: Runtime, *, compact: bool) -> Swept:
    """Sweep until there is nothing left to do; the last round overwrites what all have erased."""
    stop, total = threading.Event(), Swept()
    for _ in range(MOST_ROUNDS):
        swept = sweep(runtime, stop, at_once=True)
        total = total.plus(swept)
        if not swept.changed:
            break
    if compact:
        total.compacted |= sweep(runtime, stop, at_once=True, compact_now=True).compacted
    return total
