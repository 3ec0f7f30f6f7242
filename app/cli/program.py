"""The command's tree, and the one place where an error becomes a line and an exit status.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

import importlib.metadata
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from typer.exceptions import Abort, TyperException

from app.backup.errors import BackupError
from app.cli import (
    audit,
    backup,
    download,
    forget,
    keys,
    log,
    methods,
    policy,
    pretrain,
    register,
    retention,
    server,
    signing,
    train,
    verify,
)
from app.cli.demo import command as demo
from app.cli.errors import CommandError
from app.cli.output import say_error, show_help
from app.client import ClientError
from app.opendsr.errors import OpenDsrSettingsError
from app.policies.base import PolicyFileError
from app.schema import SchemaError
from app.trust.certificates.bundle import CertificateError
from app.trust.keys import KeyNotUsableError, UnknownKeyError
from app.trust.signing import SigningKeyError
from models.errors import ModelsError
from unlearning.errors import UnlearningError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130

SENTENCES = (
    CommandError,
    ClientError,
    SchemaError,
    BackupError,
    OpenDsrSettingsError,
    PolicyFileError,
    UnknownKeyError,
    KeyNotUsableError,
    SigningKeyError,
    CertificateError,
    ModelsError,
    UnlearningError,
)
"""Errors whose message is already a sentence for people."""

program = typer.Typer(
    name="expunge",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    server,
    train,
    pretrain,
    register,
    forget,
    download,
    verify,
    methods,
    policy,
    audit,
    retention,
    backup,
    demo,
):
    module.add_commands(program)
keys.program.add_typer(signing.program)
program.add_typer(keys.program)
program.add_typer(log.program)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if asked:
        typer.echo(f"expunge {importlib.metadata.version('expunge')}")
        raise typer.Exit


@program.callback(invoke_without_command=True)
def expunge(
    context: typer.Context,
    *,
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Machine unlearning as a service: erasure requests become new, audited model versions."""
    show_help(context)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; `arguments` default to the process's own."""
    try:
        status: Any = program(args=arguments, prog_name="expunge", standalone_mode=False)
    except TyperException as error:
        say_error(f"{error.format_message()} See expunge --help.")
        return error.exit_code
    except (Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (*SENTENCES, ValidationError, SQLAlchemyError, OSError) as error:
        say_error(_sentence(error))
        return MISUSED if isinstance(error, (ValidationError, ArgumentError)) else FAILED
    return status if isinstance(status, int) else 0


def _sentence(error: Exception) -> str:
    """Say in a sentence what an expected error means."""
    match error:
        case ValidationError():
            # Of the settings. Their values are left out: one of them may be a secret.
            names = (f"EXPUNGE_{'_'.join(map(str, part['loc'])).upper()}" for part in error.errors())
            problems = (part["msg"] for part in error.errors())
            return "; ".join(f"{name}: {problem}" for name, problem in zip(names, problems, strict=True))
        case ArgumentError():
            return "EXPUNGE_DATABASE_URL is not a database URL."
        case SQLAlchemyError():
            # The original error names the cause; SQLAlchemy's own text adds the statement and its parameters.
            return f"The database cannot be used: {getattr(error, 'orig', None) or type(error).__name__}."
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}."
        case _:
            return str(error)
