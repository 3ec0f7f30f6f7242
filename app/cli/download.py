"""`download`: a version's checkpoint, verified."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.output import JsonFlag, print_json, progress_line


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("download")(download)


def download(
    model: Annotated[str, typer.Argument(help="The model.")],
    directory: Annotated[
        Path | None, typer.Argument(help="Where to put it.  [default: MODEL-VERSION]", show_default=False)
    ] = None,
    *,
    version: Annotated[str, typer.Option(help="A version's number, or latest.")] = "latest",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a version and verify it.

    Its directory appears whole and verified, or not at all. A download that broke off goes on where it stopped when the command is run again.
    """
    with connect(url, api_key) as client:
        found = client.version(model, version)
        destination = directory or Path(f"{model}-{found['number']}")
        with progress_line(of_bytes=True) as line:
            client.download(model, destination, version=found["number"], progress=line)
    result = {
        "model": model,
        "version": found["number"],
        "directory": str(destination),
        "digest": found["digest"],
    }
    if as_json:
        print_json(result)
    else:
        typer.echo(f"Version {found['number']} of {model} is in {destination}; every digest is right.")
