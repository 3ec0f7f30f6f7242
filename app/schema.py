"""The database's schema: where it stands, where it must stand, and how to bring it there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from app.database import Database


class SchemaError(Exception):
    """The database's schema is not the one this code needs."""


def migration_config(database: Database) -> Config:
    """Return Alembic's configuration for `database`."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> None:
    """Bring the schema to the newest revision."""
    command.upgrade(migration_config(database), "head")


def current_revision(database: Database) -> str | None:
    """Return the revision the database is at, None when it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision(database: Database) -> str | None:
    """Return the newest revision this code knows."""
    return ScriptDirectory.from_config(migration_config(database)).get_current_head()


def require_current_schema(database: Database) -> None:
    """Refuse to go on with a schema that is not the newest.

    Raises:
        SchemaError: It is older, newer, or absent; the message says what to run.
    """
    current, head = current_revision(database), head_revision(database)
    if current == head:
        return
    if current is None:
        raise SchemaError("The database has no schema yet: run `expunge migrate`.")
    raise SchemaError(
        f"The database's schema is at revision {current}, this version of Expunge needs {head}: "
        "stop every process of it and run `expunge migrate`."
    )
