"""How client commands reach the service."""

from typing import Annotated

import typer

from app.cli.errors import CommandError
from app.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[str, typer.Option("--url", envvar="EXPUNGE_URL", help="Where the service is.")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="EXPUNGE_API_KEY",
        show_default=False,
        help="The API key; better given by the variable, which other users of the machine cannot see.",
    ),
]


def connect(url: str, api_key: str | None) -> Client:
    """Return a client, to be closed by the caller.

    Raises:
        CommandError: No key was given.
    """
    if not api_key:
        raise CommandError(
            "No API key: set EXPUNGE_API_KEY or give --api-key (expunge keys create makes one)."
        )
    return Client(url, api_key)
