import base64
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

from models.checkpoint import read_manifest
from models.classifier.formats import read_batches
from models.classifier.snapshots import ingest
from models.errors import DatasetError
from models.text_lines import MAX_LINE_BYTES

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


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG file of these chunks, and the one that ends it."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    )


def header(width: int = 4, height: int = 2, depth: int = 8, colour: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def adam7(image: np.ndarray) -> list[np.ndarray]:
    starts = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    return [image[row::down, column::across] for row, column, down, across in starts]


def write_images(directory: Path, images: list[bytes], suffix: str = "parquet") -> Path:
    path = directory / f"a.{suffix}"
    names = [f"r{number}" for number in range(len(images))]
    if suffix == "parquet":
        parquet.write_table(pa.table({"id": names, "label": names, "image": images}), path)
    else:
        lines = [
            {"id": name, "label": "x", "image": base64.b64encode(image).decode()}
            for name, image in zip(names, images, strict=True)
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, list[int]]:
    """Return 500 handwritten digits, shape (500, 8, 8), 0 to 255, and their classes."""
    images, labels = load_digits(return_X_y=True)
    return (images[:500] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), labels[:500].tolist()


HEADER = header()
PIXELS = (b"IDAT", zlib.compress(b"\0\1\2\3\4\0\5\6\7\x08"))
PNG = chunked(HEADER, PIXELS)


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


class TestImages:
    def test_digits_come_back_as_the_pixels_they_were(self, tmp_path, digits):
        pixels, labels = digits
        files = [png(image) for image in pixels]
        table = {"id": [f"d{number}" for number in range(len(files))], "label": labels}
        as_bytes, as_struct, as_lines = (tmp_path / name for name in ("a.parquet", "b.parquet", "c.jsonl"))
        parquet.write_table(pa.table({**table, "image": files}), as_bytes)
        parquet.write_table(
            pa.table({**table, "image": [{"bytes": file, "path": None} for file in files]}), as_struct
        )
        as_lines.write_text(
            "\n".join(
                json.dumps({"id": name, "label": label, "image": base64.b64encode(file).decode()})
                for name, label, file in zip(table["id"], labels, files, strict=True)
            )
        )
        for path in (as_bytes, as_struct, as_lines):
            assert {batch.features.dtype.name for batch in read_batches(path)} == {"uint8"}
            records = read(path)
            assert records["features"] == pixels.reshape(len(pixels), -1).tolist()
            assert records["ids"] == table["id"]
            assert records["labels"] == [str(label) for label in labels]

    def test_images_make_the_snapshot_that_their_pixels_make(self, tmp_path, digits):
        pixels, labels = digits
        ids = np.array([f"d{number}" for number in range(len(pixels))])
        features = pixels.reshape(len(pixels), -1)
        np.savez(tmp_path / "a.npz", ids=ids, labels=labels, features=features)
        table = {"id": ids, "label": labels, "image": [png(image) for image in pixels]}
        parquet.write_table(pa.table(table), tmp_path / "a.parquet")
        for name in ("npz", "parquet"):
            (tmp_path / name).mkdir()
            ingest([tmp_path / f"a.{name}"], tmp_path / name, data_schema=None)
        assert read_manifest(tmp_path / "npz").digest == read_manifest(tmp_path / "parquet").digest

    def test_colours_come_channel_by_channel(self, tmp_path):
        image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)  # one row of two pixels
        path = write_images(tmp_path, [png(image)])
        assert read(path)["features"] == [[1, 4, 2, 5, 3, 6]]

    def test_interlacing_and_what_else_a_file_carries_change_nothing(self, tmp_path):
        image = np.arange(256, dtype=np.uint8).reshape(16, 16)
        lines = [b"".join(b"\0" + row.tobytes() for row in part) for part in adam7(image)]
        interlaced = chunked(
            (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 1)),
            (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20))),
            (b"IDAT", zlib.compress(b"".join(lines))),
        )
        path = write_images(tmp_path, [png(image), interlaced])
        assert read(path)["features"] == [image.reshape(-1).tolist()] * 2

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (b"", "not PNG"),
            (b"\xff\xd8\xff\xe0 JFIF", "not PNG"),
            (b"GIF89a", "not PNG"),
            (PNG[:8], "cut off"),
            (PNG[:40], "cut off"),
            (PNG[:-1], "cut off"),
            (PNG[:-12], "cut off"),
            (PNG[:45] + bytes([PNG[45] ^ 1]) + PNG[46:], "a checksum does not agree"),
            (chunked((b"IDAT", b"")), "no PNG header"),
            (chunked((b"IHDR", b"")), "no PNG header"),
            (chunked(HEADER, HEADER, PIXELS), "no PNG header"),
            (chunked(HEADER), "pixels are damaged"),
            (chunked(HEADER, (b"IDAT", b"garbage")), "pixels are damaged"),
            (chunked(HEADER, (b"IDAT", PIXELS[1][:-6])), "pixels are damaged"),
            (chunked(header(width=100_000, height=100_000)), "10000000000 features"),
            (chunked(header(width=2**31 - 1, height=2**31 - 1)), "features"),
            (chunked(header(width=0)), "0 features"),
            (chunked(header(depth=1)), "1 bits per channel"),
            (chunked(header(depth=16)), "16 bits per channel"),
            (chunked(header(colour=3)), "a palette"),
            (chunked(header(colour=4)), "an alpha channel"),
            (chunked(header(colour=6)), "an alpha channel"),
            (chunked(header(colour=7)), "the unknown colour type 7"),
            (chunked(HEADER, (b"tRNS", b"\0\0"), PIXELS), "a transparent colour"),
            (chunked(HEADER, (b"acTL", bytes(8)), PIXELS), "an animation"),
            (
                png(np.zeros((4, 2), np.uint8)),
                "2 x 4 pixels in grey, but those before are 4 x 2 pixels in grey",
            ),
            (png(np.zeros((2, 4, 3), np.uint8)), "4 x 2 pixels in colour, but"),
        ],
    )
    @pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
    def test_bad_images_are_refused_with_their_place(self, tmp_path, suffix, image, reason):
        path = write_images(tmp_path, [PNG, image], suffix)
        place = "record number 1 .*" if suffix == "parquet" else "line 2: .*"
        with pytest.raises(DatasetError, match=place + reason):
            read(path)

    @pytest.mark.parametrize(
        "value", [None, {"bytes": None, "path": "/etc/passwd"}, {"path": "a.png"}, "text", 7]
    )
    def test_what_holds_no_bytes_is_refused(self, tmp_path, value):
        path = tmp_path / "a.parquet"
        parquet.write_table(pa.table({"id": ["a"], "label": ["x"], "image": [value]}), path)
        with pytest.raises(DatasetError, match=r"record number 0 .*there is no image"):
            read(path)

    @pytest.mark.parametrize("value", [None, 7, "é", "a*b=", "abc", ["a"]])
    def test_what_is_not_base64_is_refused(self, tmp_path, value):
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps({"id": "a", "label": "x", "image": value}))
        with pytest.raises(DatasetError, match="line 1: the image is not base64 text"):
            read(path)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"f0": [1]}, "unexpected column 'f0'"),
            ({"pixels": [1]}, "unexpected column 'pixels'"),
            ({"label": None}, "the column 'label' is missing"),
        ],
    )
    def test_other_columns_beside_images_are_refused(self, tmp_path, changes, reason):
        table = {"id": ["a"], "label": ["x"], "image": [PNG], **changes}
        path = tmp_path / "a.parquet"
        parquet.write_table(
            pa.table({name: values for name, values in table.items() if values is not None}), path
        )
        with pytest.raises(DatasetError, match=reason):
            read(path)

    def test_features_and_images_do_not_mix(self, tmp_path):
        path = write_images(tmp_path, [PNG], "jsonl")
        both = {**json.loads(path.read_text()), "features": [1]}
        numbers = {"id": "b", "label": "x", "features": [0] * 8}
        path.write_text(json.dumps(both))
        with pytest.raises(DatasetError, match="line 1: unexpected field 'features'"):
            read(path)
        write_images(tmp_path, [PNG], "jsonl")
        path.write_text(path.read_text() + "\n" + json.dumps(numbers))
        with pytest.raises(DatasetError, match="line 2: some lines have features and others images"):
            read(path)

    def test_one_image_repeated_beyond_belief_is_refused(self, tmp_path):
        count, image = 5000, png(np.zeros((500, 500), np.uint8))
        path = tmp_path / "a.parquet"
        names = [str(number) for number in range(count)]
        parquet.write_table(pa.table({"id": names, "label": names, "image": [image] * count}), path)
        with pytest.raises(DatasetError, match="expands to"):
            read(path)

    def test_lines_that_expand_beyond_belief_are_refused(self, tmp_path):
        image = chunked(header(512, 512), (b"IDAT", zlib.compress(bytes(512 * 513), 9)))
        path = write_images(tmp_path, [image] * 500, "jsonl")
        with pytest.raises(DatasetError, match="expands to"):
            read(path)

    def test_a_missing_decoder_is_explained(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "PIL", None)
        for suffix in ("parquet", "jsonl"):
            with pytest.raises(DatasetError, match=r"expunge\[images\]"):
                read(write_images(tmp_path, [PNG], suffix))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_damaged_pixels_are_refused_and_never_crash(self, tmp_path, data):
        compressed = bytearray(PIXELS[1])
        for _ in range(data.draw(st.integers(1, 4))):
            compressed[data.draw(st.integers(0, len(compressed) - 1))] = data.draw(st.integers(0, 255))
        damaged = chunked(HEADER, (b"IDAT", bytes(compressed[: data.draw(st.integers(0, len(compressed)))])))
        try:
            (row,) = read(write_images(tmp_path, [damaged]))["features"]
        except DatasetError as error:
            assert "pixels are damaged" in str(error)  # noqa: PT017 - sound pixels are as good
            return
        assert len(row) == 8


def test_checksum_of_a_stored_member_is_compared(tmp_path):
    path = write_members(tmp_path / "a.npz", SOUND)
    content = bytearray(path.read_bytes())
    position = content.index(np.float64(1.5).tobytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert zlib.crc32(content) != 0
    with pytest.raises(DatasetError, match="CRC"):
        read(path)
