from pathlib import Path

import pytest


@pytest.fixture
def fresh(tmp_path):
    """Return a function that makes one empty directory after the other."""
    made = 0

    def make() -> Path:
        nonlocal made
        made += 1
        directory = tmp_path / f"directory-{made}"
        directory.mkdir()
        return directory

    return make
