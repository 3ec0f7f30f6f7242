"""Database access of the commands that work on the database itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.cli.errors import CommandError
from app.database import Database
from app.schema import require_current_schema
from app.settings import Settings, get_settings


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database for one command, whatever its schema.

    Raises:
        CommandError: Its URL is of an unsupported kind.
    """
    try:
        database = Database(settings.database_url)
    except ValueError as error:
        raise CommandError(f"EXPUNGE_DATABASE_URL: {error}.") from error
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def open_current_database() -> Iterator[Database]:
    """Open the settings' database.

    Raises:
        CommandError: Its URL is of an unsupported kind.
        SchemaError: Its schema is not the one this code needs.
    """
    with open_database(get_settings()) as database:
        require_current_schema(database)
        yield database


def check_schema() -> None:
    """Refuse an old schema before anything is started: later it would be a traceback in a log.

    Raises:
        CommandError: The database's URL is of an unsupported kind.
        SchemaError: Its schema is not the one this code needs.
    """
    with open_current_database():
        pass
