"""`serve`, `api`, `worker` and `migrate`: the service's own processes."""

import importlib.util
import threading
from contextlib import closing
from typing import Annotated

import typer

import migrations
from app.cli.database import check_schema, open_database
from app.cli.errors import CommandError
from app.cli.logs import configure_logging
from app.cli.output import JsonFlag, print_json, print_json_line, say
from app.cli.signals import on_stop_signals
from app.cli.signing import prepare_signing
from app.cli.worker_process import WorkerProcess
from app.database import Database
from app.policies.base import base_policy
from app.quick_start import everything_stays
from app.schema import current_revision, migrate, require_current_schema
from app.settings import Settings, get_settings
from app.trust.keys import any_key, create_key
from app.trust.scopes import Scope
from app.trust.signing import SigningKeyFile

HostOption = Annotated[
    str | None, typer.Option(help="Address to listen on.  [default: EXPUNGE_HOST]", show_default=False)
]
PortOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port to listen on, 0 for a free one.  [default: EXPUNGE_PORT]",
        show_default=False,
    ),
]
AccessLogFlag = Annotated[
    bool | None,
    typer.Option(
        "--access-log/--no-access-log",
        help="Log a line for each call.  [default: EXPUNGE_ACCESS_LOG]",
        show_default=False,
    ),
]


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("serve")(serve)
    program.command("api")(api)
    program.command("worker")(worker)
    program.command("migrate")(migrate_command)


def serve(
    *,
    host: HostOption = None,
    port: PortOption = None,
    access_log: AccessLogFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the API and one worker.

    An empty database is set up, and its first admin key printed once. With --json the first line on standard
    output is an object with `url` and `api_key` (null unless one was made), printed once requests are
    answered. A worker that dies is started again; one that dies at once again and again ends the service
    with status 1.
    """
    with everything_stays():
        from app.cli.http_server import Server, listen, listening_url  # noqa: PLC0415 - see that module

    _require_torch()
    settings = _with(get_settings(), host=host, port=port, access_log=access_log)
    base_policy(settings)  # a policy file that is wrong is told of in a line, before anything is started
    configure_logging(settings)
    with closing(listen(settings)) as listener:
        url = listening_url(settings, listener)
        secret = _prepare_database(settings)
        prepare_signing(settings)
        if secret is not None and not as_json:
            say("First admin key, shown this once:")
            typer.echo(secret)

        def announce() -> None:
            if as_json:
                print_json_line({"url": url, "api_key": secret})
            else:
                say(f"Expunge serves on {url}; its API is described at {url}/docs. Ctrl-C stops it.")

        server = Server(settings, announce)
        with WorkerProcess(settings, on_giving_up=server.stop) as worker_process:
            server.run_until_stopped(listener)
    if worker_process.gave_up:
        raise CommandError("The worker ends as soon as it starts, so the service was stopped; see its log.")


def api(
    *,
    host: HostOption = None,
    port: PortOption = None,
    access_log: AccessLogFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the API alone.

    Start as many as you like over one PostgreSQL database. With --json the first line on standard output is an
    object with `url`, printed once requests are answered.
    """
    with everything_stays():
        from app.cli.http_server import Server, listen, listening_url  # noqa: PLC0415 - see that module

    settings = _with(get_settings(), host=host, port=port, access_log=access_log)
    base_policy(settings)  # a policy file that is wrong is told of in a line, before anything is started
    configure_logging(settings)
    check_schema()
    with closing(listen(settings)) as listener:
        url = listening_url(settings, listener)

        def announce() -> None:
            if as_json:
                print_json_line({"url": url})
            else:
                say(f"The API answers on {url}. Ctrl-C stops it.")

        Server(settings, announce).run_until_stopped(listener)


def worker() -> None:
    """Run one worker.

    Start as many as you like, on any machine that reaches the database and the storage.
    """
    _require_torch()
    settings = get_settings()
    base_policy(settings)
    configure_logging(settings)
    check_schema()
    from app.worker.worker import run_worker  # noqa: PLC0415 - no other command needs its modules

    SigningKeyFile(settings.signing_key_file, settings.log_origin).require()
    stop = threading.Event()
    with on_stop_signals(stop.set):
        run_worker(settings, stop=stop)


def migrate_command(*, as_json: JsonFlag = False) -> None:
    """Bring the database's schema up to date.

    Doing it again changes nothing. Stop every other process of the service first.
    """
    with open_database(get_settings()) as database:
        before, after = current_revision(database), migrations.HEAD
        if before != after:
            migrate(database)
    if as_json:
        print_json({"from": before, "to": after})
    elif before == after:
        typer.echo(f"The schema is at revision {after} already.")
    else:
        typer.echo(f"The schema went from revision {before or 'none'} to {after}.")


def _require_torch() -> None:
    """Refuse before anything is started; looks for torch without importing it.

    Raises:
        CommandError: It is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise CommandError("A worker needs torch: install Expunge with its [worker] extra.")


def _with(settings: Settings, **chosen: object) -> Settings:
    """Let options of the command line beat the environment; those that are None were not given."""
    return settings.model_copy(update={name: value for name, value in chosen.items() if value is not None})


def _prepare_database(settings: Settings) -> str | None:
    """Set up an empty database, refuse an old one; return the first admin key's secret if it was made now."""
    with open_database(settings) as database:
        if current_revision(database) is None:
            migrate(database)
        require_current_schema(database)
        return _first_key(database)


def _first_key(database: Database) -> str | None:
    with database.write() as session:
        if any_key(session):
            return None
        _, secret = create_key(session, name="first", scopes=[Scope.ADMIN])
        return secret
