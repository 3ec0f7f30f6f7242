"""The database's schema: where it stands, where it must stand, and how to bring it there.

Every process compares the two when it starts, and only one in a while changes anything. So Alembic, which takes long to
import, is imported by what runs migrations alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

import migrations
from app.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

REVISION_TABLE = "alembic_version"


class SchemaError(Exception):
    """The database's schema is not the one this code needs."""


def migration_config(database: Database) -> "Config":
    """Return Alembic's configuration for `database`."""
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> None:
    """Bring the schema to the newest revision."""
    from alembic import command  # noqa: PLC0415 - see above

    command.upgrade(migration_config(database), "head")


def current_revision(database: Database) -> str | None:
    """Return the revision the database is at, None when it is empty."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table(REVISION_TABLE):
            return None
        return connection.execute(text(f"SELECT version_num FROM {REVISION_TABLE}")).scalar_one_or_none()  # noqa: S608 - a constant


def require_current_schema(database: Database) -> None:
    """Refuse to go on with a schema that is not the newest.

    Raises:
        SchemaError: It is older, newer, or absent; the message says what to run.
    """
    current = current_revision(database)
    if current == migrations.HEAD:
        return
    if current is None:
        raise SchemaError("The database has no schema yet: run `expunge migrate`.")
    raise SchemaError(
        f"The database's schema is at revision {current}, this version of Expunge needs {migrations.HEAD}: "
        "stop every process of it and run `expunge migrate`."
    )
