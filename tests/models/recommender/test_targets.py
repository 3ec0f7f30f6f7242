"""What users, items and interactions mean in a snapshot's index."""

import pytest

from models.contracts import Asked
from models.id_index import IdIndex
from models.recommender import targets

ROWS = [("b", "x"), ("a", "y"), ("b", "y"), ("c", "x")]


@pytest.fixture
def index(tmp_path):
    IdIndex.build(
        tmp_path / "index.sqlite",
        [f'["{user}","{item}"]' for user, item in ROWS],
        subjects=[user for user, _ in ROWS],
        classes=[item for _, item in ROWS],
    )
    with IdIndex.open(tmp_path / "index.sqlite") as opened:
        yield opened


@pytest.mark.parametrize(
    ("asked", "found", "missing"),
    [
        (Asked("users", ("b", "x")), {'["b","x"]', '["b","y"]'}, ["x"]),
        (Asked("subjects", ("a",)), {'["a","y"]'}, []),
        (Asked("items", ("x", "b")), {'["b","x"]', '["c","x"]'}, ["b"]),
        (Asked("interactions", pairs=(("b", "y"), ("a", "x"))), {'["b","y"]'}, ['["a","x"]']),
    ],
)
def test_a_target_is_the_interactions_that_it_names(index, asked, found, missing):
    assert targets.records(index, asked) == found
    assert targets.missing(index, asked) == missing
    assert targets.count(index, asked) == len(found)
    assert targets.classes(asked) == ()


def test_other_kinds_are_no_targets(index):
    with pytest.raises(ValueError, match="classes are not targets of this family"):
        targets.missing(index, Asked("classes", ("x",)))
