"""`pretrain`: put a pre-trained Influence Encoder beside a recommender, on this machine. Imports torch, as `train` does."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_json, progress_line
from app.cli.target import read_parameters
from models.checkpoint import read_manifest
from models.families import get_family
from unlearning.catalog.recommender_networks import NETWORKS, PretrainConfig

FAMILY = "recommender"


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("pretrain")(pretrain)


def pretrain(
    checkpoint: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Checkpoint directory of a trained recommender."),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, readable=True, help="The data files it was trained on."),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Checkpoint directory to make.", show_default=False)],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=VALUE",
            help="A parameter of the pre-training; repeat for several.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, model, data and parameters: same encoder.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Pre-train the encoder that the method `unlearnrec` begins with, and write the checkpoint that holds both.

    The model's own weights stay as they are. Register what is written, with the same data, as the model's version.
    """
    if out.exists():
        raise CommandError(f"{out} is there already; name another directory.")
    try:
        config = PretrainConfig.model_validate(read_parameters(parameter))
    except ValidationError as error:
        fault = error.errors()[0]
        raise CommandError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        made = Path(scratch) / "checkpoint"
        description = pretrain_checkpoint(checkpoint, files, config, made, seed=seed)
        digest = read_manifest(made).digest
        made.rename(out)
    if as_json:
        print_json({"directory": str(out), "digest": digest, "model": description})
    else:
        typer.echo(f"The checkpoint is in {out} (digest {digest}).")


def pretrain_checkpoint(
    checkpoint: Path, files: list[Path], config: PretrainConfig, out: Path, *, seed: int
) -> dict[str, Any]:
    """Pre-train on data files, write model and encoder into a new directory, and describe them.

    Raises:
        CommandError: torch is missing, or the model is not one that is trained by gradient descent.
        CheckpointError: The checkpoint is malformed or damaged.
        DatasetError: The data is malformed.
        UnlearningError: The data do not fit the model, or are too few.
    """
    try:
        import torch  # noqa: PLC0415 - only this command and `train` need it

        from unlearning.methods.recommender.pretraining import pretrain as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandError(
            f"Pre-training needs the package {error.name}: install Expunge with its [worker] extra."
        ) from error
    family = get_family(FAMILY)
    runtime = family.runtime()
    model = runtime.load_model(checkpoint)
    if model.architecture not in NETWORKS:
        raise CommandError(
            f"A model of the architecture {model.architecture} has no use for an encoder; those with one: "
            f"{', '.join(sorted(NETWORKS))}."
        )
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, progress_line() as line:
        snapshot = Path(scratch)
        line("reading", 0, 0)
        family.snapshots().ingest(files, snapshot, data_schema=None)
        data = runtime.load_data(snapshot).for_methods()
        generator = torch.Generator().manual_seed(seed)
        prepared = run(model, data, config, generator=generator, progress=line)
    out.mkdir()
    runtime.save_model(prepared, out)
    return dict(runtime.describe(prepared))
