"""Reading data files from outside as batches of checked records; torch-free.

Memory is bounded by a batch of about a megabyte and one line, whatever the size of the file.
"""

import base64
import binascii
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.classifier.images import ImageReader
from models.classifier.npz import read_npz
from models.classifier.rows import (
    Batch,
    Row,
    batch_length,
    check_exact_integers,
    check_width,
    collect,
    to_features,
    to_name,
    to_split,
    to_subject,
)
from models.errors import DatasetError
from models.npz import check_expansion
from models.strict_json import parse_object
from models.text_lines import numbered_lines

_REQUIRED: Final = frozenset({"id", "label"})
_OPTIONAL: Final = frozenset({"subject", "split"})
_IMAGE: Final = "image"
_RECORD_DEPTH: Final = 2  # a record is an object with a list in it
_ENCODED_BYTES: Final = 256 << 20
_MOST_IMAGES: Final = 256


def read_batches(path: Path) -> Iterator[Batch]:
    """Yield the records of a data file; its suffix tells the format.

    Raises:
        DatasetError: The file is malformed; the message names the line or record.
    """
    try:
        reader = _READERS[path.suffix]
    except KeyError:
        raise DatasetError(f"{path.name} has an unknown format; use {', '.join(sorted(_READERS))}.") from None
    return reader(path)


def _read_csv(path: Path) -> Iterator[Batch]:
    return collect(path.name, _csv_rows(path))


def _read_jsonl(path: Path) -> Iterator[Batch]:
    return collect(path.name, _jsonl_rows(path))


def _csv_rows(path: Path) -> Iterator[Row]:
    lines = numbered_lines(path)
    try:
        header = _split_line(next(lines, (1, ""))[1])
        features = _feature_columns(header)
    except ValueError as error:
        raise DatasetError(f"{path.name}, line 1: {error}.") from error
    place = {name: position for position, name in enumerate(header)}
    for number, line in lines:
        try:
            fields = _split_line(line)
            if len(fields) != len(header):
                raise ValueError(f"it has {len(fields)} fields, but the header has {len(header)}")  # noqa: TRY301 - located below
            yield Row(
                id=to_name(fields[place["id"]], "id"),
                label=to_name(fields[place["label"]], "label"),
                subject=to_subject(fields[place["subject"]] if "subject" in place else None),
                split=to_split(fields[place["split"]] if "split" in place else None),
                features=[float(fields[place[name]]) for name in features],
            )
        except ValueError as error:
            raise DatasetError(f"{path.name}, line {number}: {error}.") from error


def _split_line(line: str) -> list[str]:
    """Split one line. A record is one line: ids hold no line breaks, so a quoted one is an error."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"it is not valid CSV ({error})") from error


def _feature_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the feature columns, f0 and so on, in their numerical order.

    Raises:
        ValueError: A column is missing, unexpected or there twice.
    """
    if missing := sorted(_REQUIRED.difference(names)):
        raise ValueError(f"the column {missing[0]!r} is missing")
    others = [name for name in names if name not in _REQUIRED | _OPTIONAL]
    features = [f"f{number}" for number in range(len(others))]
    if unexpected := sorted(set(others).difference(features)):
        raise ValueError(
            f"unexpected column {unexpected[0][:100]!r}; the columns are id, label, optionally subject and split,"
            " and the features f0, f1, and so on without a gap"
        )
    if len(set(names)) < len(names):
        raise ValueError("a column is there twice")
    check_width(len(features))
    return features


def _jsonl_rows(path: Path) -> Iterator[Row]:
    first: Row | None = None
    images: ImageReader | None = None
    pixels = 0
    for number, line in numbered_lines(path):
        try:
            record = parse_object(line, max_depth=_RECORD_DEPTH)
            if _IMAGE in record:
                images = images or ImageReader()
            row = _parse_record(record, images)
            _check_alike(row, first or row)
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{path.name}, line {number}: {error}.") from error
        if images:
            pixels += len(row.features)
            check_expansion(path.name, pixels, path.stat().st_size)
        first = first or row
        yield row


def _check_alike(row: Row, first: Row) -> None:
    if type(row.features) is not type(first.features):
        raise ValueError("some lines have features and others images")
    if len(row.features) != len(first.features):
        raise ValueError(
            f"it has {len(row.features)} features, but the lines before have {len(first.features)}"
        )


def _parse_record(record: Mapping[str, Any], images: ImageReader | None) -> Row:
    required = {*_REQUIRED, _IMAGE if _IMAGE in record else "features"}
    if missing := sorted(required - record.keys()):
        raise ValueError(f"the field {missing[0]!r} is missing")
    if unexpected := sorted(record.keys() - required - _OPTIONAL):
        raise ValueError(f"unexpected field {unexpected[0][:100]!r}")
    return Row(
        id=to_name(record["id"], "id"),
        label=to_name(record["label"], "label"),
        subject=to_subject(record.get("subject")),
        split=to_split(record.get("split")),
        features=images.read(_from_base64(record[_IMAGE]))
        if images and _IMAGE in record
        else _parse_features(record["features"]),
    )


def _from_base64(text: object) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise ValueError("the image is not base64 text")


def _parse_features(values: object) -> list[float]:
    if not isinstance(values, list) or not {*map(type, values)} <= {int, float}:
        raise ValueError("the features are not a list of numbers")
    check_width(len(values))
    if int in map(type, values):
        check_exact_integers(np.array([value for value in values if type(value) is int], object))
    return [float(value) for value in values]


def _read_parquet(path: Path) -> Iterator[Batch]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and too heavy for a process that never sees such a file
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError:
        raise DatasetError(
            "Parquet files need pyarrow, which is not installed: `pip install 'expunge[parquet]'`."
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if _IMAGE in names:
                yield from _parquet_images(path, file)
                return
            features = _feature_columns(names)
            row_bytes = 8 * len(features)
            check_expansion(path.name, file.metadata.num_rows * row_bytes, path.stat().st_size)
            start = 0
            for table in file.iter_batches(batch_size=batch_length(row_bytes)):
                columns = dict(zip(names, table.columns, strict=True))
                values = np.column_stack([_parquet_feature(name, columns[name]) for name in features])
                yield _parquet_batch(path.name, columns, values, start)
                start += table.num_rows
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path.name} is not a usable Parquet file: {error}.") from error


def _parquet_images(path: Path, file: Any) -> Iterator[Batch]:
    """Yield records whose pixels are in a column of PNG files, either bytes or Hugging Face's {bytes, path}."""
    names, metadata, size = file.schema_arrow.names, file.metadata, path.stat().st_size
    _check_image_columns(names)
    groups = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    check_expansion(path.name, sum(groups), size)
    # A row's image may be as long as its row group, if many rows refer to one entry of the group's dictionary.
    length = max(1, min(_ENCODED_BYTES // max([1, *groups]), _MOST_IMAGES))
    images, start = ImageReader(), 0
    for table in file.iter_batches(batch_size=length):
        columns = dict(zip(names, table.columns, strict=True))
        rows = []
        for number, value in enumerate(columns[_IMAGE].to_pylist(), start):
            rows.append(_at(number, images.read, value.get("bytes") if isinstance(value, dict) else value))
            check_expansion(path.name, metadata.num_rows * len(rows[0]), size)
        yield _parquet_batch(path.name, columns, np.stack(rows), start)
        start += table.num_rows


def _check_image_columns(names: Sequence[str]) -> None:
    allowed = _REQUIRED | _OPTIONAL | {_IMAGE}
    if missing := sorted(_REQUIRED.difference(names)):
        raise ValueError(f"the column {missing[0]!r} is missing")
    if unexpected := sorted(set(names) - allowed):
        raise ValueError(
            f"unexpected column {unexpected[0][:100]!r}; beside image, the columns are id, label, optionally"
            " subject and split"
        )
    if len(set(names)) < len(names):
        raise ValueError("a column is there twice")


def _parquet_batch(source: str, columns: Mapping[str, Any], features: npt.NDArray[Any], start: int) -> Batch:
    def convert(name: str, to_value: Callable[[object], Any]) -> list[Any]:
        values = columns[name].to_pylist() if name in columns else [None] * len(columns["id"])
        return [_at(number, to_value, value) for number, value in enumerate(values, start)]

    return Batch(
        source=source,
        ids=convert("id", lambda value: to_name(value, "id")),
        labels=convert("label", lambda value: to_name(value, "label")),
        subjects=convert("subject", to_subject),
        splits=convert("split", to_split),
        features=features,
    )


def _parquet_feature(name: str, column: Any) -> npt.NDArray[Any]:
    if column.null_count:
        raise ValueError(f"the column {name!r} has missing values")
    return to_features(column.to_numpy(zero_copy_only=False))


def _at(number: int, to_value: Callable[[object], Any], value: object) -> Any:
    try:
        return to_value(value)
    except ValueError as error:
        raise ValueError(f"record number {number} (counting from 0): {error}") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Batch]]] = MappingProxyType(
    {".csv": _read_csv, ".jsonl": _read_jsonl, ".npz": read_npz, ".parquet": _read_parquet}
)
