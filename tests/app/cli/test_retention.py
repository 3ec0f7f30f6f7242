"""`sweep`, `destroy`, `backup` and `restore` as a person types them."""

import json
import uuid

import pytest

from app.database import Database
from app.settings import get_settings
from app.tables import ApiKey


@pytest.fixture
def migrated(expunge):
    expunge("migrate")
    expunge("keys", "create", "--name", "first", "--scope", "admin")


def test_a_sweep_tells_what_it_did(expunge, migrated):
    swept = expunge("sweep", "--compact", "--json").json
    assert swept["compacted"] is True
    assert swept["failed"] == swept["targets"] == 0
    assert "targets" in expunge("sweep").out


def test_a_sweep_that_could_not_delete_fails(expunge, migrated, monkeypatch):
    monkeypatch.setattr("app.retention.sweeper.delete_litter", lambda *_: (0, 2))
    outcome = expunge("sweep")
    assert outcome.status == 1
    assert "2 things could not be deleted" in outcome.err


def test_a_backup_is_restored_into_a_new_database(expunge, migrated, tmp_path, monkeypatch):
    made = expunge("backup", tmp_path / "backup", "--json").json
    assert made["rows"] >= 1
    assert "not empty" in expunge("restore", tmp_path / "backup").err
    monkeypatch.setenv("EXPUNGE_DATABASE_URL", f"sqlite:///{tmp_path}/new.db")
    get_settings.cache_clear()
    assert expunge("restore", tmp_path / "backup").status == 1  # no schema yet
    expunge("migrate")
    restored = expunge("restore", tmp_path / "backup", "--json").json
    assert restored["rows"] == made["rows"]
    database = Database(get_settings().database_url)
    with database.read() as session:
        assert [key.name for key in session.query(ApiKey)] == ["first"]
    database.dispose()


def test_what_cannot_be_backed_up_or_restored_is_said_in_a_line(expunge, migrated, tmp_path):
    expunge("backup", tmp_path / "backup")
    assert expunge("backup", tmp_path / "backup").status == 1  # there is one already
    assert "no finished backup" in expunge("restore", tmp_path).err
    header = tmp_path / "backup" / "backup.json"
    original = json.loads(header.read_text())
    for change, said in (
        ({"format": 2}, "format"),
        ({"revision": "0001"}, "revision 0001"),
        ({"id": "x"}, "key"),
    ):
        header.write_text(json.dumps(original | change))
        assert said in expunge("restore", tmp_path / "backup").err
    header.write_text("{")
    assert "damaged" in expunge("restore", tmp_path / "backup").err


def test_destroying_needs_a_key_and_a_reason(expunge):
    assert expunge("destroy", "digits", 1).status == 2
    assert "No API key" in expunge("destroy", "digits", 1, "--reason", str(uuid.uuid4())).err
