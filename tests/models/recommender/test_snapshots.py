"""Snapshots of interactions: splits, duplicates, derived snapshots that are equal byte for byte."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import read_manifest
from models.errors import DatasetError
from models.id_index import IdIndex
from models.recommender.data import load_data
from models.recommender.records import INDEX_NAME, NAMES_NAME, RECORDS_NAME, SCHEMA_NAME
from models.recommender.snapshots import append, ingest, without

ROWS = [("b", "x"), ("a", "y"), ("b", "y"), ("c", "x"), ("a", "x"), ("c", "z")]


def text(pairs) -> str:
    return "".join(f"{user}\t{item}\n" for user, item in pairs)


class Desk:
    """Writes files and makes snapshots of them, each in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made = 0

    def file(self, name: str, content: str) -> Path:
        directory = self.directory()
        (directory / name).write_text(content)
        return directory / name

    def directory(self) -> Path:
        self.made += 1
        directory = self.root / str(self.made)
        directory.mkdir()
        return directory

    def options(self, **values) -> Path:
        return self.file("options.json", json.dumps(values))

    def ingest(self, *files: Path, schema=None):
        out = self.directory()
        return out, ingest(list(files), out, data_schema=schema)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def digests(directory: Path) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in read_manifest(directory).files}


def held_out(directory: Path) -> set[str]:
    data = load_data(directory)
    return {name for name, hidden in zip(data.ids, data.held_out.tolist(), strict=True) if hidden}


def test_a_snapshot_holds_interactions_users_and_items(desk):
    out, summary = desk.ingest(desk.file("a.tsv", text(ROWS)))
    data = load_data(out)
    assert (summary.records, summary.subjects) == (6, 3)
    assert data.users == ("a", "b", "c")
    assert data.items == ("x", "y", "z")
    assert data.ids == tuple(f'["{user}","{item}"]' for user, item in ROWS)
    with IdIndex.open(out / INDEX_NAME) as index:
        assert index.records_of_subjects(["b"]) == ['["b","x"]', '["b","y"]']
        assert index.records_of_classes(["x"]) == ['["b","x"]', '["c","x"]', '["a","x"]']


@pytest.mark.parametrize("rule", [{"rule": "per_user", "share": 0.5}, {"rule": "temporal", "cutoff": 3}])
def test_a_derived_snapshot_has_the_bytes_of_one_that_never_had_the_records(desk, rule):
    rows = [f"{user},{item},{time}\n" for time, (user, item) in enumerate(ROWS)]
    header = "user,item,timestamp\n"
    whole, _ = desk.ingest(desk.file("a.csv", header + "".join(rows)), desk.options(held_out=rule))
    derived = desk.directory()
    summary = without(whole, ['["b","x"]', '["c","z"]', '["nobody","z"]'], derived)
    never, expected = desk.ingest(
        desk.file("b.csv", header + "".join(rows[1:5])), desk.options(held_out=rule)
    )
    assert digests(derived) == digests(never)
    assert summary == expected
    assert summary.records == 4
    assert "z" not in load_data(derived).items


def test_appending_has_the_bytes_of_one_ingestion(desk):
    first, _ = desk.ingest(desk.file("a.tsv", text(ROWS[:3])))
    appended = desk.directory()
    append(first, [desk.file("b.tsv", text(ROWS[3:]))], appended)
    at_once, _ = desk.ingest(desk.file("c.tsv", text(ROWS)))
    assert digests(appended) == digests(at_once)


@given(st.permutations(ROWS), st.sets(st.sampled_from(ROWS), max_size=5))
@settings(max_examples=20, deadline=None)
def test_users_and_items_keep_their_order_whatever_is_removed(tmp_path_factory, rows, removed):
    desk = Desk(tmp_path_factory.mktemp("desk"))
    whole, _ = desk.ingest(desk.file("a.tsv", text(rows)))
    derived = desk.directory()
    without(whole, [json.dumps(pair, separators=(",", ":")) for pair in removed], derived)
    kept = [pair for pair in rows if pair not in removed]
    data = load_data(derived)
    assert data.users == tuple(sorted({user for user, _ in kept}))
    assert data.items == tuple(sorted({item for _, item in kept}))
    assert data.ids == tuple(json.dumps(pair, separators=(",", ":")) for pair in kept)


def test_about_a_fifth_is_held_out_unless_somebody_says_otherwise(desk):
    pairs = [(f"u{user}", f"i{item}") for user in range(40) for item in range(25)]
    out, summary = desk.ingest(desk.file("a.tsv", text(pairs)))
    assert len(held_out(out)) == 195
    assert summary.data_schema["held_out"] == {"rule": "per_user", "share": 0.2}
    data = load_data(out)
    assert 70 < len(data.calibration()) < 125


def test_held_out_rows_are_those_of_the_column(desk):
    out, summary = desk.ingest(desk.file("a.csv", "user,item,split\na,x,train\na,y,holdout\n"))
    assert held_out(out) == {'["a","y"]'}
    assert summary.data_schema["held_out"] == {"rule": "given"}


def test_held_out_files(desk):
    out, _ = desk.ingest(
        desk.file("data1.txt", text(ROWS[:4])),
        desk.file("test1.txt", text(ROWS[4:])),
        desk.options(held_out={"rule": "files", "files": ["test1.txt"]}),
    )
    assert held_out(out) == {'["a","x"]', '["c","z"]'}


def test_a_temporal_share_becomes_a_cutoff_that_later_files_keep_to(desk):
    header = "user,item,timestamp\n"
    times = "".join(f"u,i{time},{time}\n" for time in range(10))
    out, summary = desk.ingest(
        desk.file("a.csv", header + times), desk.options(held_out={"rule": "temporal", "share": 0.3})
    )
    cutoff = summary.data_schema["held_out"]["cutoff"]
    assert held_out(out) == {'["u","i7"]', '["u","i8"]', '["u","i9"]'}
    later = desk.directory()
    append(out, [desk.file("b.csv", header + f"v,i1,{cutoff - 1}\nv,i2,{cutoff}\n")], later)
    assert held_out(later) == held_out(out) | {'["v","i2"]'}


def test_low_ratings_are_no_interactions(desk):
    csv = desk.file("a.csv", "userId,movieId,rating\n1,2,4\n1,3,3.5\n2,3,5\n")
    out, summary = desk.ingest(csv, desk.options(least_rating=4))
    assert load_data(out).ids == ('["1","2"]', '["2","3"]')
    assert summary.records == 2


def test_duplicates_are_refused_and_named(desk):
    with pytest.raises(DatasetError, match=r"more than once: 'b' and 'x'\. Set duplicates to 'first'"):
        desk.ingest(desk.file("a.tsv", text([*ROWS, ("b", "x"), ("b", "x")])))


def test_the_first_of_duplicates_stands_if_asked_for(desk):
    csv = desk.file("a.csv", "user,item,timestamp\na,x,1\na,y,2\na,x,3\n")
    out, _ = desk.ingest(csv, desk.options(duplicates="first"))
    data = load_data(out)
    assert data.ids == ('["a","x"]', '["a","y"]')
    assert data.timestamps.tolist() == [1, 2]


def test_an_appended_pair_that_is_there_already_is_refused(desk):
    out, _ = desk.ingest(desk.file("a.tsv", text(ROWS)))
    with pytest.raises(DatasetError, match="more than once: 'a' and 'x'"):
        append(out, [desk.file("b.tsv", text([("d", "x"), ("a", "x")]))], desk.directory())


def test_a_new_head_keeps_to_the_schema(desk):
    _, summary = desk.ingest(
        desk.file("a.csv", "user,item,rating\na,x,4\na,y,1\n"), desk.options(least_rating=2)
    )
    out, again = desk.ingest(
        desk.file("b.csv", "user,item,rating\nb,x,1\nb,y,5\n"), schema=summary.data_schema
    )
    assert load_data(out).ids == ('["b","y"]',)
    assert again.data_schema == summary.data_schema


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"surprise": 1}, "options.json is wrong: surprise: Extra inputs are not permitted"),
        ({"rating_range": [5, 1]}, "rating_range must be the least and the greatest"),
        ({"least_rating": 7}, "least_rating must be within rating_range"),
        ({"least_rating": 3}, "a.tsv has no ratings"),
        ({"held_out": {"rule": "temporal"}}, "A temporal split needs timestamps"),
        ({"held_out": {"rule": "files", "files": ["test.txt"]}}, "holds out 'test.txt', which is not among"),
        ({"held_out": {"rule": "per_user", "share": 1}}, "options.json is wrong: held_out.per_user.share"),
    ],
)
def test_wrong_options_are_refused(desk, options, said):
    with pytest.raises(DatasetError) as refusal:
        desk.ingest(desk.file("a.tsv", text(ROWS)), desk.options(**options))
    assert said in str(refusal.value)


def test_options_come_with_the_registration_alone(desk):
    out, summary = desk.ingest(desk.file("a.tsv", text(ROWS)))
    more = desk.file("b.tsv", "d\tx\n")
    with pytest.raises(DatasetError, match="belongs to a data set's registration"):
        append(out, [more, desk.options()], desk.directory())
    with pytest.raises(DatasetError, match="belongs to a data set's registration"):
        desk.ingest(more, desk.options(), schema=summary.data_schema)


def test_files_that_contradict_each_other_are_refused(desk):
    timed = desk.file("b.csv", "user,item,timestamp\na,q,1\n")
    with pytest.raises(DatasetError, match=r"b\.csv has timestamps, unlike"):
        desk.ingest(desk.file("a.tsv", text(ROWS)), timed)
    split = desk.file("c.csv", "user,item,split\na,q,train\n")
    with pytest.raises(DatasetError, match=r"c\.csv has a column split, but"):
        desk.ingest(desk.file("a.tsv", text(ROWS)), split)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_interactions_are_refused(desk, content):
    with pytest.raises(DatasetError, match=r"There are no interactions in a\.tsv"):
        desk.ingest(desk.file("a.tsv", content))
    with pytest.raises(DatasetError, match="There are no interactions in no file"):
        desk.ingest()


def test_ratings_that_are_all_too_low_are_refused(desk):
    with pytest.raises(DatasetError, match="No interaction reaches the least rating"):
        desk.ingest(desk.file("a.csv", "user,item,rating\na,x,1\n"), desk.options(least_rating=4))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (NAMES_NAME, b'{"items":["x","y","z"],"users":["a","c","b"]}'),
        (NAMES_NAME, b'{"items":["x","y","z"],"users":["a","b"]}'),
        (NAMES_NAME, b'{"items":["x","y","z"],"users":[1,2,3]}'),
        (NAMES_NAME, b"[]"),
        (SCHEMA_NAME, b"{}"),
        (RECORDS_NAME, b"\0" * 8),
    ],
)
def test_a_damaged_snapshot_is_refused(desk, name, content):
    out, _ = desk.ingest(desk.file("a.tsv", text(ROWS)))
    (out / name).write_bytes(content)
    with pytest.raises(DatasetError):
        load_data(out)


@pytest.mark.parametrize("name", [NAMES_NAME, SCHEMA_NAME, RECORDS_NAME])
def test_a_snapshot_that_lacks_a_file_is_refused(desk, name):
    out, _ = desk.ingest(desk.file("a.tsv", text(ROWS)))
    (out / name).unlink()
    with pytest.raises(DatasetError):
        load_data(out)


def test_times_are_loaded(desk):
    out, _ = desk.ingest(desk.file("a.csv", "user,item,timestamp\na,x,1.5\nb,x,2\n"))
    assert torch.equal(load_data(out).timestamps, torch.tensor([1.5, 2.0], dtype=torch.float64))
