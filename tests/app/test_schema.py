from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

import migrations
from app.database import Database
from app.schema import SchemaError, migrate, migration_config, require_current_schema
from app.tables import Base

DATASET, MODEL, JOB = ("00000000-0000-0000-0000-00000000000" + digit for digit in "123")
ROWS_OF_THE_FIRST_SCHEMA = (
    (
        "INSERT INTO datasets (id, name, family, data_schema, head_snapshot, next_snapshot, suppression_key, created_at)"
        f" VALUES ('{DATASET}', 'd', 'classifier', '{{}}', 1, 2, '', '2026-01-01T00:00:00Z')"
    ),
    (
        "INSERT INTO models (id, name, family, architecture, dataset_id, latest_version, next_version, created_at)"
        f" VALUES ('{MODEL}', 'm', 'classifier', 'analytic', '{DATASET}', 1, 2, '2026-01-01T00:00:00Z')"
    ),
    (
        "INSERT INTO jobs (id, model_id, kind, state, attempts, created_at)"
        f" VALUES ('{JOB}', '{MODEL}', 'update', 'queued', 0, '2026-01-01T00:00:00Z')"
    ),
    (
        "INSERT INTO events (job_id, type, reason, created_at)"
        f" VALUES ('{JOB}', 'status', 'Waits.', '2026-01-01T00:00:00Z')"
    ),
)


@pytest.fixture
def database(database_url: str):
    database = Database(database_url)
    yield database
    database.dispose()


def test_migrated_schema_equals_the_tables(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_revision_that_is_written_down_is_the_newest_one(database):
    assert ScriptDirectory.from_config(migration_config(database)).get_current_head() == migrations.HEAD


def test_every_constraint_has_a_name(database):
    inspector = inspect(database.engine)
    for table in Base.metadata.tables:
        constraints = [
            *inspector.get_foreign_keys(table),
            *inspector.get_unique_constraints(table),
            *inspector.get_check_constraints(table),
        ]
        assert all(constraint["name"] for constraint in constraints), table


def test_downgrade_and_upgrade_come_back_to_the_same_schema(database):
    command.downgrade(migration_config(database), "base")
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    migrate(database)
    require_current_schema(database)


def test_an_upgrade_keeps_rows_that_others_refer_to(database):
    command.downgrade(migration_config(database), "0001")
    with database.write() as session:
        for statement in ROWS_OF_THE_FIRST_SCHEMA:
            session.execute(text(statement))
    migrate(database)
    with database.read() as session:
        kept = session.execute(
            text("SELECT jobs.kind, events.reason FROM events JOIN jobs ON jobs.id = job_id")
        )
        assert kept.all() == [("update", "Waits.")]
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text("UPDATE jobs SET kind = 'unknown'"))
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text("DELETE FROM jobs"))


def test_a_database_without_schema_is_refused_with_the_command_to_run(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(SchemaError, match="expunge migrate"):
        require_current_schema(database)
    database.dispose()


def test_another_revision_is_refused_naming_both(database):
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaError, match=r"revision 0000.*needs 0006.*expunge migrate"):
        require_current_schema(database)
