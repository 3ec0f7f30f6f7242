import pytest

from app.deposits import deposited


@pytest.fixture
def directory(runtime, tmp_path):
    directory = tmp_path / "made"
    directory.mkdir()
    (directory / "manifest.json").write_text("{}")
    return directory


def test_what_was_recorded_stays(runtime, directory):
    with deposited(runtime, directory, "here", lambda _session, location: location == "here"):
        assert runtime.storage.exists("here")
    assert runtime.storage.exists("here")


def test_what_was_not_recorded_is_deleted(runtime, directory):
    with deposited(runtime, directory, "here", lambda *_: False):
        pass
    assert not runtime.storage.exists("here")


def test_a_failure_takes_the_files_with_it(runtime, directory):
    with pytest.raises(ZeroDivisionError), deposited(runtime, directory, "here", lambda *_: False):
        raise ZeroDivisionError
    assert not runtime.storage.exists("here")


def test_a_commit_whose_answer_was_lost_keeps_its_files(runtime, directory):
    with pytest.raises(ConnectionError), deposited(runtime, directory, "here", lambda *_: True):
        raise ConnectionError
    assert runtime.storage.exists("here")


def test_files_are_kept_while_nobody_knows_whether_they_were_recorded(runtime, directory):
    """An orphan can be found and deleted later; files that a version names cannot be had back."""

    def unreachable(*_):
        raise ConnectionError

    with pytest.raises(ConnectionError), deposited(runtime, directory, "here", unreachable):
        raise ZeroDivisionError
    assert runtime.storage.exists("here")
