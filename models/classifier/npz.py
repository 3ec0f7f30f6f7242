"""Reading classifiers' `.npz` files from outside, in batches of about a megabyte; torch-free."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy.typing as npt

from models.classifier.rows import (
    Batch,
    batch_length,
    check_width,
    to_features,
    to_name,
    to_split,
    to_subject,
)
from models.npz import NAMES, NUMBERS, ArrayStream, Layout, open_npz

_REQUIRED: Final = frozenset({"features", "labels", "ids"})
_LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "features": Layout(NUMBERS, dimensions=2),
        **dict.fromkeys(("labels", "ids", "subjects", "split"), Layout(NAMES)),
    }
)
_T = TypeVar("_T")


def read_npz(path: Path) -> Iterator[Batch]:
    """Yield the records of an `.npz` file.

    Arrays: `features` (n, p) of numbers; `labels`, `ids` and optionally `subjects` and `split`, (n,) of strings or,
    except for `split`, integers. An empty string as subject means none; without `split`, all records are for training.

    Raises:
        DatasetError: The file is damaged or breaks one of these rules.
    """
    with open_npz(path, _LAYOUTS) as arrays:
        if missing := _REQUIRED - arrays.keys():
            raise ValueError(f"it lacks the arrays {', '.join(sorted(missing))}")
        check_width(arrays["features"].shape[1])
        yield from _read_batches(path.name, arrays)


def _read_batches(source: str, arrays: dict[str, ArrayStream]) -> Iterator[Batch]:
    lengths = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its arrays have different lengths: {lengths}")
    records = lengths["ids"]
    step = batch_length(max(array.row_bytes for array in arrays.values()))
    for start in range(0, records, step):
        count = min(step, records - start)
        taken = {name: array.take(count) for name, array in arrays.items()}
        yield Batch(
            source=source,
            ids=_convert(taken["ids"], start, lambda value: to_name(value, "id")),
            labels=_convert(taken["labels"], start, lambda value: to_name(value, "label")),
            subjects=_convert(taken["subjects"], start, to_subject)
            if "subjects" in taken
            else [None] * count,
            splits=_convert(taken["split"], start, to_split)
            if "split" in taken
            else [to_split(None)] * count,
            features=to_features(taken["features"]),
        )
    for array in arrays.values():
        array.finish()


def _convert(values: npt.NDArray[Any], start: int, convert: Callable[[object], _T]) -> list[_T]:
    result = []
    for number, value in enumerate(values.tolist(), start):
        try:
            result.append(convert(value.decode() if isinstance(value, bytes) else value))
        except ValueError as error:
            raise ValueError(f"record number {number} (counting from 0): {error}") from error
    return result
