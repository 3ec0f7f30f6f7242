"""Reading nodes and edges from files from outside as columns; torch-free.

| file | what it holds |
| --- | --- |
| `.csv`, `.parquet`, `.jsonl` with `id` | a table of nodes: `id`, and optionally `label`, `subject` and `split` |
| `.csv`, `.parquet`, `.jsonl` with `source` and `target` | a list of edges: these, and optionally `relation` and `split` |
| `.npz` | any of the above and features as arrays, so that one file can hold all of a graph (`models.graph.arrays`) |
| `.safetensors` | features (`models.graph.arrays`) |
| `options.json` | `{"directed": true}` where edges have a direction |

A label, subject or split that is missing or empty means: unlabelled, about nobody, for training. Ids are strings whatever
they look like: `01` and `1` are two nodes. Integers become their decimal digits.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from models.classifier.rows import to_name, to_split, to_subject
from models.errors import DatasetError
from models.npz import check_expansion
from models.strict_json import parse_object
from models.text_lines import numbered_lines

BATCH_ROWS: Final = 65_536
NODE_COLUMNS: Final = frozenset({"id", "label", "subject", "split"})
EDGE_COLUMNS: Final = frozenset({"source", "target", "relation", "split"})
TABLES: Final = frozenset({".csv", ".jsonl", ".parquet"})

_ENDS: Final = frozenset({"source", "target"})
_RECORD_DEPTH: Final = 1
_NAME_BYTES: Final = 64  # what an id takes in a table that is expanded
_T = TypeVar("_T")


@dataclass(frozen=True)
class Nodes:
    """Some consecutive nodes of one file. All columns are equally long."""

    source: str
    """Name of the file, for messages."""
    ids: list[str]
    labels: list[str | None]
    subjects: list[str | None]
    splits: list[int]


@dataclass(frozen=True)
class Edges:
    """Some consecutive edges of one file, by the ids of their ends, which are not checked yet."""

    source: str
    first: Sequence[str]
    second: Sequence[str]
    relations: list[str] | None
    """None where the file has no such column."""
    splits: list[int]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Table:
    """A file of rows: nodes or edges, as its columns tell."""

    path: Path
    columns: tuple[str, ...]

    @property
    def holds_edges(self) -> bool:
        """Whether its rows are edges."""
        return "id" not in self.columns

    def nodes(self) -> Iterator[Nodes]:
        """Yield the nodes of a table of nodes.

        Raises:
            DatasetError: A row is malformed; the message says which.
        """
        for start, columns in self._batches():
            count = len(columns["id"])
            yield Nodes(
                self.path.name,
                _convert(self.path.name, start, columns["id"], _to_id),
                _convert(self.path.name, start, columns.get("label", [None] * count), _to_label),
                _convert(self.path.name, start, columns.get("subject", [None] * count), to_subject),
                _convert(self.path.name, start, columns.get("split", [None] * count), to_split),
            )

    def edges(self) -> Iterator[Edges]:
        """Yield the edges of a list of edges.

        Raises:
            DatasetError: A row is malformed; the message says which.
        """
        for start, columns in self._batches():
            relations, split = columns.get("relation"), columns.get("split")
            yield Edges(
                self.path.name,
                _ends(self.path.name, start, columns["source"]),
                _ends(self.path.name, start, columns["target"]),
                None if relations is None else _convert(self.path.name, start, relations, _to_relation),
                [0] * len(columns["source"])
                if split is None
                else _convert(self.path.name, start, split, to_split),
            )

    def _batches(self) -> Iterator[tuple[int, dict[str, Sequence[Any]]]]:
        """Yield the number of the first row, counting from 0, and the columns."""
        match self.path.suffix:
            case ".csv":
                return _csv_batches(self.path, self.columns)
            case ".jsonl":
                return _jsonl_batches(self.path, self.columns)
            case _:
                return _parquet_batches(self.path)


def open_table(path: Path) -> Table:
    """Look at a table's columns; nothing else is read.

    Raises:
        DatasetError: They are neither those of nodes nor those of edges.
    """
    match path.suffix:
        case ".csv":
            _, line = next(numbered_lines(path), (1, ""))
            names = _split_line(path, 1, line)
        case ".jsonl":
            names = _json_fields(path)
        case _:
            names = _parquet_columns(path)
    allowed = NODE_COLUMNS if "id" in names else EDGE_COLUMNS
    if "id" not in names and not _ENDS.issubset(names):
        raise DatasetError(
            f"{path.name} holds neither nodes nor edges: a table of nodes has a column 'id', a list of edges the "
            "columns 'source' and 'target'."
        )
    if unexpected := sorted(set(names) - allowed):
        raise DatasetError(
            f"{path.name} has the unexpected column {unexpected[0][:100]!r}; beside each other there may be "
            f"{', '.join(sorted(allowed))}."
        )
    if len(set(names)) < len(names):
        raise DatasetError(f"{path.name} has a column twice.")
    return Table(path, tuple(names))


def _csv_batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Sequence[Any]]]]:
    lines = numbered_lines(path)
    next(lines)
    start = 0
    while batch := list(islice(lines, BATCH_ROWS)):
        rows = _parse_lines(path, batch, len(columns))
        yield start, dict(zip(columns, zip(*rows, strict=True), strict=True))
        start += len(batch)


def _parse_lines(path: Path, batch: list[tuple[int, str]], width: int) -> list[list[str]]:
    """Split lines all at once, and one by one only to find the one that is wrong."""
    try:
        rows = list(csv.reader((line for _, line in batch), strict=True))
    except csv.Error:
        rows = []
    if len(rows) == len(batch) and {*map(len, rows)} == {width}:
        return rows
    for number, line in batch:
        if len(fields := _split_line(path, number, line)) != width:
            raise DatasetError(
                f"{path.name}, line {number}: it has {len(fields)} fields, but the header has {width}."
            )
    raise DatasetError(f"{path.name} has a quotation mark that is not closed.")


def _split_line(path: Path, number: int, line: str) -> list[str]:
    """Split one line. A row is one line: ids hold no line breaks, so a quoted one is an error."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise DatasetError(f"{path.name}, line {number}: it is not valid CSV ({error}).") from error


def _json_fields(path: Path) -> list[str]:
    """Return the columns of nodes or of edges, whichever the first line is; lines may lack those that are optional."""
    number, line = next(numbered_lines(path), (1, "{}"))
    fields = _json_row(path, number, line)
    known = NODE_COLUMNS if "id" in fields else EDGE_COLUMNS
    return [*fields, *sorted(known - fields.keys() - {"relation"})] if fields else []


def _json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return parse_object(line, max_depth=_RECORD_DEPTH)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{path.name}, line {number}: {error}.") from error


def _jsonl_batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Sequence[Any]]]]:
    lines, known = numbered_lines(path), set(columns)
    start = 0
    while batch := list(islice(lines, BATCH_ROWS)):
        rows = []
        for number, line in batch:
            row = _json_row(path, number, line)
            if unexpected := sorted(row.keys() - known):
                raise DatasetError(
                    f"{path.name}, line {number}: unexpected field {unexpected[0][:100]!r}; "
                    "the first line has none such."
                )
            rows.append(row)
        yield start, {name: [row.get(name) for row in rows] for name in columns}
        start += len(batch)


def _parquet_columns(path: Path) -> list[str]:
    with _open_parquet(path) as file:
        return list(file.schema_arrow.names)


def _parquet_batches(path: Path) -> Iterator[tuple[int, dict[str, Sequence[Any]]]]:
    import pyarrow as pa  # noqa: PLC0415 - optional; `_open_parquet` says so where it is missing

    with _open_parquet(path) as file:
        metadata = file.metadata
        check_expansion(
            path.name, metadata.num_rows * metadata.num_columns * _NAME_BYTES, path.stat().st_size
        )
        start = 0
        try:
            for table in file.iter_batches(batch_size=BATCH_ROWS):
                names = file.schema_arrow.names
                columns = {
                    name: column.to_pylist() for name, column in zip(names, table.columns, strict=True)
                }
                yield start, columns
                start += table.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path.name} is not a usable Parquet file: {error}.") from error


def _open_parquet(path: Path) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and too heavy for a process that never sees such a file
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError:
        raise DatasetError(
            "Parquet files need pyarrow, which is not installed: `pip install 'expunge[parquet]'`."
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path.name} is not a usable Parquet file: {error}.") from error


def _ends(source: str, start: int, values: Sequence[Any]) -> Sequence[str]:
    """Return ids as strings; those of text files are, and whether they name nodes is found out later."""
    if {*map(type, values)} <= {str}:
        return values
    return _convert(source, start, values, _to_id)


def _convert(source: str, start: int, values: Sequence[Any], convert: Callable[[object], _T]) -> list[_T]:
    try:
        return list(map(convert, values))
    except ValueError:
        for number, value in enumerate(values, start):
            try:
                convert(value)
            except ValueError as error:
                raise DatasetError(f"{source}: row number {number} (counting from 0): {error}.") from error
        raise


def _to_id(value: object) -> str:
    return to_name(value, "id")


def _to_label(value: object) -> str | None:
    return None if value is None or value == "" else to_name(value, "label")


def _to_relation(value: object) -> str:
    return to_name(value, "relation")
