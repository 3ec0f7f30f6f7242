"""`register`: data sets, models, and what is new of them, over HTTP."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.output import JsonFlag, print_fields, print_json, progress_line, show_help
from app.client import Client, JsonObject

FamilyOption = Annotated[str, typer.Option(help="Family of models.")]
FilesArgument = Annotated[
    list[Path] | None, typer.Argument(exists=True, dir_okay=False, readable=True, help="The data files.")
]
CheckpointArgument = Annotated[
    Path | None, typer.Argument(exists=True, file_okay=False, help="The checkpoint directory.")
]
UriOption = Annotated[
    str | None,
    typer.Option(
        help="Have the service import this instead, from one of its import roots.", show_default=False
    ),
]
program = typer.Typer(
    name="register",
    help="Upload data sets and models.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)


def add_commands(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(program)


@program.command("dataset")
def register_dataset(
    name: Annotated[str, typer.Argument(help="Its name.")],
    files: FilesArgument = None,
    *,
    uri: UriOption = None,
    family: FamilyOption = "classifier",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Upload data files as a new data set."""
    with connect(url, api_key) as client, progress_line(of_bytes=True) as line:
        dataset = client.register_dataset(name, family, files or (), uri=uri, progress=line)
    _print(dataset, as_json=as_json)


@program.command("model")
def register_model(
    name: Annotated[str, typer.Argument(help="Its name.")],
    checkpoint: CheckpointArgument = None,
    *,
    uri: UriOption = None,
    dataset: Annotated[
        str, typer.Option(help="The data set it was trained on: its name or id.", show_default=False)
    ],
    family: FamilyOption = "classifier",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Upload a checkpoint directory as version 1 of a new model."""
    with connect(url, api_key) as client:
        dataset_id = _dataset_id(client, dataset)
        with progress_line(of_bytes=True) as line:
            model = client.register_model(name, family, dataset_id, checkpoint, uri=uri, progress=line)
    _print(model, as_json=as_json)


@program.command("snapshot")
def register_snapshot(
    dataset: Annotated[str, typer.Argument(help="The data set: its name or id.")],
    files: FilesArgument = None,
    *,
    uri: UriOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="These records replace the data set's, instead of joining them.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Add records to a data set, or replace them."""
    with connect(url, api_key) as client:
        dataset_id = _dataset_id(client, dataset)
        mode = "replace" if replace else "append"
        with progress_line(of_bytes=True) as line:
            snapshot = client.add_snapshot(dataset_id, files or (), mode=mode, uri=uri, progress=line)
    _print(snapshot, as_json=as_json)


@program.command("version")
def register_version(
    model: Annotated[str, typer.Argument(help="The model.")],
    checkpoint: CheckpointArgument = None,
    *,
    uri: UriOption = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Upload a version that was trained elsewhere."""
    with connect(url, api_key) as client, progress_line(of_bytes=True) as line:
        version = client.add_version(model, checkpoint, uri=uri, progress=line)
    _print(version, as_json=as_json)


def _dataset_id(client: Client, name: str) -> str:
    """Return the id of the data set called `name`; anything else is taken for an id."""
    return next((str(dataset["id"]) for dataset in client.datasets() if dataset["name"] == name), name)


def _print(resource: JsonObject, *, as_json: bool) -> None:
    if as_json:
        print_json(resource)
        return
    plain: dict[str, Any] = {
        field: value for field, value in resource.items() if not isinstance(value, dict | list)
    }
    print_fields(plain)
