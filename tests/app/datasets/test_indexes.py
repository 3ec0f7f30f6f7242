import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.datasets.indexes import IndexCache
from app.storage import Storage
from models.errors import DatasetError
from models.id_index import IdIndex


@pytest.fixture
def storage(tmp_path):
    storage = Storage(str(tmp_path / "storage"), tmp_path / "cache")
    for name in "abc":
        directory = storage.materialise(name)
        directory.mkdir(parents=True)
        IdIndex.build(directory / "index.sqlite", [f"{name}{number}" for number in range(5)])
    return storage


def test_an_index_is_opened_once(storage):
    cache = IndexCache(storage)
    assert cache.get("a") is cache.get("a")
    cache.close()


def test_an_index_that_left_the_cache_serves_whoever_still_holds_it_and_is_then_closed(storage):
    cache = IndexCache(storage, max_open=1)
    held = cache.get("a")
    gone = weakref.ref(held)
    cache.get("b")
    assert held.missing_records(["a1", "a9"]) == ["a9"]
    assert cache.get("a") is not held
    del held
    gc.collect()
    assert gone() is None
    cache.close()


def test_the_least_recently_used_index_leaves_first(storage):
    cache = IndexCache(storage, max_open=2)
    first, second = cache.get("a"), cache.get("b")
    cache.get("a")
    cache.get("c")
    assert cache.get("a") is first
    assert cache.get("b") is not second
    cache.close()


def test_threads_share_a_small_cache(storage):
    cache = IndexCache(storage, max_open=1)

    def look(number):
        name = "abc"[number % 3]
        return cache.get(name).missing_records([f"{name}0", "absent"])

    with ThreadPoolExecutor(8) as pool:
        assert set(map(tuple, pool.map(look, range(200)))) == {("absent",)}
    cache.close()


def test_a_closed_cache_has_closed_its_indexes(storage):
    cache = IndexCache(storage)
    index = cache.get("a")
    cache.close()
    with pytest.raises(ValueError, match="closed"):
        index.missing_records(["a1"])


def test_an_absent_index_is_a_data_error(storage):
    with pytest.raises(DatasetError):
        IndexCache(storage).get("nowhere")
