import threading
from pathlib import Path

import pytest

from app.storage import CHUNK_BYTES, Storage
from models.checkpoint import write_manifest

CONTENT = bytes(range(256)) * 10_000  # more than two chunks


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path: Path):
    """A local directory, and an object store (fsspec's in memory)."""
    url = str(tmp_path / "root") if request.param == "local" else f"memory://{tmp_path.name}"
    return Storage(url, tmp_path / "cache")


def publish(storage: Storage, location: str, content: bytes = CONTENT) -> None:
    with storage.staging() as directory:
        (directory / "sub").mkdir()
        (directory / "sub" / "weights").write_bytes(content)
        write_manifest(directory)
        storage.publish(directory, location)


def test_a_published_directory_can_be_read_in_ranges(storage):
    publish(storage, "models/m/1/t")
    assert storage.exists("models/m/1/t")
    chunks = list(storage.read("models/m/1/t", "sub/weights", 5, len(CONTENT) - 5))
    assert b"".join(chunks) == CONTENT[5:]
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert (storage.materialise("models/m/1/t") / "sub" / "weights").read_bytes() == CONTENT


def test_one_file_is_fetched_without_the_others(storage, tmp_path: Path):
    publish(storage, "models/m/1/t")
    path = storage.materialise_file("models/m/1/t", "sub/weights")
    assert path.read_bytes() == CONTENT
    assert storage.materialise_file("models/m/1/t", "sub/weights") == path
    if not storage.is_local:
        copies = [copy.name for copy in (tmp_path / "cache").rglob("*") if copy.is_file()]
        assert copies == ["weights"]


def test_deleting_takes_copies_of_single_files_too(storage):
    publish(storage, "models/m/1/t")
    path = storage.materialise_file("models/m/1/t", "sub/weights")
    storage.delete("models/m/1/t")
    assert not path.exists()


def test_a_location_is_never_overwritten(storage):
    publish(storage, "models/m/1/t", b"first")
    with pytest.raises(FileExistsError):
        publish(storage, "models/m/1/t", b"second")
    assert b"".join(storage.read("models/m/1/t", "sub/weights", 0, 5)) == b"first"


def test_a_file_shorter_than_promised_is_an_error(storage):
    publish(storage, "models/m/1/t", b"short")
    with pytest.raises(OSError, match="shorter"):
        list(storage.read("models/m/1/t", "sub/weights", 0, 6))


def test_deleting_takes_the_cached_copy_too(storage):
    publish(storage, "models/m/1/t")
    local = storage.materialise("models/m/1/t")
    storage.delete("models/m/1/t")
    storage.delete("models/m/1/t")
    assert not storage.exists("models/m/1/t")
    assert not local.exists()


def test_staging_leaves_nothing_behind(storage, tmp_path: Path):
    with pytest.raises(ZeroDivisionError), storage.staging() as directory:
        (directory / "half").write_bytes(b"half")
        raise ZeroDivisionError
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_concurrent_readers_fetch_one_whole_copy(storage):
    publish(storage, "models/m/1/t")
    barrier = threading.Barrier(4)
    found = []

    def fetch() -> None:
        barrier.wait()
        found.append((storage.materialise("models/m/1/t") / "sub" / "weights").read_bytes() == CONTENT)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_the_check_fails_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        Storage(str(tmp_path / "file"), tmp_path / "cache").check()
    Storage(str(tmp_path / "fresh"), tmp_path / "cache").check()
