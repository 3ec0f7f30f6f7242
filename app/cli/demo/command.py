"""`demo`: the command, and how its report is shown."""

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.errors import CommandError
from app.cli.output import JsonFlag, one_line, print_json, print_table, say

if TYPE_CHECKING:
    from app.cli.demo.scenario import Report


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("demo")(demo)


def demo(*, as_json: JsonFlag = False) -> None:
    """Run the main job on real data and prove it was done.

    Starts the service in a temporary directory, trains a classifier on scikit-learn's handwritten digits,
    registers it over HTTP, has ten records, one whole class and one person forgotten, and verifies the
    downloaded result and its certificate. Ends by itself and leaves nothing behind; status 1 if anything is not as it must be.
    """
    try:
        from app.cli.demo.scenario import run  # noqa: PLC0415 - brings torch and scikit-learn in
    except ModuleNotFoundError as error:
        raise CommandError(
            f"The demonstration needs the package {error.name}: install Expunge with its [demo,worker] extras."
        ) from error
    # A plain SIGTERM would end this process and leave the service behind; an exception puts both away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="expunge-demo-") as directory:
        report = run(Path(directory), step=say if as_json else typer.echo)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    failed = [expectation for expectation, met in report.expectations.items() if not met]
    if failed:
        raise CommandError(f"Not as it must be: {'; '.join(failed)}.")


def _print(report: "Report") -> None:
    for forgotten in report.forgotten:
        audit = forgotten.audit
        print_table(
            ["check", "value", "reference", "must be", "outcome"],
            [
                [
                    check["name"],
                    _number(check["value"]),
                    _number(check["reference"]),
                    check["bound"],
                    check["outcome"],
                ]
                for check in audit["checks"]
            ],
            title=(
                f"Audit of version {forgotten.version} without {forgotten.what}: "
                f"{audit['method']} ({audit['guarantee']}), {audit['verdict']}"
            ),
        )
    print_table(
        ["class", "held-out records", "before", "after", "fitted afresh"],
        [
            [row.label, row.records, f"{row.before:.3f}", f"{row.after:.3f}", f"{row.refitted:.3f}"]
            for row in report.accuracies
        ],
        title="Accuracy on held-out records",
    )
    typer.echo("What the certificate attests")
    for sentence in report.certificate:
        typer.echo(f"- {one_line(sentence)}")
    print_table(
        ["expectation", "met"],
        [[expectation, "yes" if met else "NO"] for expectation, met in report.expectations.items()],
        title="What was verified",
    )


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
