"""What commands print: results on standard output, everything else on standard error."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as RemainingColumn
from rich.table import Table

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

CONTROL_CHARACTERS = dict.fromkeys((*range(32), *range(127, 160)), "�")
"""Names that come from elsewhere must not be able to move a terminal's cursor or break a line."""


def one_line(text: object) -> str:
    """Return `text` as one line without control characters."""
    return " ".join(str(text).split()).translate(CONTROL_CHARACTERS)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_json_line(value: Any) -> None:
    """Print one JSON document on a line of its own, for readers of a stream."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values in two columns; what is None is left out."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        if value is not None:
            typer.echo(f"{name:<{width}}  {one_line(value)}")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table; cells wrap where the terminal is narrow, and are never cut where there is none."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if cell is None else escape(one_line(cell)) for cell in row))
    console = Console()
    if console.is_terminal:
        console.print(table)
    else:
        Console(width=240).print(table)


def show_help(context: typer.Context) -> None:
    """Be the callback of a group of commands: show its help where no command is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def say(text: str) -> None:
    """Tell a person something that is not the result."""
    typer.echo(text, err=True)


def say_error(text: object) -> None:
    """Tell what went wrong, in one line."""
    typer.echo(f"error: {one_line(text)}", err=True)


class ProgressLine:
    """One progress bar on standard error; draws nothing where that is no terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def __call__(
        self, stage: str, done: int, of: int, _figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Show that `done` of `of` steps of `stage` are done; `of` is 0 where nobody knows."""
        self._progress.update(self._task, description=stage, completed=done, total=of or None)


@contextmanager
def progress_line(*, of_bytes: bool = False) -> Iterator[ProgressLine]:
    """Show the progress of long work while the block runs."""
    console = Console(stderr=True)
    counted = TaskProgressColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counted, RemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressLine(progress)
