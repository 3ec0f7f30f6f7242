"""`audit`: what a model has forgotten, judged and shown, over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_fields, print_json, print_table, progress_line, say, show_help
from app.cli.target import FeatureOption, IdsArgument, IdsFileOption, KindOption, read_target
from app.client import Client, JsonObject

PASSED = "pass"

program = typer.Typer(
    name="audit",
    help="Judge what a model has forgotten.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)


def add_commands(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(program)


@program.command("run")
def run(
    model: Annotated[str, typer.Argument(help="The model.")],
    ids: IdsArgument = None,
    *,
    original: Annotated[int, typer.Option(help="The version that had learned it.", show_default=False)],
    candidate: Annotated[
        int | None, typer.Option(help="The version that is judged.", show_default=False)
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A checkpoint directory to judge in its place.",
            show_default=False,
        ),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(help="Have the service import that checkpoint from here.", show_default=False),
    ] = None,
    kind: KindOption = "records",
    ids_file: IdsFileOption = None,
    feature: FeatureOption = None,
    reference: Annotated[
        str | None, typer.Option(help="Your own name for the audit; no personal data.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdict.")] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a version or a checkpoint judged for what it is said to have forgotten.

    Nothing is published. With --wait, exits with status 1 unless the verdict is pass.
    """
    if (candidate is None) + (checkpoint is None) + (uri is None) != 2:  # noqa: PLR2004 - one of three
        raise CommandError("Name what is to be judged: one of --candidate, --checkpoint and --uri.")
    target = read_target(kind, ids, ids_file, feature)
    with connect(url, api_key) as client:
        with progress_line(of_bytes=True) as line:
            audit = client.start_audit(
                model,
                original,
                target,
                candidate=candidate,
                checkpoint=checkpoint,
                uri=uri,
                reference=reference,
                progress=line,
            )
        if wait:
            audit = _follow(client, audit)
    print_json(audit) if as_json else _print(audit)
    if wait and audit["verdict"] != PASSED:
        raise CommandError(f"Audit {audit['id']}: {audit['verdict'] or audit['status']}. {_why(audit)}")


def _follow(client: Client, audit: JsonObject) -> JsonObject:
    with progress_line() as line:

        def show(state: JsonObject) -> None:
            progress = state["progress"] or {}
            line(str(progress.get("stage", state["status"])), progress.get("step", 0), progress.get("of", 0))

        return client.wait_for_audit(str(audit["id"]), on_change=show)


def _print(audit: JsonObject) -> None:
    print_fields(
        {
            "id": audit["id"],
            "model": audit["model"],
            "original": audit["original"],
            "candidate": audit["candidate"] or audit["checkpoint"],
            "target": f"{audit['target']['kind']}: {audit['target']['count']}",
            "state": audit["status"],
            "verdict": audit["verdict"],
            "reason": _why(audit),
            "reference": audit["reference"],
        }
    )
    measured = audit["audit"]
    if measured is not None:
        print_checks(measured)


def print_checks(audit: JsonObject) -> None:
    """Print the checks of an audit's JSON, the gating ones marked."""
    print_table(
        ["check", "value", "reference", "bound", "outcome", "why"],
        [
            [
                f"{check['name']}{' *' if check['gating'] else ''}",
                _figure(check["value"]),
                _figure(check["reference"]),
                check["bound"],
                check["outcome"],
                check["reason"],
            ]
            for check in audit["checks"]
        ],
    )
    say("* decides the verdict")


def _why(audit: JsonObject) -> str:
    return str(audit["audit"]["summary"] if audit["audit"] is not None else audit["reason"])


def _figure(value: float | None) -> str | None:
    return f"{value:.4g}" if value is not None else None
