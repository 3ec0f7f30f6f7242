"""Every expected error is one line on standard error and an exit status; never a traceback."""

from pathlib import Path

import pytest

from app.cli.output import one_line


def assert_one_line(err: str) -> None:
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_no_command_shows_the_help(expunge):
    outcome = expunge()
    assert outcome.status == 0
    assert "Usage: expunge" in outcome.out


@pytest.mark.parametrize("group", ["keys", "register"])
def test_a_group_without_command_shows_its_help(expunge, group):
    outcome = expunge(group)
    assert outcome.status == 0
    assert f"Usage: expunge {group}" in outcome.out


def test_version_is_printed(expunge):
    assert expunge("--version").out.startswith("expunge ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["forget"],
        ["watch"],
        ["keys", "create", "--name", "a", "--scope", "everything"],
        ["keys", "create", "--name", "a", "--scope", "admin", "--expires-in", "soon"],
        ["keys", "revoke", "not-a-uuid"],
        ["serve", "--port", "123456"],
        ["register", "dataset", "digits", "absent.npz"],
        ["train", "absent.npz", "--out", "checkpoint"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(expunge, arguments):
    outcome = expunge(*arguments)
    assert outcome.status == 2
    assert_one_line(outcome.err)


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["watch", "x"],
        ["forget", "digits", "a"],
        ["methods"],
        ["plan", "digits", "a"],
        ["download", "digits"],
        ["register", "model", "digits", "--dataset", "d", "--uri", "x"],
    ],
)
def test_client_commands_without_a_key_say_where_to_get_one(expunge, command):
    outcome = expunge(*command)
    assert outcome.status == 1
    assert_one_line(outcome.err)
    assert "EXPUNGE_API_KEY" in outcome.err


def test_a_refused_connection_is_one_line(expunge):
    outcome = expunge("status", "--url", "http://127.0.0.1:9", "--api-key", "xp_x")
    assert outcome.status == 1
    assert_one_line(outcome.err)
    assert "http://127.0.0.1:9" in outcome.err


@pytest.mark.parametrize("url", ["not-a-url", "ftp://127.0.0.1", "http://127.0.0.1:port"])
def test_an_unusable_url_is_one_line(expunge, url):
    outcome = expunge("status", "--url", url, "--api-key", "xp_x")
    assert outcome.status == 1
    assert_one_line(outcome.err)


@pytest.mark.parametrize(
    ("name", "value"),
    [("EXPUNGE_PORT", "many"), ("EXPUNGE_LEASE_SECONDS", "-1"), ("EXPUNGE_DATABASE_URL", "no url at all")],
)
def test_a_wrong_setting_is_named_and_status_2(expunge, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    outcome = expunge("migrate")
    assert outcome.status == 2
    assert_one_line(outcome.err)
    assert name in outcome.err


def test_an_unsupported_database_is_named(expunge, monkeypatch):
    monkeypatch.setenv("EXPUNGE_DATABASE_URL", "mysql://user:secret@127.0.0.1/expunge")
    outcome = expunge("migrate")
    assert outcome.status == 1
    assert "mysql" in outcome.err
    assert "secret" not in outcome.err


def test_an_unreachable_database_is_one_line_without_its_password(expunge, monkeypatch):
    monkeypatch.setenv("EXPUNGE_DATABASE_URL", "postgresql+psycopg://user:secret@127.0.0.1:9/expunge")
    outcome = expunge("keys", "list")
    assert outcome.status == 1
    assert_one_line(outcome.err)
    assert "secret" not in outcome.err


def test_an_unreadable_database_file_is_one_line(expunge, monkeypatch, tmp_path: Path):
    (tmp_path / "no-database").write_text("this is a plain text file, long enough to be looked at " * 20)
    monkeypatch.setenv("EXPUNGE_DATABASE_URL", f"sqlite:///{tmp_path / 'no-database'}")
    outcome = expunge("migrate")
    assert outcome.status == 1
    assert_one_line(outcome.err)


@pytest.mark.parametrize("command", [["api"], ["worker"], ["keys", "list"]])
def test_an_absent_schema_says_what_to_run(expunge, command):
    outcome = expunge(*command)
    assert outcome.status == 1
    assert_one_line(outcome.err)
    assert "expunge migrate" in outcome.err


def test_text_from_elsewhere_cannot_steer_the_terminal():
    assert one_line("a\nb\x1b[31mc\x9bd") == "a b\N{REPLACEMENT CHARACTER}[31mc\N{REPLACEMENT CHARACTER}d"
