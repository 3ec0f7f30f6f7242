import pytest
from sqlalchemy import text

from app.database import Database
from app.settings import get_settings


def test_an_empty_database_is_brought_to_the_head(expunge):
    first = expunge("migrate", "--json").json
    assert first["from"] is None
    assert first["to"] is not None


def test_migrating_again_changes_nothing(expunge):
    revision = expunge("migrate", "--json").json["to"]
    assert expunge("migrate", "--json").json == {"from": revision, "to": revision}
    assert "already" in expunge("migrate").out


@pytest.mark.parametrize("command", ["serve", "api", "worker"])
def test_nothing_starts_on_an_old_schema(expunge, command):
    expunge("migrate")
    database = Database(get_settings().database_url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    database.dispose()
    outcome = expunge(command, *(["--port", "0"] if command != "worker" else []))
    assert outcome.status == 1
    assert "0000" in outcome.err
    assert "expunge migrate" in outcome.err
