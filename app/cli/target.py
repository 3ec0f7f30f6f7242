"""Options that name what is to be forgotten, shared by `forget` and `plan`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.errors import CommandError

KindOption = Annotated[
    str,
    typer.Option(
        "--kind",
        help="What is named: records, subjects, classes, nodes, users, items, edges, interactions and so on.",
    ),
]
IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]...", help='The ids; a pair, such as an edge, as A:B or ["A","B"].', show_default=False
    ),
]
IdsFileOption = Annotated[
    Path | None,
    typer.Option("--ids-file", help="Read more ids from this file, one a line.", show_default=False),
]
FeatureOption = Annotated[
    list[str] | None,
    typer.Option(
        "--feature", help="With node_features: the feature; repeat for several.", show_default=False
    ),
]
GuaranteeOption = Annotated[
    str, typer.Option(help="The weakest guarantee that will do: any, exact, certified, empirical.")
]
MethodOption = Annotated[str, typer.Option(help="A method's name, or auto for the planner's choice.")]
ParametersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="A parameter of the method, its value as JSON or plain text; repeat for several.",
        show_default=False,
    ),
]

PAIR_KINDS = frozenset({"edges", "interactions"})


def read_target(
    kind: str, ids: list[str] | None, ids_file: Path | None, features: list[str] | None
) -> dict[str, Any]:
    """Build the target of a request body; what it must satisfy beyond its form is the service's to judge.

    Raises:
        CommandError: No id was given, or a pair is not two ids.
    """
    named = [*(ids or []), *_read_lines(ids_file)]
    if not named:
        raise CommandError("Name at least one id, as arguments or in --ids-file.")
    if kind == "examples":
        return {"kind": kind, "dataset": named[0]}
    if kind in PAIR_KINDS:
        return {"kind": kind, "pairs": [_pair(name) for name in named]}
    target: dict[str, Any] = {"kind": kind, "ids": named}
    if features:
        target["features"] = features
    return target


def read_parameters(assignments: list[str] | None) -> dict[str, Any]:
    """Read `NAME=VALUE` options.

    >>> read_parameters(["solve=update", "max_rank=64"])
    {'solve': 'update', 'max_rank': 64}

    Raises:
        CommandError: One has no `=`.
    """
    parameters = {}
    for assignment in assignments or []:
        name, equals, text = assignment.partition("=")
        if not (name and equals):
            raise CommandError(f"{assignment!r} is not of the form NAME=VALUE.")
        try:
            parameters[name] = json.loads(text)
        except ValueError:
            parameters[name] = text
    return parameters


def _read_lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text.") from error
    return [line for line in text.splitlines() if line]


def _pair(text: str) -> list[str]:
    """Read two ids as A:B, or as JSON where an id has a colon itself.

    >>> _pair("17:23"), _pair('["node:1","2"]')
    (['17', '23'], ['node:1', '2'])
    """
    first, colon, second = text.partition(":")
    as_json = _json_pair(text)
    if as_json is not None:
        return as_json
    if not (first and colon and second):
        raise CommandError(f'{text!r} is not a pair of the form A:B or ["A","B"].')
    return [first, second]


def _json_pair(text: str) -> list[str] | None:
    try:
        pair = json.loads(text)
    except ValueError:
        return None  # the usual case: A:B is no JSON
    is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)  # noqa: PLR2004 - a pair
    return pair if is_pair else None
