"""A recommender's data files in, snapshot directories out; torch-free (`models.contracts.FamilySnapshots`).

Per interaction, some 25 bytes are held while a snapshot is written, beside the tables of users and items. Equal content
makes equal bytes, so a snapshot without some interactions has the digest of one that never had them: the tables are
sorted by id, and the rule that holds interactions out looks at nobody else's.
"""

import hashlib
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.checkpoint import read_json_object, write_manifest
from models.contracts import SnapshotSummary
from models.errors import CheckpointError, DatasetError
from models.id_index import NAMED_AT_MOST, IdIndex, IndexBuilder
from models.recommender.formats import Batch, read_batches
from models.recommender.options import (
    OPTIONS_NAME,
    FilesHoldout,
    GivenHoldout,
    Holdout,
    InteractionSchema,
    Options,
    PerUserHoldout,
    TemporalHoldout,
)
from models.recommender.pairs import interaction_id
from models.recommender.records import (
    HOLDOUT,
    INDEX_NAME,
    TRAIN,
    Interactions,
    read_interactions,
    read_schema,
    write_interactions,
)

_MAX_OPTIONS_BYTES = 1 << 20
_INDEX_PAGE = 16_384


def ingest(sources: Sequence[Path], out: Path, *, data_schema: Mapping[str, Any] | None) -> SnapshotSummary:
    """Write the interactions of some data files as a snapshot; see `models.contracts.FamilySnapshots.ingest`.

    Without a schema, `options.json` among the files says how they are read; without that, the defaults hold.
    """
    files, options = _part(sources)
    if data_schema is None:
        rows = _Rows(options or Options(), None)
    else:
        _refuse_options(options)
        schema = InteractionSchema.read(data_schema, "The data set's schema")
        rows = _Rows(schema, schema)
    for batch in _read_all(files, rows.options):
        rows.add(batch)
    interactions, schema = rows.finish()
    write_interactions(out, interactions, schema)
    with IndexBuilder(out / INDEX_NAME) as index:
        _add_to_index(index, interactions)
    return _finish(out, schema)


def append(base: Path, sources: Sequence[Path], out: Path) -> SnapshotSummary:
    """Write a snapshot plus new interactions after its own; see `models.contracts.FamilySnapshots.append`."""
    files, options = _part(sources)
    _refuse_options(options)
    schema = read_schema(base)
    rows = _Rows(schema, schema)
    before = read_interactions(base)
    rows.copy(before)
    for batch in _read_all(files, schema):
        rows.add(batch)
    interactions, schema = rows.finish()
    write_interactions(out, interactions, schema)
    with IndexBuilder(out / INDEX_NAME) as index:
        index.copy(base / INDEX_NAME)
        _add_to_index(index, interactions, start=len(before))
    return _finish(out, schema)


def without(base: Path, record_ids: Collection[str], out: Path) -> SnapshotSummary:
    """Write a snapshot less some interactions; see `models.contracts.FamilySnapshots.without`."""
    interactions, schema = read_interactions(base), read_schema(base)
    with IdIndex.open(base / INDEX_NAME) as known:
        if known.records != len(interactions):
            raise DatasetError(f"{INDEX_NAME} does not agree with the snapshot's interactions.")
        unknown = set(known.missing_records(record_ids))
        positions = known.positions([name for name in record_ids if name not in unknown])
    keep = np.ones(len(interactions), bool)
    keep[positions] = False
    write_interactions(out, interactions.kept(keep), schema)
    with IndexBuilder(out / INDEX_NAME) as index:
        index.copy(base / INDEX_NAME, without=positions)
    return _finish(out, schema)


class _Rows:
    """The interactions of a snapshot being written, with users and items numbered as they turn up."""

    def __init__(self, options: Options, schema: InteractionSchema | None) -> None:
        self.options = options
        self._held_out: Holdout | None = options.held_out
        self._timed = None if schema is None else schema.timestamps
        self._base: Interactions | None = None
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._user_index, self._item_index = array("q"), array("q")
        self._timestamps, self._split = array("d"), array("B")

    def copy(self, base: Interactions) -> None:
        """Add the interactions of a snapshot of the same schema; call this before `add`."""
        self._base = base
        self._users = {name: code for code, name in enumerate(base.users)}
        self._items = {name: code for code, name in enumerate(base.items)}
        self._user_index.frombytes(base.user_index.tobytes())
        self._item_index.frombytes(base.item_index.tobytes())
        self._split.frombytes(base.split.tobytes())
        if base.timestamps is not None:
            self._timestamps.frombytes(base.timestamps.tobytes())

    def add(self, batch: Batch) -> None:
        """Add rows from outside. The first ones decide what the options leave open.

        Raises:
            DatasetError: They contradict the schema, or those before.
        """
        first = batch.rows[0]
        self._check_columns(
            batch.source,
            timed=first.timestamp is not None,
            split=first.split is not None,
            rated=first.rating is not None,
        )
        held_out = isinstance(self._held_out, FilesHoldout) and batch.source in self._held_out.files
        least = self.options.least_rating
        for user, item, rating, timestamp, split in batch.rows:
            if least is not None and rating is not None and rating < least:
                continue
            self._user_index.append(self._users.setdefault(user, len(self._users)))
            self._item_index.append(self._items.setdefault(item, len(self._items)))
            if timestamp is not None:
                self._timestamps.append(timestamp)
            self._split.append(HOLDOUT if held_out else TRAIN if split is None else split)

    def finish(self) -> tuple[Interactions, InteractionSchema]:
        """Return the interactions over sorted tables, and the schema that they obey.

        Raises:
            DatasetError: None are left, a pair is there twice, or there are no times to split by.
        """
        if not self._split:
            raise DatasetError("No interaction reaches the least rating.")
        found = self._distinct(
            Interactions(
                tuple(self._users),
                tuple(self._items),
                np.frombuffer(self._user_index, np.int64),
                np.frombuffer(self._item_index, np.int64),
                np.frombuffer(self._timestamps, np.float64) if self._timed else None,
                np.frombuffer(self._split, np.uint8),
            )
        )
        held_out = self._decided(found)
        schema = InteractionSchema(
            rating_range=self.options.rating_range,
            least_rating=self.options.least_rating,
            duplicates=self.options.duplicates,
            held_out=held_out,
            timestamps=bool(self._timed),
        )
        # Those of the base keep the split that they have.
        first_new = self._kept_of_base
        found.split[first_new:] = _split(found, held_out)[first_new:]
        return _sorted_tables(found), schema

    def _check_columns(self, source: str, *, timed: bool, split: bool, rated: bool) -> None:
        if self._held_out is None:
            self._held_out = GivenHoldout() if split else PerUserHoldout()
        if split and not isinstance(self._held_out, GivenHoldout):
            raise DatasetError(
                f"{source} has a column split, but the data set is split by the rule {self._held_out.rule!r}."
            )
        if self._timed is None:
            self._timed = timed
        if self._timed != timed:
            raise DatasetError(
                f"{source} has {'' if timed else 'no '}timestamps, unlike the interactions before it."
            )
        if self.options.least_rating is not None and not rated:
            raise DatasetError(f"{source} has no ratings, but the options ask for a least one.")

    @property
    def _kept_of_base(self) -> int:
        return 0 if self._base is None else len(self._base)

    def _distinct(self, found: Interactions) -> Interactions:
        """Return the first interaction of each pair, or refuse pairs that are there twice."""
        keys = found.user_index * len(found.items) + found.item_index
        _, first = np.unique(keys, return_index=True)
        keep = np.zeros(len(found), bool)
        keep[first] = True
        if self.options.duplicates == "refuse" and len(first) < len(found):
            repeated = (_pair(found, row) for row in np.flatnonzero(~keep).tolist())
            again = list(islice(dict.fromkeys(repeated), NAMED_AT_MOST + 1))
            more = ", …" if len(again) > NAMED_AT_MOST else ""
            raise DatasetError(
                f"Interactions occur more than once: {', '.join(again[:NAMED_AT_MOST])}{more}. Set duplicates to"
                f" 'first' in {OPTIONS_NAME} to keep the first row of each."
            )
        return found.kept(keep)

    def _decided(self, found: Interactions) -> Holdout:
        """Return the rule with everything it leaves open decided by the data.

        Raises:
            DatasetError: It needs times, and there are none.
        """
        rule = self._held_out or PerUserHoldout()
        if not isinstance(rule, TemporalHoldout):
            return rule
        if found.timestamps is None:
            raise DatasetError("A temporal split needs timestamps.")
        if rule.cutoff is not None:
            return rule
        # The time of an interaction, so that equal times are never parted.
        cutoff = np.quantile(found.timestamps, 1 - rule.share, method="higher")
        return TemporalHoldout(share=rule.share, cutoff=float(cutoff))


def _split(found: Interactions, rule: Holdout) -> npt.NDArray[np.uint8]:
    """Return each interaction's split; what rows or files say stands already."""
    if isinstance(rule, PerUserHoldout):
        ids = (_record_id(found, row) for row in range(len(found)))
        return np.fromiter((_hashed(name) < rule.share for name in ids), np.uint8, len(found))
    if isinstance(rule, TemporalHoldout) and found.timestamps is not None and rule.cutoff is not None:
        return (found.timestamps >= rule.cutoff).astype(np.uint8)
    return found.split


def _hashed(record_id: str) -> float:
    """Return a number in [0, 1) that an id decides, other bits than those that part the held-out halves."""
    return int.from_bytes(hashlib.sha256(record_id.encode()).digest()[1:8]) / 2**56


def _sorted_tables(found: Interactions) -> Interactions:
    users, user_index = _sorted(found.users, found.user_index)
    items, item_index = _sorted(found.items, found.item_index)
    return Interactions(users, items, user_index, item_index, found.timestamps, found.split)


def _sorted(
    names: Sequence[str], index: npt.NDArray[np.int64]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return tuple(names[code] for code in order), place[index]


def _part(sources: Sequence[Path]) -> tuple[list[Path], Options | None]:
    """Part the data files from the options."""
    files = [source for source in sources if source.name != OPTIONS_NAME]
    given = [source for source in sources if source.name == OPTIONS_NAME]
    if not given:
        return files, None
    try:
        value = read_json_object(given[0], _MAX_OPTIONS_BYTES)
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    options = Options.read(value, OPTIONS_NAME)
    if isinstance(options.held_out, FilesHoldout):
        names = {source.name for source in files}
        if absent := next((name for name in options.held_out.files if name not in names), None):
            raise DatasetError(f"{OPTIONS_NAME} holds out {absent[:100]!r}, which is not among the files.")
    return files, options


def _refuse_options(options: Options | None) -> None:
    if options is not None:
        raise DatasetError(
            f"{OPTIONS_NAME} belongs to a data set's registration; it cannot be changed later."
        )


def _read_all(files: Sequence[Path], options: Options) -> Iterator[Batch]:
    empty = True
    for source in files:
        for batch in read_batches(source, options):
            empty = False
            yield batch
    if empty:
        raise DatasetError(
            f"There are no interactions in {', '.join(source.name for source in files) or 'no file'}."
        )


def _pair(found: Interactions, row: int) -> str:
    return f"{found.users[found.user_index[row]]!r} and {found.items[found.item_index[row]]!r}"


def _record_id(found: Interactions, row: int) -> str:
    return interaction_id(found.users[found.user_index[row]], found.items[found.item_index[row]])


def _add_to_index(index: IndexBuilder, found: Interactions, start: int = 0) -> None:
    for begin in range(start, len(found), _INDEX_PAGE):
        rows = range(begin, min(begin + _INDEX_PAGE, len(found)))
        index.add(
            [_record_id(found, row) for row in rows],
            [found.users[found.user_index[row]] for row in rows],
            [int(found.split[row]) for row in rows],
            [found.items[found.item_index[row]] for row in rows],
        )


def _finish(out: Path, schema: InteractionSchema) -> SnapshotSummary:
    write_manifest(out)
    with IdIndex.open(out / INDEX_NAME) as index:
        return SnapshotSummary(index.records, index.subject_count, schema.to_json())
