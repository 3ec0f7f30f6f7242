import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from models.checkpoint import verify_directory
from models.classifier.records import (
    INDEX_NAME,
    RECORDS_NAME,
    SCHEMA_NAME,
    DataSchema,
    open_records,
    read_schema,
)
from models.classifier.snapshots import append, ingest, without
from models.contracts import SnapshotSummary
from models.errors import DatasetError
from models.families import get_family


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


@pytest.fixture
def npz(tmp_path):
    """Return a function that writes records as an npz file."""

    def write(names, *, labels=None, dtype=np.float64, width=3, name="data.npz", **arrays) -> Path:
        count = len(names)
        features = np.array([[hash_of(one) % 200 + k for k in range(width)] for one in names], dtype)
        given = {
            "features": features.reshape(count, width),
            "labels": labels if labels is not None else [len(one) % 2 for one in names],
            "ids": names,
            **arrays,
        }
        np.savez(tmp_path / name, **{key: np.array(value) for key, value in given.items()})
        return tmp_path / name

    return write


def hash_of(name: str) -> int:
    return sum(position * ord(char) for position, char in enumerate(name, 1))


def contents(directory: Path) -> dict[str, object]:
    with open_records(directory) as records:
        ids = list(records.index.record_ids())
        return {
            name: (
                records.features[row].tolist(),
                records.classes[records.labels[row]],
                int(records.split[row]),
            )
            for row, name in enumerate(ids)
        }


class TestIngest:
    def test_snapshot_holds_the_records_in_order(self, npz, fresh):
        out = fresh()
        path = npz(["b", "a", "cc"], subjects=["s", "", "s"], split=["train", "holdout", "train"])
        summary = ingest([path], out, data_schema=None)
        assert summary == SnapshotSummary(3, 1, {"classes": ["0", "1"], "dtype": "float64", "width": 3})
        with open_records(out) as records:
            assert records.features.dtype == np.float64
            assert records.features.tolist() == [[98, 99, 100], [97, 98, 99], [97, 98, 99]]
            assert records.labels.dtype == np.int64
            assert records.labels.tolist() == [1, 1, 0]
            assert records.split.tolist() == [0, 1, 0]
            assert records.classes == ("0", "1")
            assert records.index.positions(["cc", "b"]) == [2, 0]
            assert records.index.records_of_subjects(["s"]) == ["b", "cc"]
            assert records.index.records_of_classes(["0"]) == ["cc"]
            assert len(records) == 3

    def test_directory_has_a_sound_manifest_and_nothing_else(self, npz, fresh):
        out = fresh()
        ingest([npz(["a"])], out, data_schema=None)
        manifest = verify_directory(out)
        assert {entry.path for entry in manifest.files} == {SCHEMA_NAME, INDEX_NAME, RECORDS_NAME}

    def test_data_file_is_ordinary_safetensors(self, npz, fresh):
        out = fresh()
        ingest([npz(["a", "bb", "c"], dtype=np.uint8)], out, data_schema=None)
        loaded = load_file(out / RECORDS_NAME)
        assert {name: (array.dtype.name, array.shape) for name, array in loaded.items()} == {
            "labels": ("int64", (3,)),
            "features": ("uint8", (3, 3)),
            "split": ("uint8", (3,)),
        }

    def test_several_files_and_formats_make_one_snapshot(self, npz, fresh, tmp_path):
        out = fresh()
        (tmp_path / "more.csv").write_text("id,label,f0,f1,f2\nc,cow,1,2,3\n")
        (tmp_path / "more.jsonl").write_text('{"id":"d","label":"bee","features":[4,5,6]}\n')
        sources = [npz(["a"], labels=["cow"]), tmp_path / "more.csv", tmp_path / "more.jsonl"]
        assert ingest(sources, out, data_schema=None).records == 3
        assert list(contents(out).items())[1:] == [
            ("c", ([1, 2, 3], "cow", 0)),
            ("d", ([4, 5, 6], "bee", 0)),
        ]

    @pytest.mark.parametrize(
        ("labels", "classes"),
        [
            (["10", "9", "2"], ("2", "9", "10")),
            (["b", "a", "10"], ("10", "a", "b")),
            (["02", "10", "1"], ("02", "1", "10")),
            (["²", "1", "10"], ("1", "10", "²")),
            (["-1", "1", "-1"], ("-1", "1")),
        ],
    )
    def test_classes_are_sorted_as_numbers_if_all_are_numbers(self, npz, fresh, labels, classes):
        out = fresh()
        ingest([npz(["x", "y", "z"], labels=labels)], out, data_schema=None)
        with open_records(out) as records:
            assert records.classes == classes
            assert [classes[label] for label in records.labels] == labels

    def test_duplicates_are_named_across_files(self, npz, fresh):
        with pytest.raises(DatasetError, match="more than once: 'a', 'c'"):
            ingest([npz(["a", "b", "c"]), npz(["c", "a"], name="more.npz")], fresh(), data_schema=None)

    def test_features_that_are_not_finite_are_refused_by_id(self, npz, fresh):
        features = np.array([[1.0], [np.nan], [-np.inf]])
        with pytest.raises(DatasetError, match=r"data\.npz: 'b', 'c' has features that are NaN or infinite"):
            ingest([npz(["a", "b", "c"], features=features)], fresh(), data_schema=None)

    def test_other_width_in_a_second_file_is_refused(self, npz, fresh):
        with pytest.raises(DatasetError, match=r"more\.npz: record 'b' has 4 features instead of 3"):
            ingest([npz(["a"]), npz(["b"], width=4, name="more.npz")], fresh(), data_schema=None)

    @pytest.mark.parametrize("sources", [0, 1])
    def test_no_records_are_refused(self, npz, fresh, sources):
        path = npz([], ids=np.zeros(0, "U1"), labels=np.zeros(0, int))
        with pytest.raises(DatasetError, match="There are no records in"):
            ingest([path] * sources, fresh(), data_schema=None)

    def test_given_schema_must_be_kept(self, npz, fresh):
        schema = {"classes": ["0", "1", "2"], "dtype": "float32", "width": 3}
        out = fresh()
        assert ingest([npz(["a", "bb"])], out, data_schema=schema).data_schema == schema
        assert open_records(out).features.dtype == np.float32
        with pytest.raises(DatasetError, match="'a' is of the class '7'"):
            ingest([npz(["a"], labels=["7"])], fresh(), data_schema=schema)
        with pytest.raises(DatasetError, match="4 features instead of 3"):
            ingest([npz(["a"], width=4)], fresh(), data_schema=schema)
        with pytest.raises(DatasetError, match="'a' has features that float32 cannot hold exactly"):
            ingest([npz(["a"], features=[[0.1, 0, 0]])], fresh(), data_schema=schema)
        with pytest.raises(DatasetError, match="cannot hold exactly"):
            ingest([npz(["a"], features=[[1e300, 0, 0]])], fresh(), data_schema=schema)

    @pytest.mark.parametrize("value", [0.5, -1, 256, 1e300])
    def test_numbers_that_a_byte_cannot_hold_are_refused(self, npz, fresh, value):
        schema = {"classes": ["1"], "dtype": "uint8", "width": 1}
        with pytest.raises(DatasetError, match="uint8 cannot hold exactly"):
            ingest([npz(["a"], features=[[value]])], fresh(), data_schema=schema)

    @pytest.mark.parametrize(
        "schema",
        [
            {},
            {"classes": "ab", "dtype": "uint8", "width": 1},
            {"classes": [1], "dtype": "uint8", "width": 1},
            {"classes": [], "dtype": "object", "width": 1},
            {"classes": [], "dtype": [], "width": 1},
            {"classes": [], "dtype": "uint8", "width": True},
            {"classes": [], "dtype": "uint8", "width": 0},
        ],
    )
    def test_malformed_schema_is_refused(self, schema):
        with pytest.raises(DatasetError, match="must have classes, dtype and width"):
            DataSchema.from_json(schema)

    def test_too_many_classes_are_refused(self, npz, fresh, monkeypatch):
        monkeypatch.setattr("models.classifier.snapshots.MAX_CLASSES", 2)
        with pytest.raises(DatasetError, match="more than 2 classes"):
            ingest([npz(["a", "b", "c"], labels=["x", "y", "z"])], fresh(), data_schema=None)


class TestAppend:
    def test_new_records_follow_the_old_ones(self, npz, fresh):
        base, out = fresh(), fresh()
        ingest([npz(["a", "bb"], split=["holdout", "train"])], base, data_schema=None)
        summary = append(base, [npz(["cc", "d"], subjects=["s", ""])], out)
        assert (summary.records, summary.subjects) == (4, 1)
        assert list(contents(out)) == ["a", "bb", "cc", "d"]
        assert contents(out).items() >= contents(base).items()

    def test_appended_snapshot_equals_one_ingested_at_once(self, npz, fresh):
        base, appended, whole = fresh(), fresh(), fresh()
        first, second = npz(["a", "bb"]), npz(["cc", "d"], name="more.npz")
        ingest([first], base, data_schema=None)
        append(base, [second], appended)
        ingest([first, second], whole, data_schema=None)
        assert verify_directory(appended) == verify_directory(whole)

    def test_type_of_the_base_is_kept(self, npz, fresh, tmp_path):
        base, out = fresh(), fresh()
        ingest([npz(["a", "bb"], dtype=np.uint8)], base, data_schema=None)
        (tmp_path / "more.csv").write_text("id,label,f0,f1,f2\nc,1,1,2,255\n")
        append(base, [tmp_path / "more.csv"], out)
        with open_records(out) as records:
            assert records.features.dtype == np.uint8
            assert records.features[2].tolist() == [1, 2, 255]

    def test_id_of_the_base_is_refused(self, npz, fresh):
        base = fresh()
        ingest([npz(["a", "b"])], base, data_schema=None)
        with pytest.raises(DatasetError, match="more than once: 'b'"):
            append(base, [npz(["c", "b"])], fresh())

    def test_unknown_class_is_refused_and_a_known_one_without_records_is_not(self, npz, fresh):
        base, reduced = fresh(), fresh()
        ingest([npz(["a", "b"], labels=["x", "y"])], base, data_schema=None)
        without(base, ["b"], reduced)
        with pytest.raises(DatasetError, match="'c' is of the class 'z'"):
            append(reduced, [npz(["c"], labels=["z"])], fresh())
        out = fresh()
        append(reduced, [npz(["c"], labels=["y"])], out)
        assert contents(out)["c"][1] == "y"


class TestWithout:
    def test_records_are_gone_from_every_file(self, npz, fresh):
        base, out = fresh(), fresh()
        ids = ["keep-1", "secret-2", "keep-3"]
        path = npz(
            ids,
            features=[[1.0], [123.456], [3.0]],
            subjects=["ann", "private", "ann"],
            labels=["c", "d", "c"],
        )
        ingest([path], base, data_schema=None)
        summary = without(base, ["secret-2", "unknown"], out)
        assert (summary.records, summary.subjects) == (2, 1)
        assert contents(out) == {"keep-1": ([1.0], "c", 0), "keep-3": ([3.0], "c", 0)}
        with open_records(out) as records:
            assert records.classes == ("c", "d")
            assert records.index.missing_classes(["c", "d"]) == ["d"]
        for file in out.iterdir():
            content = file.read_bytes()
            for trace in (b"secret", b"private", np.float64(123.456).tobytes()):
                assert trace not in content, file.name
        verify_directory(out)

    def test_result_equals_a_snapshot_that_never_had_the_records(self, npz, fresh):
        base, reduced, never = fresh(), fresh(), fresh()
        schema = {"classes": ["0", "1"], "dtype": "float64", "width": 3}
        ids = [f"{number:0{1 + number % 2}}" for number in range(1000, 1400)]
        ingest([npz(ids)], base, data_schema=schema)
        without(base, ids[::3], reduced)
        kept = [name for number, name in enumerate(ids) if number % 3]
        ingest([npz(kept)], never, data_schema=schema)
        assert verify_directory(reduced) == verify_directory(never)

    def test_base_is_left_alone(self, npz, fresh):
        base = fresh()
        ingest([npz(["a", "b"])], base, data_schema=None)
        manifest = verify_directory(base)
        without(base, ["a"], fresh())
        assert verify_directory(base) == manifest

    def test_all_records_can_be_forgotten(self, npz, fresh):
        base, out, again = fresh(), fresh(), fresh()
        ingest([npz(["a", "b"])], base, data_schema=None)
        assert without(base, ["a", "b"], out).records == 0
        assert contents(out) == {}
        assert append(out, [npz(["a"])], again).records == 1

    def test_large_snapshots_go_through_in_pieces(self, npz, fresh, monkeypatch):
        monkeypatch.setattr("models.classifier.snapshots._CHUNK_BYTES", 64)
        base, out = fresh(), fresh()
        ids = [f"r{number}" for number in range(100)]
        ingest([npz(ids)], base, data_schema=None)
        without(base, ids[:50:2], out)
        assert contents(out) == {
            name: value for name, value in contents(base).items() if name not in ids[:50:2]
        }

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_sequence_of_steps_leaves_the_bytes_of_what_remains(self, npz, fresh, data):
        schema = {"classes": ["0", "1"], "dtype": "float32", "width": 2}
        names = st.lists(st.sampled_from("abcdefghij"), min_size=1, unique=True)

        def source(chosen: Iterable[str]) -> Path:
            chosen = list(chosen)
            codes = [hash_of(name) % 2 for name in chosen]
            return npz(chosen, width=2, labels=codes, subjects=[f"of {name}" for name in chosen])

        remaining = data.draw(names)
        state = fresh()
        ingest([source(remaining)], state, data_schema=schema)
        for _ in range(data.draw(st.integers(0, 4))):
            chosen, out = data.draw(names), fresh()
            new = [name for name in chosen if name not in remaining]
            if new and data.draw(st.booleans()):
                append(state, [source(new)], out)
                remaining += new
            else:
                without(state, chosen, out)
                remaining = [name for name in remaining if name not in chosen]
            state = out
        assert list(contents(state)) == remaining
        if remaining:
            whole = fresh()
            ingest([source(remaining)], whole, data_schema=schema)
            assert verify_directory(state) == verify_directory(whole)


class TestOpening:
    @pytest.fixture
    def snapshot(self, npz, fresh):
        out = fresh()
        ingest([npz(["a", "b"])], out, data_schema=None)
        return out

    @pytest.mark.parametrize("name", [SCHEMA_NAME, INDEX_NAME, RECORDS_NAME])
    def test_missing_file_is_an_error(self, snapshot, name):
        (snapshot / name).unlink()
        with pytest.raises(DatasetError, match=re.escape(name)):
            open_records(snapshot)

    def test_truncated_data_is_an_error(self, snapshot):
        content = (snapshot / RECORDS_NAME).read_bytes()
        (snapshot / RECORDS_NAME).write_bytes(content[:-1])
        with pytest.raises(DatasetError, match="not a usable safetensors file"):
            open_records(snapshot)

    def test_files_of_different_snapshots_are_an_error(self, snapshot, npz, fresh):
        other = fresh()
        ingest([npz(["a", "b", "c"])], other, data_schema=None)
        (snapshot / INDEX_NAME).write_bytes((other / INDEX_NAME).read_bytes())
        with pytest.raises(DatasetError, match="does not agree"):
            open_records(snapshot)

    def test_schema_is_read(self, snapshot):
        assert read_schema(snapshot) == DataSchema(3, "float64", ("1",))
        (snapshot / SCHEMA_NAME).write_text(json.dumps({"width": 3}))
        with pytest.raises(DatasetError, match="must have"):
            read_schema(snapshot)

    def test_features_cannot_be_written_through_the_mapping(self, snapshot):
        with open_records(snapshot) as records, pytest.raises(ValueError, match="read-only"):
            records.features[0, 0] = 1


def test_family_finds_these_functions():
    assert get_family("classifier").snapshots().without is without


def test_no_torch_and_no_pyarrow_are_imported():
    code = (
        "import sys, models.classifier.snapshots, models.checkpoint;"
        "assert not {'torch', 'pyarrow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
