"""`train`: version 1 of a model, from data, on this machine. The only command that imports torch."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_json, progress_line
from app.cli.target import read_parameters
from models.checkpoint import read_manifest
from models.contracts import FamilyRuntime
from models.families import Family, get_family


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("train")(train)


def train(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="The data files.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Checkpoint directory to make.", show_default=False)],
    family: Annotated[str, typer.Option(help="Family of models.")] = "classifier",
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME=VALUE",
            help="A field of the recipe; repeat for several.",
            show_default=False,
        ),
    ] = None,
    recipe_file: Annotated[
        Path | None, typer.Option(help="A JSON file with the recipe's fields.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, data and recipe: same model.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Train a model on data files and write its checkpoint.

    The data files are those to register as its data set afterwards (`register dataset`, then `register model`).
    """
    if out.exists():
        raise CommandError(f"{out} is there already; name another directory.")
    chosen = get_family(family)
    fields = {**_read_recipe(recipe_file), **read_parameters(recipe)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        description = train_checkpoint(chosen, files, fields, checkpoint, seed=seed)
        digest = read_manifest(checkpoint).digest
        checkpoint.rename(out)
    if as_json:
        print_json({"directory": str(out), "digest": digest, "model": description})
    else:
        typer.echo(f"The checkpoint is in {out} (digest {digest}).")


def train_checkpoint(
    family: Family, files: list[Path], recipe: dict[str, Any], checkpoint: Path, *, seed: int
) -> dict[str, Any]:
    """Train on data files, write the checkpoint into a new directory and describe the model.

    Raises:
        CommandError: torch is missing, or the recipe has an unknown field or one out of range.
        DatasetError: The data is malformed.
    """
    runtime = _runtime(family)
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as scratch, progress_line() as line:
        snapshot = Path(scratch)
        line("reading", 0, 0)
        family.snapshots().ingest(files, snapshot, data_schema=None)
        data = runtime.load_data(snapshot)
        try:
            model = runtime.train(data, recipe, seed=seed, progress=line)
        except ValueError as error:
            raise CommandError(f"Training was refused: {error}") from error
        checkpoint.mkdir()
        runtime.save_model(model, checkpoint)
    return dict(runtime.describe(model))


def _runtime(family: Family) -> FamilyRuntime:
    try:
        return family.runtime()
    except ModuleNotFoundError as error:
        raise CommandError(
            f"Training needs the package {error.name}: install Expunge with its [worker] extra."
        ) from error


def _read_recipe(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}.") from error
    if not isinstance(recipe, dict):
        raise CommandError(f"{path} must hold a JSON object.")
    return recipe
