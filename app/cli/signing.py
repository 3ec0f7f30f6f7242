"""`keys signing`: the service's own keys, which sign certificates, tree heads and checkpoints."""

import datetime as dt
from typing import Annotated, Any

import typer
from sqlalchemy import exists, select

from app.cli.database import open_current_database, open_database
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_fields, print_json, say, show_help
from app.database import Database
from app.settings import Settings, get_settings
from app.tables import SigningKey
from app.trust.signing import Signer, SigningKeyError, SigningKeyFile, record_keys

program = typer.Typer(
    name="signing",
    help="Make, show and rotate the keys that sign certificates.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@program.command("create")
def create(
    *,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Leave keys that are there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the keys in EXPUNGE_SIGNING_KEY_FILE.

    Copy the file to every machine that runs an API or a worker, and keep a copy where nobody else reads it. Refuses
    where the service has signed with other keys before: those are rotated, not made anew.
    """
    key_file = _key_file(get_settings())
    with open_current_database() as database:
        if key_file.exists() and if_absent:
            say(f"The keys in {key_file.path} are left as they are.")
        else:
            _refuse_strangers(database, key_file)
            try:
                key_file.create()
            except FileExistsError:
                raise CommandError(f"There are keys in {key_file.path} already.") from None
        _record(database, key_file.require())
    _print(key_file.require(), as_json=as_json)


@program.command("show")
def show(
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print the PEM alone.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the public keys.

    Auditors need them, by a way they trust: `show --pem > expunge.pub` makes the file for `expunge verify --key`.
    """
    signer = _key_file(get_settings()).require()
    if pem:
        typer.echo(signer.certificates.pem, nl=False)
    else:
        _print(signer, as_json=as_json)


@program.command("rotate")
def rotate(*, as_json: JsonFlag = False) -> None:
    """Replace the keys by new ones.

    The old private keys are gone then; what they signed goes on verifying under the old public keys, which the
    database keeps. Copy the new file to every machine and restart its processes.
    """
    key_file = _key_file(get_settings())
    with open_current_database() as database:
        if key_file.exists():
            _record(database, SigningKeyFile(key_file.path, get_settings().log_origin).require())
        elif not _has_signed(database):
            raise CommandError("There are no keys to rotate: make some with 'expunge keys signing create'.")
        key_file.path.parent.mkdir(parents=True, exist_ok=True)
        key_file.replace()
        _record(database, key_file.require())
    _print(key_file.require(), as_json=as_json)


def prepare_signing(settings: Settings) -> None:
    """Make the keys for a service that has never had any; refuse where the ones it had are gone.

    Raises:
        SigningKeyError: The file is gone, or cannot be used.
    """
    key_file = _key_file(settings)
    with open_database(settings) as database:
        if not key_file.exists():
            _refuse_strangers(database, key_file)
            key_file.create()
            say(f"Made the keys that sign certificates: {key_file.path}. Keep a copy of that file.")
        _record(database, key_file.require())


def _key_file(settings: Settings) -> SigningKeyFile:
    return SigningKeyFile(settings.signing_key_file, settings.log_origin)


def _refuse_strangers(database: Database, key_file: SigningKeyFile) -> None:
    if _has_signed(database) and not key_file.exists():
        raise SigningKeyError(
            f"The service has signing keys, and {key_file.path} is not there: bring that file back, or replace lost "
            "keys with 'expunge keys signing rotate'."
        )


def _has_signed(database: Database) -> bool:
    with database.read() as session:
        return session.execute(select(exists().where(SigningKey.id.is_not(None)))).scalar_one()


def _record(database: Database, signer: Signer) -> None:
    with database.write() as session:
        record_keys(session, signer, dt.datetime.now(dt.UTC))


def _print(signer: Signer, *, as_json: bool) -> None:
    shown: dict[str, Any] = {
        "id": signer.certificates.id,
        "vkey": str(signer.verifier_key),
        "public_key": signer.certificates.pem,
        "checkpoint_key": signer.checkpoints.pem,
    }
    if as_json:
        print_json(shown)
        return
    print_fields({"key id": shown["id"], "verifier key": shown["vkey"]})
    typer.echo("Certificates and tree heads:")
    typer.echo(signer.certificates.pem, nl=False)
    typer.echo("Checkpoints (model.sig):")
    typer.echo(signer.checkpoints.pem, nl=False)
