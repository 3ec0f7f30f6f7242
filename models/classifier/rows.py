"""What every reader of data files hands on: batches of checked records; torch-free."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.classifier.records import HOLDOUT, TRAIN

MAX_NAME_LENGTH: Final = 512
"""Longest id, subject or class, in characters; forget requests accept no longer ones."""
MAX_WIDTH: Final = 1 << 18
"""Most features per record: enough for the raw pixels of an image that classifiers are trained on."""

_BATCH_BYTES = 1 << 20
_LARGEST_EXACT_INTEGER = 2**53
_SPLITS: Mapping[str | None, int] = MappingProxyType(
    {None: TRAIN, "": TRAIN, "train": TRAIN, "holdout": HOLDOUT}
)


class Row(NamedTuple):
    """One record as a line of text gives it."""

    id: str
    label: str
    subject: str | None
    split: int
    features: list[float] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """Some consecutive records of one file. All sequences are equally long."""

    source: str
    """Name of the file, for messages."""
    ids: list[str]
    labels: list[str]
    subjects: list[str | None]
    splits: list[int]
    features: npt.NDArray[Any]
    """(records, width) of uint8, float32 or float64."""


def batch_length(row_bytes: int) -> int:
    """Return how many records make a batch of about one megabyte."""
    return max(1, min(_BATCH_BYTES // max(row_bytes, 1), 16_384))


def collect(source: str, rows: Iterable[Row]) -> Iterator[Batch]:
    """Gather rows of equal width into batches."""
    pending: list[Row] = []
    for row in rows:
        pending.append(row)
        if len(pending) >= batch_length(8 * len(row.features)):
            yield _to_batch(source, pending)
            pending = []
    if pending:
        yield _to_batch(source, pending)


def to_name(value: object, what: str) -> str:
    """Return an id, subject or class as a string; integers become their decimal digits.

    Raises:
        ValueError: It is empty, too long, unprintable or neither a string nor an integer.

    >>> to_name(7, "label")
    '7'
    >>> to_name("007", "id")
    '007'
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"the {what} is neither a string nor an integer")  # noqa: TRY004 - bad input
    if not value:
        raise ValueError(f"the {what} is empty")
    if len(value) > MAX_NAME_LENGTH:
        raise ValueError(f"the {what} is longer than {MAX_NAME_LENGTH} characters")
    if not value.isprintable():
        raise ValueError(f"the {what} {value!r} contains control or other unprintable characters")
    return value


def to_subject(value: object) -> str | None:
    """Return a subject; None and the empty string mean that there is none.

    Raises:
        ValueError: As `to_name`.
    """
    return None if value is None or value == "" else to_name(value, "subject")


def to_split(value: object) -> int:
    """Return `TRAIN` or `HOLDOUT`; a missing value means training.

    Raises:
        ValueError: It is another word.
    """
    if (value is None or isinstance(value, str)) and value in _SPLITS:
        return _SPLITS[value]
    raise ValueError(f"the split {str(value)[:20]!r} is neither 'train' nor 'holdout'")


def to_features(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers as the narrowest of uint8, float32 and float64 that holds their type exactly.

    Integers wider than a byte become float64. The choice depends on the type alone, not on the values.

    Raises:
        ValueError: They are not numbers, or are integers that float64 would round.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b" or (kind == "u" and size == 1):
        return values.astype(np.uint8, copy=False)
    if kind in "iu":
        check_exact_integers(values)
        return values.astype(np.float64)
    if kind == "f" and size <= np.dtype(np.float64).itemsize:
        return values.astype(np.float64 if size == np.dtype(np.float64).itemsize else np.float32, copy=False)
    raise ValueError(f"the features are of type {values.dtype}, not numbers of at most 64 bits")


def check_exact_integers(values: npt.NDArray[Any]) -> None:
    """Refuse integers that float64 cannot tell from their neighbours.

    Raises:
        ValueError: There is one.
    """
    if values.size and max(int(values.max()), -int(values.min())) > _LARGEST_EXACT_INTEGER:
        raise ValueError("the features hold integers beyond 2**53, which float64 would round")


def check_width(width: int) -> None:
    """Refuse records that have no features or too many.

    Raises:
        ValueError: They have.
    """
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(f"a record has {width} features; there must be 1 to {MAX_WIDTH}")


def _to_batch(source: str, rows: list[Row]) -> Batch:
    ids, labels, subjects, splits, features = map(list, zip(*rows, strict=True))
    return Batch(source, ids, labels, subjects, splits, to_features(np.array(features)))
