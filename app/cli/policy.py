"""`policy`: what is demanded of audits, over HTTP."""

from typing import Annotated, Any

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_json, print_table, show_help
from app.cli.target import read_parameters
from app.client import JsonObject

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="The model; or name a --family.", show_default=False)
]
FamilyOption = Annotated[
    str | None, typer.Option("--family", help="In place of a model: its family.", show_default=False)
]

program = typer.Typer(
    name="policy",
    help="Show and set what is demanded of audits.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)


def add_commands(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(program)


@program.command("show")
def show(
    model: ModelArgument = None,
    *,
    family: FamilyOption = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the policy in effect for a model, or what is set for a family."""
    _require_one(model, family)
    with connect(url, api_key) as client:
        found = client.policy(model) if model is not None else client.policy_fields(family=family)
    if as_json:
        print_json(found)
    elif model is not None:
        _print(found["policy"], found["sources"])
    else:
        _print(found["fields"], dict.fromkeys(found["fields"], "family"))


@program.command("set")
def set_fields(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] FIELD=VALUE...",
            help="The model, unless a --family is named; then fields, each value as JSON or plain text.",
            show_default=False,
        ),
    ] = None,
    *,
    family: FamilyOption = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset", help="A field that is inherited again; repeat for several.", show_default=False
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set fields of a model's or a family's policy; the others that are set there stay."""
    named = list(words or [])
    model = named.pop(0) if family is None and named and "=" not in named[0] else None
    _require_one(model, family)
    changes = read_parameters(named)
    if not (changes or unset):
        raise CommandError("Name at least one FIELD=VALUE to set, or a field to --unset.")
    with connect(url, api_key) as client:
        before = client.policy_fields(model=model, family=family)["fields"]
        kept = {name: value for name, value in before.items() if name not in (unset or ())}
        found = client.set_policy({**kept, **changes}, model=model, family=family)
    print_json(found) if as_json else _print_set(found)


def _require_one(model: str | None, family: str | None) -> None:
    if (model is None) == (family is None):
        raise CommandError("Name either a model or a --family.")


def _print_set(found: JsonObject) -> None:
    source = "model" if found["model"] is not None else "family"
    _print(found["fields"], dict.fromkeys(found["fields"], source))


def _print(values: dict[str, Any], sources: dict[str, str]) -> None:
    print_table(
        ["field", "value", "comes from"],
        [[name, "none" if value is None else value, sources[name]] for name, value in values.items()],
    )
