"""Open id indexes, kept for the next call: opening one costs more than a look-up in it."""

import threading
from collections import OrderedDict

from app.storage import Storage
from models.id_index import IdIndex

INDEX_NAME = "index.sqlite"
MAX_OPEN = 64


class IndexCache:
    """The most recently used indexes by their snapshot's location; safe to share between threads."""

    def __init__(self, storage: Storage, max_open: int = MAX_OPEN) -> None:
        self._storage = storage
        self._max_open = max_open
        self._indexes: OrderedDict[str, _SharedIndex] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, location: str) -> IdIndex:
        """Return the open index of the snapshot at `location`.

        It stays open for as long as anyone holds it, even once it has left the cache.

        Raises:
            DatasetError: There is no index there, or it is damaged.
        """
        with self._lock:
            if location in self._indexes:
                self._indexes.move_to_end(location)
                return self._indexes[location]
        # Fetching a remote index takes long and must not make other look-ups wait. Two threads may both
        # open the same index; one of them serves its own call alone.
        opened = _SharedIndex.open(self._storage.materialise_file(location, INDEX_NAME))
        with self._lock:
            index = self._indexes.setdefault(location, opened)
            self._indexes.move_to_end(location)
            if len(self._indexes) > self._max_open:
                self._indexes.popitem(last=False)
        return index

    def locations(self) -> list[str]:
        """Return where the open indexes are from."""
        with self._lock:
            return list(self._indexes)

    def discard(self, location: str) -> None:
        """Let go of an index whose snapshot is gone: an open file keeps its bytes on the disk."""
        with self._lock:
            self._indexes.pop(location, None)

    def close(self) -> None:
        """Close every index in the cache."""
        with self._lock:
            for index in self._indexes.values():
                index.close()
            self._indexes.clear()


class _SharedIndex(IdIndex):
    """Closed when its last user lets go of it: the cache cannot know who still looks something up."""

    def __del__(self) -> None:
        self.close()
