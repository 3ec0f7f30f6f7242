import hashlib
import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from models.checkpoint import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    check_checkpoint,
    check_file_name,
    check_safetensors,
    read_json_object,
    read_manifest,
    verify_directory,
    write_manifest,
)
from models.errors import CheckpointError
from models.safetensors_file import TensorStream, map_tensor, write_safetensors

SUFFIXES = {".json", ".safetensors"}


def raw_file(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(dtype: str, shape: object, begin: object, end: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text('{"architecture": "linear"}')
    save_file({"weight": np.ones((2, 3), np.float32)}, directory / "model.safetensors")
    return directory


class TestManifest:
    def test_digest_is_the_sha256_of_the_manifest_file(self, checkpoint):
        manifest = write_manifest(checkpoint)
        assert hashlib.sha256((checkpoint / MANIFEST_NAME).read_bytes()).hexdigest() == manifest.digest
        assert read_manifest(checkpoint) == manifest == Manifest.from_json(manifest.to_json())

    def test_entries_state_size_and_digest_of_each_file(self, checkpoint):
        manifest = write_manifest(checkpoint)
        content = (checkpoint / "config.json").read_bytes()
        assert manifest.entry("config.json") == FileEntry(
            "config.json", hashlib.sha256(content).hexdigest(), len(content)
        )
        assert manifest.size == sum(path.stat().st_size for path in checkpoint.iterdir()) - len(
            manifest.to_bytes()
        )
        with pytest.raises(KeyError):
            manifest.entry("missing")

    def test_writing_again_gives_the_same_manifest(self, checkpoint):
        assert write_manifest(checkpoint) == write_manifest(checkpoint)

    def test_files_in_subdirectories_are_covered(self, checkpoint):
        (checkpoint / "tokenizer").mkdir()
        (checkpoint / "tokenizer" / "vocabulary.json").write_text("{}")
        write_manifest(checkpoint)
        assert verify_directory(checkpoint).entry("tokenizer/vocabulary.json").size == 2

    def test_changed_file_is_found(self, checkpoint):
        write_manifest(checkpoint)
        (checkpoint / "config.json").write_text('{"architecture": "linaer"}')
        with pytest.raises(CheckpointError, match=r"'config\.json' does not have the sha256"):
            verify_directory(checkpoint)

    def test_truncated_file_is_found(self, checkpoint):
        write_manifest(checkpoint)
        os.truncate(checkpoint / "model.safetensors", 50)
        with pytest.raises(CheckpointError, match="size"):
            verify_directory(checkpoint)

    def test_missing_and_extra_files_are_found(self, checkpoint):
        write_manifest(checkpoint)
        (checkpoint / "extra.json").write_text("{}")
        with pytest.raises(CheckpointError, match=r"not in the manifest: 'extra\.json'"):
            verify_directory(checkpoint)
        (checkpoint / "extra.json").unlink()
        (checkpoint / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"missing: 'config\.json'"):
            verify_directory(checkpoint)

    def test_stored_manifest_must_be_canonical(self, checkpoint):
        manifest = write_manifest(checkpoint)
        (checkpoint / MANIFEST_NAME).write_text(json.dumps(manifest.to_json(), indent=1))
        with pytest.raises(CheckpointError, match="canonical"):
            verify_directory(checkpoint)

    @pytest.mark.parametrize(
        "value",
        [
            {},
            {"files": {}},
            {"files": [], "extra": 1},
            {"files": [{"path": "a", "sha256": "0" * 64}]},
            {"files": [{"path": "../a", "sha256": "0" * 64, "size": 1}]},
            {"files": [{"path": MANIFEST_NAME, "sha256": "0" * 64, "size": 1}]},
            {"files": [{"path": "a", "sha256": "0" * 63 + "\n", "size": 1}]},
            {"files": [{"path": "a", "sha256": "0" * 64, "size": True}]},
            {"files": [{"path": "a", "sha256": "0" * 64, "size": -1}]},
            {"files": [{"path": "a", "sha256": "0" * 64, "size": 1}] * 2},
        ],
    )
    def test_malformed_manifest_is_refused(self, value):
        with pytest.raises(CheckpointError):
            Manifest.from_json(value)


class TestNames:
    @pytest.mark.parametrize("name", ["model.safetensors", "a/b/c.json", ".hidden", "über.json", "a b"])
    def test_plain_relative_names_are_accepted(self, name):
        assert check_file_name(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "a\nb",
            "a\r",
            "a\x00",
            "a\x7f",
            "a\u202eb",
            "a\u2028b",
            "\udcff",
            "x" * 256,
            "ü" * 128,
            "/".join(["x" * 200] * 6),
        ],
    )
    def test_harmful_names_are_refused(self, name):
        with pytest.raises(CheckpointError, match="not an acceptable file name"):
            check_file_name(name)


class TestSafetensors:
    def test_tensors_are_described_where_the_library_finds_them(self, tmp_path):
        path = tmp_path / "a.safetensors"
        arrays = {
            "b": np.arange(6, dtype=np.float32).reshape(2, 3),
            "a": np.arange(4, dtype=np.int64),
            "empty": np.zeros((0, 5)),
        }
        save_file(arrays, path, metadata={"format": "np"})
        infos = check_safetensors(path)
        assert infos.keys() == arrays.keys()
        for name, array in arrays.items():
            assert infos[name].shape == array.shape
            assert infos[name].size == array.nbytes
            np.testing.assert_array_equal(map_tensor(path, infos[name]), array)

    def test_streamed_file_is_read_by_the_library(self, tmp_path):
        path = tmp_path / "a.safetensors"
        rows = np.arange(12, dtype=np.float64).reshape(4, 3)
        codes = np.array([1, 0, 2], np.uint8)
        write_safetensors(
            path,
            {
                "rows": TensorStream(np.float64, (4, 3), [rows[:1], rows[1:]]),
                "codes": TensorStream(np.uint8, (3,), [codes]),
            },
        )
        loaded = load_file(path)
        np.testing.assert_array_equal(loaded["rows"], rows)
        np.testing.assert_array_equal(loaded["codes"], codes)
        check_safetensors(path)

    def test_stream_that_contradicts_its_shape_is_a_fault(self, tmp_path):
        with pytest.raises(RuntimeError, match="do not add up"):
            write_safetensors(
                tmp_path / "a.safetensors", {"a": TensorStream(np.uint8, (3,), [np.zeros(2, np.uint8)])}
            )

    @pytest.mark.parametrize(
        ("header", "data", "reason"),
        [
            ({"a": tensor("F32", [1], 0, 8)}, b"\0" * 8, "does not fit"),
            ({"a": tensor("F32", [2], 0, 4)}, b"\0" * 4, "does not fit"),
            ({"a": tensor("F32", [-1], 0, 4)}, b"\0" * 4, "impossible shape"),
            ({"a": tensor("F32", [True], 0, 4)}, b"\0" * 4, "impossible shape"),
            ({"a": tensor("F32", [1.0], 0, 4)}, b"\0" * 4, "impossible shape"),
            ({"a": tensor("F32", "1", 0, 4)}, b"\0" * 4, "impossible shape"),
            ({"a": tensor("F32", [2**32, 2**32], 0, 4)}, b"\0" * 4, "impossible shape"),
            ({"a": tensor("F32", [0, 2**40, 2**40], 0, 0)}, b"", "impossible shape"),
            ({"a": tensor("F32", [1] * 65, 0, 4)}, b"\0" * 4, "impossible shape"),
            ({"a": tensor("F32", [1], -4, 0)}, b"\0" * 4, "impossible data_offsets"),
            ({"a": tensor("F32", [1], 4, 0)}, b"\0" * 4, "impossible data_offsets"),
            ({"a": tensor("F32", [1], False, 4)}, b"\0" * 4, "impossible data_offsets"),
            ({"a": {**tensor("F32", [1], 0, 4), "data_offsets": [0, 4, 8]}}, b"\0" * 4, "data_offsets"),
            ({"a": tensor("F32", [1], 4, 8)}, b"\0" * 8, "leaves a gap"),
            (
                {"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 4, 12)},
                b"\0" * 12,
                "overlaps",
            ),
            (
                {"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 8, 12)},
                b"\0" * 12,
                "leaves a gap",
            ),
            ({"a": tensor("F32", [1], 0, 4)}, b"\0" * 5, "its tensors end at byte"),
            ({"a": tensor("F32", [2], 0, 8)}, b"\0" * 7, "its tensors end at byte"),
            ({"a": tensor("F128", [1], 0, 16)}, b"\0" * 16, "unknown dtype 'F128'"),
            ({"a": tensor(["F32"], [1], 0, 4)}, b"\0" * 4, "unknown dtype"),
            ({"a": {"dtype": "F32", "shape": [1]}}, b"", "must have exactly"),
            ({"a": {**tensor("F32", [1], 0, 4), "x": 1}}, b"\0" * 4, "must have exactly"),
            ({"a": 1}, b"", "must have exactly"),
            ({"a\n": tensor("F32", [1], 0, 4)}, b"\0" * 4, "unprintable"),
            ({"__metadata__": {"a": 1}}, b"", "metadata"),
            ([], b"", "not a JSON object"),
            (b"{", b"", "not valid JSON"),
            (b"\xff{}", b"", "not UTF-8"),
            (b'{"a":1,"a":2}', b"", "the key 'a' occurs twice"),
            (
                b'{"a":{"dtype":"U8","dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
                b"",
                "the key 'dtype' occurs twice",
            ),
            (b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}', b"", "NaN"),
            (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "nested too deeply"),
            (b'{"a":{"dtype":"U8","shape":[[0]],"data_offsets":[0,0]}}', b"", "nested more than"),
        ],
    )
    def test_lying_header_is_refused(self, tmp_path, header, data, reason):
        with pytest.raises(CheckpointError, match=reason):
            check_safetensors(raw_file(tmp_path / "a.safetensors", header, data))

    @pytest.mark.parametrize("length", [0, 1, 3, 100_000_001, 2**63, 2**64 - 1])
    def test_lying_header_length_is_refused(self, tmp_path, length):
        path = raw_file(tmp_path / "a.safetensors", {"a": tensor("U8", [0], 0, 0)}, length=length)
        with pytest.raises(CheckpointError):
            check_safetensors(path)

    def test_header_beyond_the_limit_is_not_even_read(self, tmp_path):
        path = tmp_path / "a.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", 1 << 30))
            file.truncate(2 << 30)
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="header claims"):
            check_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()

    @pytest.mark.parametrize("size", [0, 7, 8, 60])
    def test_truncated_file_is_refused(self, tmp_path, size):
        path = tmp_path / "a.safetensors"
        save_file({"a": np.zeros(100)}, path)
        os.truncate(path, size)
        with pytest.raises(CheckpointError):
            check_safetensors(path)

    @pytest.mark.parametrize(
        ("dtype", "element"),
        [
            *[("F16", bits.to_bytes(2, "little")) for bits in (0x7C00, 0xFC00, 0x7E00, 0x7C01)],
            *[("BF16", bits.to_bytes(2, "little")) for bits in (0x7F80, 0xFF80, 0x7FC0, 0x7F81)],
            *[("F32", struct.pack("<f", value)) for value in (np.nan, np.inf, -np.inf)],
            ("F32", (0x7F80_0001).to_bytes(4, "little")),
            *[("F64", struct.pack("<d", value)) for value in (np.nan, np.inf, -np.inf)],
            ("C64", struct.pack("<ff", 0, np.nan)),
            *[("F8_E5M2", bytes([bits])) for bits in (0x7C, 0xFC, 0x7E, 0xFF)],
            *[("F8_E4M3", bytes([bits])) for bits in (0x7F, 0xFF)],
            ("F8_E8M0", b"\xff"),
            ("F8_E4M3FNUZ", b"\x80"),
            ("F8_E5M2FNUZ", b"\x80"),
        ],
    )
    def test_weight_that_is_not_finite_is_refused(self, tmp_path, dtype, element):
        data = bytes(3 * len(element)) + element
        path = raw_file(tmp_path / "a.safetensors", {"a": tensor(dtype, [4], 0, len(data))}, data)
        with pytest.raises(CheckpointError, match="tensor 'a' holds NaN or infinity"):
            check_safetensors(path)
        assert check_safetensors(path, finite=False)["a"].shape == (4,)

    @pytest.mark.parametrize(
        ("dtype", "element"),
        [
            ("F16", b"\xff\x7b"),
            ("BF16", b"\x7f\x7f"),
            ("F32", struct.pack("<f", np.finfo(np.float32).max)),
            ("F64", struct.pack("<d", -np.finfo(np.float64).max)),
            ("F8_E5M2", b"\x7b"),
            ("F8_E4M3", b"\x7e"),
            ("F8_E8M0", b"\xfe"),
            ("F8_E4M3FNUZ", b"\xff"),
            ("I64", b"\xff" * 8),
            ("U8", b"\xff"),
        ],
    )
    def test_largest_finite_values_are_accepted(self, tmp_path, dtype, element):
        check_safetensors(
            raw_file(tmp_path / "a.safetensors", {"a": tensor(dtype, [1], 0, len(element))}, element)
        )

    def test_nan_at_the_end_of_a_large_file_is_found_in_bounded_memory(self, tmp_path):
        path = tmp_path / "a.safetensors"
        weights = np.zeros(16 << 20, np.float32)
        weights[-1] = np.nan
        save_file({"a": weights}, path)
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="NaN"):
            check_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
        tracemalloc.stop()

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_damaged_file_is_refused_or_read_alike_by_the_library(self, tmp_path, data):
        path = tmp_path / "a.safetensors"
        save_file({"a": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.int64)}, path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            infos = check_safetensors(path)
        except CheckpointError:
            return
        loaded = load_file(path)
        assert {name: info.shape for name, info in infos.items()} == {
            name: array.shape for name, array in loaded.items()
        }


class TestCheckpoint:
    def test_sound_checkpoint_gets_a_manifest(self, checkpoint):
        assert check_checkpoint(checkpoint, SUFFIXES) == verify_directory(checkpoint)

    def test_supplied_manifest_is_compared_and_made_canonical(self, checkpoint):
        manifest = write_manifest(checkpoint)
        (checkpoint / MANIFEST_NAME).write_text(json.dumps(manifest.to_json(), indent=1))
        assert check_checkpoint(checkpoint, SUFFIXES) == manifest == verify_directory(checkpoint)

    def test_file_that_contradicts_the_supplied_manifest_is_refused(self, checkpoint):
        write_manifest(checkpoint)
        (checkpoint / "config.json").write_text("{}")
        with pytest.raises(CheckpointError, match="manifest states"):
            check_checkpoint(checkpoint, SUFFIXES)

    def test_nan_weight_is_refused(self, checkpoint):
        save_file({"weight": np.array([np.nan], np.float16)}, checkpoint / "model.safetensors")
        with pytest.raises(CheckpointError, match="NaN"):
            check_checkpoint(checkpoint, SUFFIXES)

    @pytest.mark.parametrize("name", ["weights.bin", "model.pt", "archive.zip", "noextension"])
    def test_other_formats_are_refused(self, checkpoint, name):
        (checkpoint / name).write_bytes(b"x")
        with pytest.raises(CheckpointError, match="does not belong"):
            check_checkpoint(checkpoint, SUFFIXES)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_incomplete_checkpoint_is_refused(self, checkpoint, name):
        (checkpoint / name).unlink()
        with pytest.raises(CheckpointError, match="The checkpoint has no"):
            check_checkpoint(checkpoint, SUFFIXES)

    def test_links_are_refused(self, checkpoint, tmp_path):
        (tmp_path / "secret.json").write_text("{}")
        (checkpoint / "linked.json").symlink_to(tmp_path / "secret.json")
        with pytest.raises(CheckpointError, match="link or special file"):
            check_checkpoint(checkpoint, SUFFIXES)

    def test_linked_directories_are_refused(self, checkpoint, tmp_path):
        (checkpoint / "linked").symlink_to(tmp_path, target_is_directory=True)
        with pytest.raises(CheckpointError, match="link or special file"):
            write_manifest(checkpoint)

    def test_pipes_are_refused_without_waiting_for_a_writer(self, checkpoint):
        os.mkfifo(checkpoint / "pipe.json")
        with pytest.raises(CheckpointError, match="link or special file"):
            check_checkpoint(checkpoint, SUFFIXES)

    def test_file_name_with_a_newline_is_refused(self, checkpoint):
        (checkpoint / "a\nb.json").write_text("{}")
        with pytest.raises(CheckpointError, match="not an acceptable file name"):
            check_checkpoint(checkpoint, SUFFIXES)

    @pytest.mark.parametrize(
        "config",
        [
            "",
            "[]",
            "null",
            "{",
            '{"a": NaN}',
            '{"a": 1, "a": 2}',
            '{"a":' + "[" * 200_000 + "]" * 200_000 + "}",
            '{"a":' * 33 + "1" + "}" * 33,
            '{"a": "' + "x" * (1 << 20) + '"}',
            '{"a": ' + "9" * 10_000 + "}",
        ],
    )
    def test_unusable_config_is_refused(self, checkpoint, config):
        (checkpoint / "config.json").write_text(config)
        with pytest.raises(CheckpointError, match=r"config\.json is"):
            check_checkpoint(checkpoint, SUFFIXES)

    def test_config_in_another_encoding_is_refused(self, checkpoint):
        (checkpoint / "config.json").write_bytes("{}".encode("utf-16"))
        with pytest.raises(CheckpointError, match="not UTF-8"):
            check_checkpoint(checkpoint, SUFFIXES)

    def test_json_object_is_read_up_to_its_bound(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text('{"a": 1}')
        assert read_json_object(path, 8) == {"a": 1}
        with pytest.raises(CheckpointError, match="longer than 7 bytes"):
            read_json_object(path, 7)
        with pytest.raises(CheckpointError, match="There is no"):
            read_json_object(tmp_path / "b.json")
