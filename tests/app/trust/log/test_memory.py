import json

import pytest

from app.trust.log.memory import REMEMBERED, LogRewrittenError, SignedHeads
from tests.reference import merkle as slow

LEAVES = [b"%d" % number for number in range(300)]


@pytest.fixture
def heads(tmp_path):
    return SignedHeads(tmp_path / "cache" / "signed-heads.json")


def of(leaves):
    return lambda size: slow.root(leaves[:size])


def test_a_log_that_grows_is_signed(heads):
    for size in (0, 1, 1, 5, 12):
        assert heads.remember(size, of(LEAVES)) == slow.root(LEAVES[:size])


def test_a_call_that_comes_late_with_an_earlier_state_is_signed(heads):
    for size in (3, 9, 7):
        heads.remember(size, of(LEAVES))
    assert [size for size, _ in json.loads(heads.path.read_text())] == [3, 9]


def test_rewritten_history_is_never_signed(heads):
    heads.remember(6, of(LEAVES))
    before = heads.path.read_text()
    for size in (6, 7, 20):
        with pytest.raises(LogRewrittenError, match="first 6 entries"):
            heads.remember(size, of([*LEAVES[:4], b"x", *LEAVES[5:]]))
    assert heads.path.read_text() == before
    heads.remember(7, of(LEAVES))


def test_another_process_of_the_machine_remembers_too(heads):
    heads.remember(6, of(LEAVES))
    with pytest.raises(LogRewrittenError):
        SignedHeads(heads.path).remember(6, of([b"x", *LEAVES]))


def test_the_file_stays_small(heads):
    for size in range(150):
        heads.remember(size, of(LEAVES))
    assert len(json.loads(heads.path.read_text())) == REMEMBERED


def test_a_database_that_was_replaced_on_purpose_is_signed(heads):
    heads.remember(6, of(LEAVES))
    heads.forget()
    heads.forget()
    heads.remember(6, of([b"x", *LEAVES]))
