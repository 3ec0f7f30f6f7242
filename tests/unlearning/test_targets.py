from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.id_index import IdIndex
from unlearning import targets
from unlearning.errors import TargetError
from unlearning.targets import TARGET

missing_ids = partial(targets.missing_ids, "classifier")
resolve_target = partial(targets.resolve_target, "classifier")
count_records = partial(targets.count_records, "classifier")


def target(kind, *ids):
    return TARGET.validate_python({"kind": kind, "ids": ids})


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    IdIndex.build(
        path,
        ids=["r3", "r1", "r2", "r4"],
        subjects=["ann", "bob", "ann", None],
        splits=[0, 0, 1, 0],
        classes=["cat", "dog", "dog", "emu"],
    )
    with IdIndex.open(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """A later state of the same data set: r1 and its subject are gone, r9 has come."""
    path = tmp_path_factory.mktemp("newer") / "index.sqlite"
    IdIndex.build(
        path, ids=["r3", "r2", "r4", "r9"], subjects=["ann", "ann", None, "eve"], classes=["cat"] * 4
    )
    with IdIndex.open(path) as opened:
        yield opened


def test_records_resolve_to_themselves_sorted(index):
    resolved = resolve_target(index, target("records", "r4", "r1"))
    assert resolved.record_ids == ("r1", "r4")
    assert resolved.classes == ()


def test_subject_resolves_to_all_its_records_held_out_ones_too(index):
    assert resolve_target(index, target("subjects", "ann")).record_ids == ("r2", "r3")


def test_class_resolves_to_its_records_and_is_named(index):
    resolved = resolve_target(index, target("classes", "emu", "dog"))
    assert resolved.record_ids == ("r1", "r2", "r4")
    assert resolved.classes == ("dog", "emu")


@pytest.mark.parametrize("kind", ["records", "subjects", "classes"])
def test_what_no_longer_exists_is_an_error_that_counts_it_and_names_nothing(index, kind):
    with pytest.raises(TargetError, match=rf"2 of the target's \d {kind} no longer exist in the data set\.$"):
        resolve_target(index, target(kind, "zoe", "abe"))


def test_missing_ids_come_in_the_targets_order(index):
    assert missing_ids(index, target("records", "x2", "r1", "x1")) == ["x2", "x1"]
    assert missing_ids(index, target("records", "r1")) == []


@pytest.mark.parametrize(
    "foreign",
    [
        {"kind": "users", "ids": ["r1"]},
        {"kind": "edges", "pairs": [["r1", "r2"]]},
        {"kind": "node_features", "ids": ["r1"], "features": ["f"]},
        {"kind": "examples", "dataset": "d"},
    ],
)
def test_kinds_that_the_family_does_not_know_are_refused(index, foreign):
    with pytest.raises(TargetError, match=f"'classifier' knows no targets of kind {foreign['kind']}"):
        resolve_target(index, TARGET.validate_python(foreign))


def test_another_state_of_the_data_counts_as_existing_but_adds_no_records(index, newer):
    both = target("records", "r1", "r9")
    assert missing_ids(newer, both) == ["r1"]
    assert missing_ids(index, both, also=newer) == []
    assert resolve_target(index, both, also=newer).record_ids == ("r1",)
    assert resolve_target(newer, both, also=index).record_ids == ("r9",)
    with pytest.raises(TargetError, match="1 of the target's 2 records"):
        resolve_target(index, target("records", "r1", "zz"), also=newer)


def test_subject_of_the_newer_state_alone_resolves_to_nothing_here(index, newer):
    assert resolve_target(index, target("subjects", "eve"), also=newer).record_ids == ()


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("records", ["r1", "r4", "zz"]),
        ("subjects", ["ann", "bob", "zoe"]),
        ("classes", ["dog", "emu", "yak"]),
    ],
)
def test_count_is_what_resolving_finds(index, kind, ids):
    known = target(kind, *ids[:-1])
    assert count_records(index, known) == len(resolve_target(index, known).record_ids)
    assert count_records(index, target(kind, *ids)) == count_records(index, known)


def test_count_refuses_foreign_kinds_too(index):
    with pytest.raises(TargetError, match="knows no targets of kind users"):
        count_records(index, target("users", "r1"))


@given(st.permutations(["r1", "r2", "r3", "r4"]), st.integers(1, 4))
def test_order_of_the_target_is_irrelevant(index, ids, count):
    named = ids[:count]
    expected = resolve_target(index, target("records", *sorted(named)))
    assert resolve_target(index, target("records", *named)) == expected


def test_duplicates_and_empty_targets_are_refused():
    with pytest.raises(ValidationError, match="named more than once: 'r1'"):
        target("records", "r1", "r2", "r1")
    with pytest.raises(ValidationError, match="at least 1"):
        target("records")
    with pytest.raises(ValidationError, match="named more than once"):
        TARGET.validate_python({"kind": "edges", "pairs": [["a", "b"], ["a", "b"]]})
