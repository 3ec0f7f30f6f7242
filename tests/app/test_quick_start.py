"""Importing without collecting garbage."""

import gc

import pytest

from app.quick_start import everything_stays


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def test_nothing_is_collected_within_and_what_was_made_is_passed_over_afterwards():
    with everything_stays():
        assert not gc.isenabled()
        made = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert not any(kept is made for kept in gc.get_objects())


def test_collecting_goes_on_after_a_failure():
    with pytest.raises(ImportError), everything_stays():
        raise ImportError("no such module")
    assert gc.isenabled()
