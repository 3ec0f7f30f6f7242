import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DatasetError
from models.id_index import IdIndex, IndexBuilder


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "index.sqlite"
    IdIndex.build(
        path,
        ids=["r1", "r2", "007", "7", "r5"],
        subjects=["anna", None, "anna", "ben", None],
        splits=[0, 0, 1, 0, 0],
        classes=["cat", "dog", "cat", "cat", "dog"],
    )
    with IdIndex.open(path) as index:
        yield index


def test_counts_are_known(index):
    assert (index.records, index.subject_count) == (5, 2)


def test_missing_names_come_back_in_their_order(index):
    assert index.missing_records(["zoe", "r1", "07", "r5", "adam"]) == ["zoe", "07", "adam"]
    assert index.missing_subjects(["ben", "carl", "anna"]) == ["carl"]
    assert index.missing_classes(["horse", "cat"]) == ["horse"]
    assert index.missing_records([]) == []


def test_ids_that_look_like_numbers_stay_strings(index):
    assert index.missing_records(["7", "007", "7.0", " 7"]) == ["7.0", " 7"]
    assert index.positions(["7", "007"]) == [3, 2]


def test_records_are_found_by_subject_and_class(index):
    assert index.records_of_subjects(["ben", "anna", "nobody", "anna"]) == ["r1", "007", "7"]
    assert index.records_of_classes(["dog", "horse"]) == ["r2", "r5"]
    assert index.records_of_subjects([]) == []


def test_positions_follow_the_order_asked_for(index):
    assert index.positions(["r5", "r1", "r5"]) == [4, 0, 4]


def test_position_of_an_unknown_record_is_an_error(index):
    with pytest.raises(DatasetError, match="no record for 2 of"):
        index.positions(["r1", "x", "y"])


def test_ids_are_listed_by_position(index, monkeypatch):
    monkeypatch.setattr("models.id_index._PAGE_OF_IDS", 2)
    assert list(index.record_ids()) == ["r1", "r2", "007", "7", "r5"]
    assert list(index.record_ids(start=3)) == ["7", "r5"]
    assert list(index.record_ids(start=5)) == []


@pytest.mark.parametrize("name", ["r1\x00", "\ud800", "r1\n", "", "R1", "é", "😀", "'", "%", "a" * 10_000])
def test_strange_names_are_missing_and_alias_nothing(index, name):
    assert index.missing_records([name, "r1"]) == [name]
    assert index.missing_subjects([name]) == [name]
    assert index.missing_classes([name]) == [name]
    assert index.records_of_subjects([name]) == index.records_of_classes([name]) == []
    with pytest.raises(DatasetError):
        index.positions([name])


def test_duplicates_are_named_and_at_most_twenty_of_them(tmp_path):
    with pytest.raises(DatasetError, match=r"occur more than once: 'b', 'a'\.$"):
        IdIndex.build(tmp_path / "a.sqlite", ["c", "b", "a", "b", "a", "a"])
    with pytest.raises(DatasetError) as caught:
        IdIndex.build(tmp_path / "b.sqlite", [f"id-{number // 2}" for number in range(100)])
    assert "'id-0', 'id-1'" in str(caught.value)
    assert "'id-19', …" in str(caught.value)
    assert "'id-20'" not in str(caught.value)


def test_columns_of_different_lengths_are_a_fault_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="shorter"), IndexBuilder(tmp_path / "a.sqlite") as builder:
        builder.add(["a", "b"], splits=[0])


def test_index_without_records_is_possible(tmp_path):
    IdIndex.build(tmp_path / "a.sqlite", [])
    with IdIndex.open(tmp_path / "a.sqlite") as index:
        assert (index.records, index.subject_count, list(index.record_ids())) == (0, 0, [])
        assert index.missing_records(["a"]) == ["a"]


def test_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "a.sqlite").write_text("precious")
    with pytest.raises(FileExistsError):
        IdIndex.build(tmp_path / "a.sqlite", ["a"])
    assert (tmp_path / "a.sqlite").read_text() == "precious"


def test_copy_omits_records_and_what_only_they_mentioned(tmp_path, index):
    with IndexBuilder(tmp_path / "copy.sqlite") as builder:
        builder.copy(tmp_path / "index.sqlite", without=[1, 4, 3, 4])
        builder.add(["new"], subjects=["zoe"], classes=["fish"])
    with IdIndex.open(tmp_path / "copy.sqlite") as copy:
        assert list(copy.record_ids()) == ["r1", "007", "new"]
        assert copy.positions(["007", "new"]) == [1, 2]
        assert copy.missing_classes(["cat", "dog", "fish"]) == ["dog"]
        assert copy.missing_subjects(["anna", "ben", "zoe"]) == ["ben"]
        assert copy.records_of_classes(["fish"]) == ["new"]
        assert copy.subject_count == 2
    content = (tmp_path / "copy.sqlite").read_bytes()
    assert b"ben" not in content
    assert b"dog" not in content


def test_equal_content_makes_equal_bytes(tmp_path):
    for name in ("a", "b"):
        IdIndex.build(
            tmp_path / name, map(str, range(20_000)), subjects=(str(n % 100) for n in range(20_000))
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "empty", "foreign", "truncated", "garbage"])
def test_file_that_is_no_index_is_refused(tmp_path, damage):
    path = tmp_path / "a.sqlite"
    IdIndex.build(path, ["a"])
    content = path.read_bytes()
    path.unlink()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        path.write_bytes(content[:68] + b"\0\0\0\0" + content[72:])  # bytes 68 to 71 are the application id
    elif damage == "truncated":
        path.write_bytes(content[:4096])
    elif damage == "garbage":
        path.write_bytes(b"garbage" * 1000)
    with pytest.raises(DatasetError):
        IdIndex.open(path)


def test_damage_found_by_a_look_up_is_an_error_and_not_an_answer(tmp_path):
    path = tmp_path / "a.sqlite"
    IdIndex.build(path, map(str, range(10_000)))
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        IdIndex.open(path).missing_records(["5000"])


def test_read_only_file_in_a_read_only_directory_can_be_read(tmp_path):
    directory = tmp_path / "an odd?name#%20"
    directory.mkdir()
    IdIndex.build(directory / "a.sqlite", ["a"])
    (directory / "a.sqlite").chmod(0o400)
    directory.chmod(0o500)
    try:
        with IdIndex.open(directory / "a.sqlite") as index:
            assert index.missing_records(["a", "b"]) == ["b"]
    finally:
        directory.chmod(0o700)
    assert [path.name for path in directory.iterdir()] == ["a.sqlite"]


@pytest.mark.parametrize("seconds", [0, 1000])
def test_slow_and_fast_disks_give_the_same_answer(tmp_path, monkeypatch, seconds):
    pools = []
    monkeypatch.setattr("models.id_index._DISK_READ_SECONDS", seconds)
    monkeypatch.setattr(
        "models.id_index.ThreadPoolExecutor", lambda size: pools.append(size) or ThreadPoolExecutor(size)
    )
    IdIndex.build(tmp_path / "a.sqlite", map(str, range(0, 1000, 2)))
    with IdIndex.open(tmp_path / "a.sqlite") as index:
        for count in (0, 1, 63, 64, 65, 66, 72, 73, 1000):
            asked = list(map(str, range(count)))
            assert index.missing_records(asked) == asked[1::2]
    assert bool(pools) == (seconds == 0)


def test_closed_index_refuses_look_ups(index):
    index.close()
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.missing_records(["r1"])


def test_threads_share_an_index(index):
    barrier = threading.Barrier(8)

    def look_up(number: int) -> None:
        barrier.wait(timeout=10)
        for _ in range(200):
            assert index.missing_records(["r1", f"x{number}", "7"]) == [f"x{number}"]
            assert index.positions(["r5", "r1"]) == [4, 0]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look_up, range(8)))
    assert 1 <= len(index._idle) <= 8


def test_closing_lets_a_look_up_under_way_end(index):
    with index._borrow() as connection:
        index.close()
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (5,)
    assert index._idle == []


Row = tuple[str, str | None, str | None]
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)
tables = st.lists(
    st.tuples(names, st.none() | names, st.none() | names), max_size=30, unique_by=lambda row: row[0]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tables, asked=st.lists(names, max_size=20), data=st.data())
def test_index_agrees_with_dictionaries(
    tmp_path: Path, rows: list[Row], asked: list[str], data: st.DataObject
):
    omitted = data.draw(st.sets(st.integers(0, len(rows) - 1) if rows else st.nothing()))
    base, derived = tmp_path / "base.sqlite", tmp_path / "derived.sqlite"
    base.unlink(missing_ok=True)
    derived.unlink(missing_ok=True)
    IdIndex.build(base, *([row[column] for row in rows] for column in (0, 1)), None, [row[2] for row in rows])
    with IndexBuilder(derived) as builder:
        builder.copy(base, without=omitted)

    kept = [row for position, row in enumerate(rows) if position not in omitted]
    for path, expected in ((base, rows), (derived, kept)):
        position = {row[0]: number for number, row in enumerate(expected)}
        known = [name for name in asked if name in position]
        with IdIndex.open(path) as index:
            assert index.records == len(expected)
            assert index.subject_count == len({row[1] for row in expected} - {None})
            assert list(index.record_ids()) == list(position)
            assert index.missing_records(asked) == [name for name in asked if name not in position]
            assert index.positions(known) == [position[name] for name in known]
            assert index.missing_subjects(asked) == [
                n for n in asked if n not in {row[1] for row in expected}
            ]
            assert index.missing_classes(asked) == [n for n in asked if n not in {row[2] for row in expected}]
            assert index.records_of_subjects(asked) == [row[0] for row in expected if row[1] in set(asked)]
            assert index.records_of_classes(asked) == [row[0] for row in expected if row[2] in set(asked)]


def test_hundred_thousand_names_in_one_look_up_are_answered_quickly(tmp_path):
    count = 100_000
    path = tmp_path / "a.sqlite"
    begin = time.perf_counter()
    IdIndex.build(path, (f"record-{number:06d}" for number in range(count)))
    assert time.perf_counter() - begin < 5  # half a second on a slow machine
    with IdIndex.open(path) as index:
        asked = [f"record-{number:06d}" for number in range(0, 2 * count, 2)]
        begin = time.perf_counter()
        assert index.missing_records(asked) == asked[count // 2 :]
        assert index.positions(asked[: count // 2]) == list(range(0, count, 2))
        assert time.perf_counter() - begin < 5


def test_what_a_family_notes_is_read_back_and_costs_others_nothing(tmp_path):
    plain, noted, copied = (tmp_path / name for name in ("plain", "noted", "copied"))
    IdIndex.build(plain, ids=["a"])
    with IndexBuilder(noted) as builder:
        builder.note({"directed": True, "names": ["é"]})
        builder.add(["a"])
    with IndexBuilder(copied) as builder:
        builder.copy(noted)
    with IdIndex.open(plain) as index:
        assert index.facts == {}
    with IdIndex.open(noted) as index:
        assert index.facts == {"directed": True, "names": ["é"]}
        assert index.missing_records(["a", "b"]) == ["b"]
    assert copied.read_bytes() == plain.read_bytes()


def test_a_full_disk_is_told_of_as_the_operating_system_would(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, IndexBuilder(tmp_path / "index") as builder:
        builder._connection.execute("PRAGMA max_page_count = 8")
        builder.add([f"record-{number}" for number in range(10_000)])
    assert caught.value.errno == errno.ENOSPC
