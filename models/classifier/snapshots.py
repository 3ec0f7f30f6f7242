"""A classifier's data files in, snapshot directories out; torch-free (`models.contracts.FamilySnapshots`).

A snapshot is written in one pass over its source in bounded memory; per record, only the label and the split are held
(nine bytes). Equal content makes equal bytes, so a snapshot without some records has the digest of one that never had
them.
"""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from models.checkpoint import write_manifest
from models.class_names import sort_classes
from models.classifier.formats import read_batches
from models.classifier.records import (
    INDEX_NAME,
    MAX_CLASSES,
    RECORDS_NAME,
    DataSchema,
    Records,
    open_records,
    write_schema,
)
from models.classifier.rows import Batch
from models.contracts import SnapshotSummary
from models.errors import DatasetError
from models.id_index import NAMED_AT_MOST, IdIndex, IndexBuilder
from models.safetensors_file import TensorStream, write_safetensors

_CHUNK_BYTES = 1 << 20


def ingest(sources: Sequence[Path], out: Path, *, data_schema: Mapping[str, Any] | None) -> SnapshotSummary:
    """Write the records of some data files as a snapshot; see `models.contracts.FamilySnapshots.ingest`.

    Without a schema, the classes are those of the data: sorted as numbers if all are numbers, else as text.
    """
    schema = None if data_schema is None else DataSchema.from_json(data_schema)
    with IndexBuilder(out / INDEX_NAME) as index, _Columns(out, schema) as columns:
        for batch in _read_all(sources):
            columns.add(batch)
            index.add(batch.ids, batch.subjects, batch.splits, batch.labels)
        schema = columns.write()
    return _finish(out, schema)


def append(base: Path, sources: Sequence[Path], out: Path) -> SnapshotSummary:
    """Write a snapshot plus new records after its own; see `models.contracts.FamilySnapshots.append`."""
    with (
        open_records(base) as records,
        IndexBuilder(out / INDEX_NAME) as index,
        _Columns(out, records.schema) as columns,
    ):
        columns.copy(records)
        index.copy(base / INDEX_NAME)
        for batch in _read_all(sources):
            columns.add(batch)
            index.add(batch.ids, batch.subjects, batch.splits, batch.labels)
        schema = columns.write()
    return _finish(out, schema)


def without(base: Path, record_ids: Collection[str], out: Path) -> SnapshotSummary:
    """Write a snapshot less some records; see `models.contracts.FamilySnapshots.without`."""
    with open_records(base) as records:
        unknown = set(records.index.missing_records(record_ids))
        positions = records.index.positions([name for name in record_ids if name not in unknown])
        keep = np.ones(len(records), bool)
        keep[positions] = False
        _write_records(
            out,
            records.labels[keep],
            records.split[keep],
            TensorStream(
                records.features.dtype,
                (int(keep.sum()), records.features.shape[1]),
                (rows[keep[start : start + len(rows)]] for start, rows in _chunks(records.features)),
            ),
        )
        with IndexBuilder(out / INDEX_NAME) as index:
            index.copy(base / INDEX_NAME, without=positions)
        return _finish(out, records.schema)


class _Columns:
    """The arrays of a snapshot being written: features wait in an unnamed file until all records are known."""

    def __init__(self, out: Path, schema: DataSchema | None) -> None:
        self._out = out
        self._schema = schema
        self._width, self._dtype = (schema.width, schema.dtype) if schema else (0, "")
        self._codes = {name: code for code, name in enumerate(schema.classes)} if schema else {}
        self._labels: list[npt.NDArray[np.int64]] = []
        self._splits: list[npt.NDArray[np.uint8]] = []

    def __enter__(self) -> Self:
        self._features = tempfile.TemporaryFile(dir=self._out)
        return self

    def __exit__(self, *_: object) -> None:
        self._features.close()

    def copy(self, records: Records) -> None:
        """Add the records of a snapshot that has the same schema."""
        self._labels.append(records.labels)
        self._splits.append(records.split)
        for _, rows in _chunks(records.features):
            self._features.write(rows.data)

    def add(self, batch: Batch) -> None:
        """Add records from outside. The first ones decide what the schema leaves open.

        Raises:
            DatasetError: A record does not fit the schema.
        """
        if not self._width:
            self._width, self._dtype = batch.features.shape[1], batch.features.dtype.name
        self._features.write(self._fitted(batch).data)
        self._labels.append(
            np.array([self._code(batch, number) for number in range(len(batch.ids))], np.int64)
        )
        self._splits.append(np.array(batch.splits, np.uint8))

    def write(self) -> DataSchema:
        """Write the data file and return the schema that its records obey."""
        labels, split = np.concatenate(self._labels), np.concatenate(self._splits)
        schema = self._schema
        if schema is None:
            schema = DataSchema(self._width, self._dtype, sort_classes(self._codes))
            # Until now labels counted the classes in the order in which they turned up.
            rank = {name: code for code, name in enumerate(schema.classes)}
            labels = np.array([rank[name] for name in self._codes], np.int64)[labels]
        self._features.seek(0)
        shape = (len(labels), schema.width)
        _write_records(
            self._out,
            labels,
            split,
            TensorStream(schema.dtype, shape, _read_back(self._features, schema.dtype)),
        )
        return schema

    def _fitted(self, batch: Batch) -> npt.NDArray[Any]:
        """Return a batch's features in the schema's type."""
        width = batch.features.shape[1]
        if width != self._width:
            raise DatasetError(
                f"{batch.source}: record {batch.ids[0]!r} has {width} features instead of {self._width}."
            )
        _refuse(batch, ~np.isfinite(batch.features), "has features that are NaN or infinite")
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found by comparing
            fitted = np.ascontiguousarray(batch.features, self._dtype)
        _refuse(batch, fitted != batch.features, f"has features that {self._dtype} cannot hold exactly")
        return fitted

    def _code(self, batch: Batch, number: int) -> int:
        name = batch.labels[number]
        code = self._codes.get(name)
        if code is None:
            if self._schema is not None:
                raise DatasetError(
                    f"{batch.source}: record {batch.ids[number]!r} is of the class {name!r}, which the data set"
                    " does not have; its classes are fixed at registration."
                )
            if len(self._codes) == MAX_CLASSES:
                raise DatasetError(f"{batch.source}: there are more than {MAX_CLASSES} classes.")
            code = self._codes[name] = len(self._codes)
        return code


def _read_all(sources: Sequence[Path]) -> Iterator[Batch]:
    empty = True
    for source in sources:
        for batch in read_batches(source):
            if batch.ids:
                empty = False
                yield batch
    if empty:
        raise DatasetError(
            f"There are no records in {', '.join(source.name for source in sources) or 'no file'}."
        )


def _refuse(batch: Batch, wrong: npt.NDArray[np.bool_], what: str) -> None:
    """Refuse a batch if any feature of it is wrong; `wrong` has the shape of the features."""
    if wrong.any():
        rows = np.flatnonzero(wrong.any(axis=1))[:NAMED_AT_MOST]
        raise DatasetError(f"{batch.source}: {', '.join(repr(batch.ids[row]) for row in rows)} {what}.")


def _chunks(features: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield the rows in pieces of about a megabyte, each with the position of its first row."""
    step = max(1, _CHUNK_BYTES // (features.shape[1] * features.itemsize))
    for start in range(0, len(features), step):
        yield start, features[start : start + step]


def _read_back(file: IO[bytes], dtype: str) -> Iterator[npt.NDArray[Any]]:
    while data := file.read(_CHUNK_BYTES):
        yield np.frombuffer(data, dtype)


def _write_records(
    out: Path, labels: npt.NDArray[np.int64], split: npt.NDArray[np.uint8], features: TensorStream
) -> None:
    write_safetensors(
        out / RECORDS_NAME,
        {
            "labels": TensorStream(np.int64, labels.shape, [labels]),
            "features": features,
            "split": TensorStream(np.uint8, split.shape, [split]),
        },
    )


def _finish(out: Path, schema: DataSchema) -> SnapshotSummary:
    write_schema(out, schema)
    write_manifest(out)
    with IdIndex.open(out / INDEX_NAME) as index:
        return SnapshotSummary(index.records, index.subject_count, schema.to_json())
