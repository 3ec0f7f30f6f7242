"""Reading interactions from data files as batches of checked rows; torch-free.

Memory is bounded by a batch and one line, whatever the size of the file.

- `.inter`: RecBole's atomic file: tab-separated, with a header such as `user_id:token item_id:token rating:float
  timestamp:float`.
- `.csv`: MovieLens's `userId,movieId,rating,timestamp`, or `user,item[,rating][,timestamp][,split]`.
- `.parquet`: the same columns as `.csv`.
- `.tsv`, and `.txt` whose first line has a tab: `user item [count]` without a header, as Last.fm comes; a count must be
  positive, and is not learned.
- `.txt` otherwise: LightGCN's adjacency lines, a user and then all items of that user.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from models.classifier.rows import to_name, to_split
from models.errors import DatasetError
from models.npz import check_expansion
from models.recommender.options import Options
from models.text_lines import numbered_lines

BATCH_ROWS: Final = 16_384

_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "user": "user",
        "userId": "user",
        "user_id": "user",
        "item": "item",
        "itemId": "item",
        "item_id": "item",
        "movieId": "item",
        "rating": "rating",
        "timestamp": "timestamp",
        "split": "split",
    }
)
_RECBOLE_TYPES: Mapping[str, str] = MappingProxyType(
    {"user": "token", "item": "token", "rating": "float", "timestamp": "float", "split": "token"}
)
_PAIR, _TRIPLE = 2, 3


class Interaction(NamedTuple):
    """One row."""

    user: str
    item: str
    rating: float | None = None
    timestamp: float | None = None
    split: int | None = None
    """`TRAIN` or `HOLDOUT`, or None where the file has no such column."""


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of one file, all with the same columns."""

    source: str
    """Name of the file, for messages."""
    rows: list[Interaction]


def read_batches(path: Path, options: Options) -> Iterator[Batch]:
    """Yield the interactions of a data file; its suffix tells the format.

    Raises:
        DatasetError: The file is malformed; the message names the line or row.
    """
    try:
        reader = _READERS[path.suffix]
    except KeyError:
        raise DatasetError(f"{path.name} has an unknown format; use {', '.join(sorted(_READERS))}.") from None
    rows = reader(path, options)
    while batch := list(islice(rows, BATCH_ROWS)):
        yield Batch(path.name, batch)


def _read_csv(path: Path, options: Options) -> Iterator[Interaction]:
    return _tabular(path, options, _split_csv, list)


def _read_inter(path: Path, options: Options) -> Iterator[Interaction]:
    return _tabular(path, options, _split_tabs, _recbole_names)


def _tabular(
    path: Path,
    options: Options,
    split_line: Callable[[str], list[str]],
    to_names: Callable[[list[str]], list[str]],
) -> Iterator[Interaction]:
    """Yield the rows of a text file whose first line names the columns."""
    lines = numbered_lines(path)
    roles: list[str] = []
    for number, line in lines:
        try:
            fields = split_line(line)
            if not roles:
                roles = _roles(to_names(fields))
                continue
            if len(fields) != len(roles):
                raise ValueError(f"it has {len(fields)} fields, but the header has {len(roles)}")  # noqa: TRY301 - located below
            yield _to_interaction(dict(zip(roles, fields, strict=True)), options)
        except ValueError as error:
            raise DatasetError(f"{path.name}, line {number}: {error}.") from error


def _split_csv(line: str) -> list[str]:
    """Split one line. A row is one line: ids hold no line breaks, so a quoted one is an error."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"it is not valid CSV ({error})") from error


def _split_tabs(line: str) -> list[str]:
    return line.split("\t")


def _recbole_names(header: Sequence[str]) -> list[str]:
    """Return the columns' names without their types.

    Raises:
        ValueError: A column has no type, or another than it must have.
    """
    names = []
    for column in header:
        name, _, kind = column.partition(":")
        wanted = _RECBOLE_TYPES.get(_ALIASES.get(name, ""))
        if wanted is not None and kind != wanted:
            raise ValueError(f"the column {name!r} must be declared as {name}:{wanted}")
        names.append(name)
    return names


def _roles(names: Sequence[str]) -> list[str]:
    """Return what each column holds.

    Raises:
        ValueError: A column is missing, unexpected or there twice.
    """
    if unexpected := next((name for name in names if name not in _ALIASES), None):
        raise ValueError(
            f"unexpected column {unexpected[:100]!r}; the columns are user, item and optionally rating, timestamp"
            " and split"
        )
    roles = [_ALIASES[name] for name in names]
    if missing := next((role for role in ("user", "item") if role not in roles), None):
        raise ValueError(f"the column {missing!r} is missing")
    if len(set(roles)) < len(roles):
        raise ValueError("a column is there twice")
    return roles


def _to_interaction(fields: Mapping[str, object], options: Options) -> Interaction:
    return Interaction(
        user=to_name(fields["user"], "user"),
        item=to_name(fields["item"], "item"),
        rating=_to_rating(fields["rating"], options) if "rating" in fields else None,
        timestamp=_to_number(fields["timestamp"], "timestamp") if "timestamp" in fields else None,
        split=to_split(fields["split"]) if "split" in fields else None,
    )


def _to_rating(value: object, options: Options) -> float:
    rating = _to_number(value, "rating")
    low, high = options.rating_range
    if not low <= rating <= high:
        raise ValueError(f"the rating {rating:g} is not between {low:g} and {high:g}")
    return rating


def _to_number(value: object, what: str) -> float:
    """Return a finite number.

    Raises:
        ValueError: It is none.
    """
    if type(value) not in {int, float, str}:
        raise ValueError(f"the {what} is not a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        raise ValueError(f"the {what} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"the {what} is not finite")
    return number


def _read_tsv(path: Path, _: Options) -> Iterator[Interaction]:
    width = 0
    for number, line in numbered_lines(path):
        try:
            fields = line.split("\t")
            width = width or len(fields)
            yield _to_triple(fields, width)
        except ValueError as error:
            raise DatasetError(f"{path.name}, line {number}: {error}.") from error


def _to_triple(fields: Sequence[str], width: int) -> Interaction:
    if len(fields) not in {_PAIR, _TRIPLE}:
        raise ValueError(f"it has {len(fields)} fields between tabs instead of user, item and maybe a count")
    if len(fields) != width:
        raise ValueError(f"it has {len(fields)} fields, but the lines before have {width}")
    if len(fields) == _TRIPLE and _to_number(fields[2], "count") <= 0:
        raise ValueError("the count is not positive")
    return Interaction(to_name(fields[0], "user"), to_name(fields[1], "item"))


def _read_txt(path: Path, options: Options) -> Iterator[Interaction]:
    first = next(numbered_lines(path), None)
    has_tabs = first is not None and "\t" in first[1]
    return _read_tsv(path, options) if has_tabs else _read_adjacency(path)


def _read_adjacency(path: Path) -> Iterator[Interaction]:
    """Yield a line's user with each of its items; a user without any adds nothing."""
    for number, line in numbered_lines(path):
        try:
            if "\t" in line:
                raise ValueError("it has a tab, but the first line has none")  # noqa: TRY301 - located below
            user, *items = (to_name(token, "id") for token in line.split())
        except ValueError as error:
            raise DatasetError(f"{path.name}, line {number}: {error}.") from error
        for item in items:
            yield Interaction(user, item)


def _read_parquet(path: Path, options: Options) -> Iterator[Interaction]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and too heavy for a process that never sees such a file
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError:
        raise DatasetError(
            "Parquet files need pyarrow, which is not installed: `pip install 'expunge[parquet]'`."
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            roles = _roles(file.schema_arrow.names)
            groups = range(file.metadata.num_row_groups)
            declared = sum(file.metadata.row_group(number).total_byte_size for number in groups)
            check_expansion(path.name, declared, path.stat().st_size)
            start = 0
            for table in file.iter_batches(batch_size=BATCH_ROWS):
                columns = [column.to_pylist() for column in table.columns]
                yield from _parquet_rows(roles, columns, start, options)
                start += table.num_rows
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path.name} is not a usable Parquet file: {error}.") from error


def _parquet_rows(
    roles: Sequence[str], columns: Sequence[Sequence[Any]], start: int, options: Options
) -> Iterator[Interaction]:
    for number, values in enumerate(zip(*columns, strict=True), start):
        try:
            yield _to_interaction(dict(zip(roles, values, strict=True)), options)
        except ValueError as error:
            raise ValueError(f"row {number} (counting from 0): {error}") from error


_READERS: Mapping[str, Callable[[Path, Options], Iterator[Interaction]]] = MappingProxyType(
    {
        ".csv": _read_csv,
        ".inter": _read_inter,
        ".parquet": _read_parquet,
        ".tsv": _read_tsv,
        ".txt": _read_txt,
    }
)
