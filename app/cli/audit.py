"""`audit`: what a model has forgotten, judged and shown, over HTTP."""

import json
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


@program.command("show")
def show(
    model: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[str, typer.Argument(help="A version's number, or latest.")] = "latest",
    *,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the audit that a version was published on.

    Prints what was asked, what was done, every method that was tried, and the checks.
    """
    with connect(url, api_key) as client:
        report = client.audit(model, version)
    print_json(report) if as_json else _print_report(report)


@program.command("export")
def export(
    model: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[str, typer.Argument(help="A version's number, or latest.")],
    *,
    out: Annotated[
        Path, typer.Option(dir_okay=False, help="The file: .html for people, .json for programs.")
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
) -> None:
    """Write the audit of a version to a file.

    The HTML file stands for itself: it asks for nothing from elsewhere, and can be printed.
    """
    with connect(url, api_key) as client:
        match out.suffix.lower():
            case ".html":
                content = client.audit_report(model, version)
            case ".json":
                content = json.dumps(client.audit(model, version), indent=2, ensure_ascii=False) + "\n"
            case _:
                raise CommandError(f"{out.name}: the file's name must end in .html or .json.")
    out.write_text(content, encoding="utf-8")
    say(f"The audit of {model}, version {version}, is in {out}.")


def _print_report(report: JsonObject) -> None:
    asked, accepted = report["asked"], report["acceptance"]
    if accepted is not None:
        say(f"Published without having passed; {accepted['reviewer'] or 'the policy'}: {accepted['reason']}")
    print_fields(
        {
            "model": report["model"],
            "version": report["version"],
            "parent": report["parent"],
            "verdict": report["verdict"],
            "reason": report["summary"],
            "asked": _asked(asked) if asked is not None else None,
            "references": ", ".join(asked["references"]) or None if asked is not None else None,
            "method": report["made"]["method"],
            "guarantee": report["made"]["guarantee"],
            "seed": report["made"]["seed"],
            "power": report["power"]["reason"] if report["power"] is not None else None,
        }
    )
    if report["ladder"]:
        print_table(
            ["", "tried", "guarantee", "utility", "forget quality", "seconds", "outcome"],
            [
                [
                    f"{place}{' *' if rung['chosen'] else ''}",
                    rung["method"],
                    rung["guarantee"],
                    _gauge(rung["utility"]),
                    _gauge(rung["forget_quality"]),
                    _figure(rung["seconds"]),
                    rung["verdict"] or rung["failure"],
                ]
                for place, rung in enumerate(report["ladder"], start=1)
            ],
        )
        say("* published")
    print_checks(report)


def _asked(asked: JsonObject) -> str:
    targets = ", ".join(f"{target['kind']}: {target['count']}" for target in asked["targets"])
    return (
        f"{targets} ({asked['requests']} requests; guarantee {asked['guarantee']}, method {asked['method']})"
    )


def _gauge(gauge: JsonObject | None) -> str | None:
    return _figure(gauge["value"]) if gauge is not None else None


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
