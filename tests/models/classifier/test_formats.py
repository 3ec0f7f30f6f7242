import io
import json
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from models.classifier.formats import MAX_LINE_BYTES, read_batches
from models.errors import DatasetError

RECORDS = {
    "ids": ["a", "007", "c"],
    "labels": ["cat", "dog", "cat"],
    "subjects": ["anna", None, "ben"],
    "split": [0, 1, 0],
    "features": [[0.0, 1.5], [2.0, -3.0], [1e-300, 4.0]],
}


def read(path: Path) -> dict[str, list[object]]:
    batches = list(read_batches(path))
    return {
        "ids": [name for batch in batches for name in batch.ids],
        "labels": [name for batch in batches for name in batch.labels],
        "subjects": [name for batch in batches for name in batch.subjects],
        "split": [split for batch in batches for split in batch.splits],
        "features": [row for batch in batches for row in batch.features.tolist()],
    }


def write_npz(path: Path, **arrays: object) -> Path:
    np.savez_compressed(
        path,
        **{
            "features": np.array(RECORDS["features"]),
            "labels": RECORDS["labels"],
            "ids": RECORDS["ids"],
            **arrays,
        },
    )
    return path


def write_members(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def npy_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin1").ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


SOUND = {
    "features.npy": npy(RECORDS["features"]),
    "labels.npy": npy(RECORDS["labels"]),
    "ids.npy": npy(RECORDS["ids"]),
}


class TestAllFormats:
    def test_npz(self, tmp_path):
        path = write_npz(
            tmp_path / "a.npz", subjects=["anna", "", "ben"], split=["train", "holdout", "train"]
        )
        assert read(path) == RECORDS

    def test_csv(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(
            "f1,id,subject,label,split,f0\n1.5,a,anna,cat,train,0\n-3,007,,dog,holdout,2\n4,c,ben,cat,,1e-300\n"
        )
        assert read(path) == RECORDS

    def test_csv_of_another_system(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b'\xef\xbb\xbfid,label,f0\r\n"a,""b""",cat,1\r\n\r\n')
        assert read(path)["ids"] == ['a,"b"']

    def test_jsonl(self, tmp_path):
        path = tmp_path / "a.jsonl"
        lines = [
            {"id": "a", "label": "cat", "features": [0, 1.5], "subject": "anna", "split": "train"},
            {"id": "007", "label": "dog", "features": [2, -3], "subject": None, "split": "holdout"},
            {"id": "c", "label": "cat", "features": [1e-300, 4], "subject": "ben"},
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        assert read(path) == RECORDS

    def test_parquet(self, tmp_path):
        path = tmp_path / "a.parquet"
        table = {
            "id": RECORDS["ids"],
            "label": RECORDS["labels"],
            "subject": RECORDS["subjects"],
            "split": ["train", "holdout", None],
            "f0": [row[0] for row in RECORDS["features"]],
            "f1": [row[1] for row in RECORDS["features"]],
        }
        parquet.write_table(pa.table(table), path)
        assert read(path) == RECORDS

    def test_unknown_suffix_is_refused(self, tmp_path):
        with pytest.raises(DatasetError, match="unknown format"):
            read_batches(tmp_path / "a.pkl")

    @pytest.mark.parametrize("suffix", ["npz", "csv", "jsonl", "parquet"])
    def test_long_files_come_in_several_batches(self, tmp_path, suffix):
        count, width = 600, 512
        path = tmp_path / f"a.{suffix}"
        ids = [f"r{number}" for number in range(count)]
        features = np.arange(count * width, dtype=np.float64).reshape(count, width)
        if suffix == "npz":
            np.savez(path, ids=ids, labels=np.arange(count) % 3, features=features)
        elif suffix == "csv":
            with path.open("w") as file:
                file.write(",".join(["id", "label", *(f"f{number}" for number in range(width))]) + "\n")
                for number in range(count):
                    file.write(",".join([ids[number], str(number % 3), *map(str, features[number])]) + "\n")
        elif suffix == "jsonl":
            with path.open("w") as file:
                for number in range(count):
                    record = {"id": ids[number], "label": number % 3, "features": features[number].tolist()}
                    file.write(json.dumps(record) + "\n")
        else:
            columns = {f"f{number}": features[:, number] for number in range(width)}
            parquet.write_table(pa.table({"id": ids, "label": np.arange(count) % 3, **columns}), path)
        assert len(list(read_batches(path))) > 1
        records = read(path)
        assert records["ids"] == ids
        assert records["labels"] == [str(number % 3) for number in range(count)]
        assert records["features"] == features.tolist()


class TestNpz:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (np.bool_, np.uint8),
            (np.uint8, np.uint8),
            (np.int8, np.float64),
            (np.int64, np.float64),
            (np.uint64, np.float64),
            (np.float16, np.float32),
            (np.float32, np.float32),
            (">f4", np.float32),
            (np.float64, np.float64),
            (">f8", np.float64),
        ],
    )
    def test_features_keep_their_type_where_it_is_one_of_three(self, tmp_path, given, kept):
        path = write_npz(tmp_path / "a.npz", features=np.array([[0, 1], [1, 0], [1, 1]], given))
        (batch,) = read_batches(path)
        assert batch.features.dtype == np.dtype(kept)
        assert batch.features.tolist() == [[0, 1], [1, 0], [1, 1]]

    @pytest.mark.parametrize("extreme", [2**53 + 1, -(2**53) - 1, np.iinfo(np.int64).min])
    def test_integers_that_would_be_rounded_are_refused(self, tmp_path, extreme):
        path = write_npz(tmp_path / "a.npz", features=np.array([[0, 1], [1, 0], [1, extreme]]))
        with pytest.raises(DatasetError, match=r"beyond 2\*\*53"):
            read(path)

    def test_integer_and_byte_names_become_strings(self, tmp_path):
        path = write_npz(
            tmp_path / "a.npz", ids=np.array([7, 8, 9]), labels=np.array(["ä".encode(), b"b", b"c"])
        )
        assert read(path)["ids"] == ["7", "8", "9"]
        assert read(path)["labels"] == ["ä", "b", "c"]

    @pytest.mark.parametrize(
        ("arrays", "reason"),
        [
            ({"ids": np.array(["a", "b", 3], object)}, "type '.O'"),
            ({"features": np.array([[1], [2], [3]], object)}, "type '.O'"),
            ({"features": np.zeros((3, 2), complex)}, "type '<c16'"),
            ({"features": np.zeros((3, 2), np.longdouble)}, "type"),
            ({"features": np.zeros(3)}, "shape"),
            ({"features": np.zeros((3, 2, 2))}, "shape"),
            ({"features": np.zeros((3, 0))}, "0 features"),
            ({"features": np.zeros((3, 2**18 + 1), np.uint8)}, "262145 features"),
            ({"features": np.zeros((2, 3)).T}, "column by column"),
            ({"features": np.zeros((4, 2))}, "different lengths"),
            ({"labels": np.array([0.5, 1, 2])}, "type '<f8'"),
            ({"labels": np.array([True, False, True])}, "type '.b1'"),
            ({"labels": np.array([["a"], ["b"], ["c"]])}, "shape"),
            ({"ids": np.array(["a", "", "c"])}, r"record number 1 .* the id is empty"),
            ({"ids": np.array(["a", "b", "x" * 513])}, "longer than 512"),
            ({"ids": np.array(["a", "b", "x" * 5000])}, "too long"),
            ({"ids": np.array(["a", "b\n", "c"])}, "control"),
            ({"ids": np.array([b"a", b"\xff", b"c"])}, "record number 1"),
            ({"subjects": np.array(["a", "b\x1b", "c"])}, "control"),
            ({"split": np.array(["train", "test", "train"])}, r"record number 1 .* 'test'"),
            ({"split": np.array([0, 1, 0])}, "neither"),
            ({"extra": np.zeros(3)}, "unexpected or repeated member"),
        ],
    )
    def test_bad_arrays_are_refused(self, tmp_path, arrays, reason):
        path = write_npz(tmp_path / "a.npz", **arrays)
        with pytest.raises(DatasetError, match=reason):
            read(path)

    @pytest.mark.parametrize(
        ("member", "content", "reason"),
        [
            ("features.npy", SOUND["features.npy"][:-1], "size"),
            ("features.npy", SOUND["features.npy"] + b"x", "size"),
            ("features.npy", b"", "header"),
            ("features.npy", b"garbage" * 20, "header"),
            ("features.npy", b"\x93NUMPY\x02\x00" + b"\xff" * 100, "version 1.0"),
            (
                "features.npy",
                npy_header("{'descr':'<f8','fortran_order':False,'shape':(3,1000000000000)}"),
                "features",
            ),
            (
                "features.npy",
                npy_header("{'descr':'<f8','fortran_order':False,'shape':(10**12,2)}"),
                "header",
            ),
            (
                "features.npy",
                npy_header("{'descr':'<f8','fortran_order':False,'shape':(-3,2)}"),
                "header",
            ),
            (
                "features.npy",
                npy_header("{'descr':'<f8','fortran_order':False,'shape':(True,2)}", bytes(16)),
                "header",
            ),
            (
                "features.npy",
                npy_header("{'descr':'|V8','fortran_order':False,'shape':(3,2)}", bytes(48)),
                "type",
            ),
            (
                "features.npy",
                npy_header("{'descr':'|O','fortran_order':False,'shape':(3,2)}", bytes(48)),
                "type '.O'",
            ),
            ("features.npy", npy_header("(" * 100), "header"),
            ("features.npy", npy_header("{[]:1}"), "header"),
        ],
    )
    def test_lying_members_are_refused(self, tmp_path, member, content, reason):
        path = write_members(tmp_path / "a.npz", {**SOUND, member: content})
        with pytest.raises(DatasetError, match=reason):
            read(path)

    def test_missing_array_is_named(self, tmp_path):
        path = write_members(
            tmp_path / "a.npz", {name: SOUND[name] for name in ("features.npy", "labels.npy")}
        )
        with pytest.raises(DatasetError, match="lacks the arrays ids"):
            read(path)

    @pytest.mark.parametrize("name", ["../ids.npy", "ids.txt", "/ids.npy", "ids"])
    def test_other_members_are_refused(self, tmp_path, name):
        with pytest.raises(DatasetError, match="unexpected or repeated member"):
            read(write_members(tmp_path / "a.npz", {**SOUND, name: b""}))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_repeated_member_is_refused(self, tmp_path):
        path = write_members(tmp_path / "a.npz", SOUND)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("ids.npy", SOUND["ids.npy"])
        with pytest.raises(DatasetError, match="repeated member"):
            read(path)

    def test_bomb_is_refused_before_it_expands(self, tmp_path):
        path, count = tmp_path / "a.npz", 100_000
        zeros = np.zeros(count, np.uint8)
        np.savez_compressed(path, features=np.zeros((count, 1000), np.uint8), labels=zeros, ids=zeros)
        with pytest.raises(DatasetError, match="expands to"):
            read(path)

    def test_member_that_expands_beyond_its_declared_size_is_refused(self, tmp_path):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in SOUND.items():
                archive.writestr(name, content)
        content = path.read_bytes()
        size = len(SOUND["features.npy"]).to_bytes(4, "little")
        lie = npy(np.zeros((3, 1)))
        assert content.count(size) >= 2
        path.write_bytes(content.replace(size, len(lie).to_bytes(4, "little")))
        with pytest.raises(DatasetError):
            read(path)

    def test_endless_directory_is_not_read(self, tmp_path):
        path = tmp_path / "a.npz"
        with path.open("wb") as file:
            file.truncate(1 << 30)
            file.seek(0, 2)
            end = b"PK\5\6" + bytes(4) + b"\x05\0\x05\0" + (1 << 30).to_bytes(4, "little") + bytes(6)
            file.write(end)
        tracemalloc.start()
        with pytest.raises(DatasetError, match="implausibly long"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_damaged_file_is_refused_or_read_as_it_was(self, tmp_path, data):
        path = write_npz(tmp_path / "a.npz")
        sound = read(path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
        try:
            records = read(path)
        except DatasetError:
            return
        assert records == sound


class TestText:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "line 1: .*'id' is missing"),
            ("id,f0\n", "line 1: .*'label' is missing"),
            ("id,label\n", "line 1: .*0 features"),
            ("id,label,age\n", "line 1: unexpected column 'age'"),
            ("id,label,f1\n", "line 1: unexpected column 'f1'"),
            ("id,label,f0,f2\n", "line 1: unexpected column 'f2'"),
            ("id,label,f0,f0\n", "line 1: "),
            ("id,id,label,f0\n", "line 1: a column is there twice"),
            ("id,label,f0\na,b\n", "line 2: it has 2 fields"),
            ("id,label,f0\na,b,1\nb,b,1,2\n", "line 3: it has 4 fields"),
            ("id,label,f0\n\na,b,x\n", "line 3: could not convert"),
            ("id,label,f0\na,b,\n", "line 2: could not convert"),
            ("id,label,f0\n,b,1\n", "line 2: the id is empty"),
            ("id,label,f0\na,,1\n", "line 2: the label is empty"),
            ("id,label,f0\n" + "x" * 513 + ",b,1\n", "line 2: the id is longer"),
            ("id,label,f0\na\x00,b,1\n", "line 2: "),
            ("id,label,f0\na\x7f,b,1\n", "line 2: .*control"),
            ('id,label,f0\n"a\nb",b,1\n', "line 2: it is not valid CSV"),
            ('id,label,f0\n"a"b,b,1\n', "line 2: it is not valid CSV"),
            ("id,label,split,f0\na,b,valid,1\n", "line 2: the split 'valid'"),
        ],
    )
    def test_bad_csv_is_refused_with_its_line(self, tmp_path, text, reason):
        path = tmp_path / "a.csv"
        path.write_text(text)
        with pytest.raises(DatasetError, match=rf"a\.csv, {reason}"):
            read(path)

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("[]", "not a JSON object"),
            ("{", "not valid JSON"),
            ("{" + '"a":{' * 5000, "nested|JSON"),
            ('{"id":"b","id":"c","label":"x","features":[1]}', "'id' occurs twice"),
            ('{"label":"x","features":[1]}', "'id' is missing"),
            ('{"id":"b","label":"x","features":[1],"extra":1}', "unexpected field 'extra'"),
            ('{"id":"b","label":"x","features":[1,2]}', "2 features, but the lines before have 1"),
            ('{"id":"b","label":"x","features":[]}', "0 features"),
            ('{"id":"b","label":"x","features":1}', "not a list of numbers"),
            ('{"id":"b","label":"x","features":["1"]}', "not a list of numbers"),
            ('{"id":"b","label":"x","features":[true]}', "not a list of numbers"),
            ('{"id":"b","label":"x","features":[null]}', "not a list of numbers"),
            ('{"id":"b","label":"x","features":[[1]]}', "nested"),
            ('{"id":"b","label":"x","features":[NaN]}', "NaN"),
            ('{"id":"b","label":"x","features":[9007199254740993]}', "beyond"),
            ('{"id":"b","label":"x","features":[1' + "0" * 400 + "]}", "beyond"),
            ('{"id":"b","label":"x","features":[1' + "0" * 5000 + "]}", "digits"),
            ('{"id":1.5,"label":"x","features":[1]}', "neither a string nor an integer"),
            ('{"id":true,"label":"x","features":[1]}', "neither a string nor an integer"),
            ('{"id":null,"label":"x","features":[1]}', "neither a string nor an integer"),
            ('{"id":"\\ud800","label":"x","features":[1]}', "unprintable"),
            ('{"id":"b","label":"x","features":[1],"split":1}', "split '1'"),
            ('{"id":"b","label":"x","features":[1],"subject":[]}', "subject"),
        ],
    )
    def test_bad_jsonl_is_refused_with_its_line(self, tmp_path, line, reason):
        path = tmp_path / "a.jsonl"
        path.write_text(f'{{"id":"a","label":"x","features":[1]}}\n\n{line}\n')
        with pytest.raises(DatasetError, match=rf"a\.jsonl, line 3: .*{reason}"):
            read(path)

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_other_encodings_are_refused(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(b"id,label,f0\n\xff,b,1\n")
        with pytest.raises(DatasetError, match="not UTF-8" if suffix == "csv" else "line 1"):
            read(path)

    def test_endless_line_is_refused_in_bounded_memory(self, tmp_path):
        path = tmp_path / "a.jsonl"
        with path.open("wb") as file:
            file.truncate(1 << 30)
        tracemalloc.start()
        with pytest.raises(DatasetError, match="line 1: it is longer"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_LINE_BYTES
        tracemalloc.stop()


class TestParquet:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"id": ["a", None]}, "record number 1 .*neither a string"),
            ({"label": [0.5, 1.5]}, "record number 0 .*neither a string"),
            ({"f0": [1.0, None]}, "'f0' has missing values"),
            ({"f0": ["1", "2"]}, "not numbers"),
            ({"f1": ["1", "2"]}, "not numbers"),
            ({"f2": [1, 2]}, "unexpected column 'f2'"),
            ({"f0": [1, 2**53 + 1]}, "beyond"),
        ],
    )
    def test_bad_columns_are_refused(self, tmp_path, changes, reason):
        path = tmp_path / "a.parquet"
        parquet.write_table(pa.table({"id": ["a", "b"], "label": ["x", "y"], "f0": [1, 2], **changes}), path)
        with pytest.raises(DatasetError, match=reason):
            read(path)

    def test_integer_names_and_mixed_numbers_are_accepted(self, tmp_path):
        path = tmp_path / "a.parquet"
        parquet.write_table(
            pa.table({"id": [1, 2], "label": [0, 1], "f0": [1, 2], "f1": pa.array([0.5, 1.5], pa.float32())}),
            path,
        )
        assert read(path)["ids"] == ["1", "2"]
        assert read(path)["features"] == [[1, 0.5], [2, 1.5]]

    def test_byte_columns_stay_bytes(self, tmp_path):
        path = tmp_path / "a.parquet"
        parquet.write_table(pa.table({"id": ["a"], "label": ["x"], "f0": pa.array([7], pa.uint8())}), path)
        (batch,) = read_batches(path)
        assert batch.features.dtype == np.uint8

    def test_bomb_is_refused(self, tmp_path):
        path = tmp_path / "a.parquet"
        column = pa.array(np.zeros(1_000_000, np.uint8))
        features = {f"f{number}": column for number in range(10)}
        parquet.write_table(pa.table({"id": column, "label": column, **features}), path)
        with pytest.raises(DatasetError, match="expands to"):
            read(path)

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"garbage" * 100])
    def test_damaged_file_is_refused(self, tmp_path, content):
        path = tmp_path / "a.parquet"
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="not a usable Parquet file"):
            read(path)

    def test_missing_reader_is_explained(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(DatasetError, match=r"expunge\[parquet\]"):
            read(tmp_path / "a.parquet")


def test_checksum_of_a_stored_member_is_compared(tmp_path):
    path = write_members(tmp_path / "a.npz", SOUND)
    content = bytearray(path.read_bytes())
    position = content.index(np.float64(1.5).tobytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert zlib.crc32(content) != 0
    with pytest.raises(DatasetError, match="CRC"):
        read(path)
