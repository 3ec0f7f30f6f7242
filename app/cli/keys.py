"""`keys`: API keys, made and ended in the database itself, so that the first one needs no key."""

import datetime as dt
import re
import uuid
from typing import Annotated, Any

import typer

from app.cli.database import open_current_database
from app.cli.output import JsonFlag, print_fields, print_json, print_table, say, show_help
from app.tables import ApiKey
from app.trust.keys import create_key, list_keys, revoke_key, rotate_key
from app.trust.scopes import Scope

DURATION = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

program = typer.Typer(
    name="keys",
    help="Make, list, rotate and revoke API keys.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)


def parse_duration(text: str) -> dt.timedelta:
    """Read a duration such as `90d`, `12h` or `0s`.

    >>> parse_duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    match = DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90d, 12h or 30m.")
    return dt.timedelta(**{UNITS[match[2]]: int(match[1])})


KeyId = Annotated[uuid.UUID, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


@program.command("create")
def create(
    *,
    name: Annotated[str, typer.Option(help="What or whom the key is for.", show_default=False)],
    scope: Annotated[
        list[Scope], typer.Option(help="What it may do; repeat for several.", show_default=False)
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Limit it to this model; repeat for several.  [default: every model]"),
    ] = None,
    expires_in: Annotated[
        dt.timedelta | None,
        typer.Option(
            parser=parse_duration,
            metavar="DURATION",
            help="How long it lives, such as 90d.  [default: for good]",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print its secret once."""
    expires_at = dt.datetime.now(dt.UTC) + expires_in if expires_in is not None else None
    with open_current_database() as database, database.write() as session:
        key, secret = create_key(
            session, name=name, scopes=scope, models=model or None, expires_at=expires_at
        )
        shown = _shown(key)
    _print_secret(shown, secret, as_json=as_json)


@program.command("list")
def list_command(*, as_json: JsonFlag = False) -> None:
    """List every key, ended ones included."""
    with open_current_database() as database, database.read() as session:
        keys = [_shown(key) for key in list_keys(session)]
    if as_json:
        print_json(keys)
        return
    print_table(
        ["id", "name", "begins with", "scopes", "models", "state", "expires"],
        [
            [
                key["id"],
                key["name"],
                key["hint"],
                ", ".join(key["scopes"]),
                "every model" if key["models"] is None else ", ".join(key["models"]),
                key["state"],
                key["expires_at"],
            ]
            for key in keys
        ],
    )


@program.command("revoke")
def revoke(key_id: KeyId, *, as_json: JsonFlag = False) -> None:
    """End a key at once."""
    with open_current_database() as database, database.write() as session:
        shown = _shown(revoke_key(session, key_id))
    if as_json:
        print_json(shown)
    else:
        typer.echo(f"The key {shown['id']} ({shown['name']}) is revoked.")


@program.command("rotate")
def rotate(
    key_id: KeyId,
    *,
    grace: Annotated[
        dt.timedelta,
        typer.Option(parser=parse_duration, metavar="DURATION", help="How long the old key goes on working."),
    ] = "0s",  # type: ignore[assignment] # typer parses the default as it parses the option
    as_json: JsonFlag = False,
) -> None:
    """Replace a key.

    Makes a successor with the same scopes, models and lifetime, and ends the old key after --grace.
    """
    with open_current_database() as database, database.write() as session:
        key, secret = rotate_key(session, key_id, grace=grace)
        shown = _shown(key)
    _print_secret(shown, secret, as_json=as_json)


def _print_secret(shown: dict[str, Any], secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**shown, "secret": secret})
        return
    say("The key's secret, shown this once:")
    typer.echo(secret)
    say("")
    print_fields({"id": shown["id"], "scopes": ", ".join(shown["scopes"]), "expires": shown["expires_at"]})


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes,
        "models": key.models,
        "state": _state(key, dt.datetime.now(dt.UTC)),
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at is not None else None,
    }


def _state(key: ApiKey, now: dt.datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"
