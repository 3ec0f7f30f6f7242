"""A classifier's snapshot on disk, and numpy's view of it; torch-free.

`records.safetensors` holds `labels` (n,) int64, `features` (n, p) and `split` (n,) uint8; `dataset.json` the width,
the features' dtype and the classes; `index.sqlite` the ids (`models.id_index`). Row i of every array is the record at
position i of the index.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from models.checkpoint import check_safetensors, read_json_object
from models.errors import CheckpointError, DatasetError
from models.id_index import IdIndex
from models.safetensors_file import map_tensor

RECORDS_NAME: Final = "records.safetensors"
SCHEMA_NAME: Final = "dataset.json"
INDEX_NAME: Final = "index.sqlite"

TRAIN: Final = 0
HOLDOUT: Final = 1

MAX_CLASSES: Final = 100_000
"""More classes than that are record ids in the wrong column."""
_MAX_SCHEMA_BYTES = 64 << 20
_FORMAT_OF_DTYPE: Mapping[str, str] = MappingProxyType({"uint8": "U8", "float32": "F32", "float64": "F64"})


@dataclass(frozen=True)
class DataSchema:
    """What all snapshots of one data set share."""

    width: int
    """Features per record."""
    dtype: str
    """`uint8`, `float32` or `float64`."""
    classes: tuple[str, ...]
    """A label is a position in here. Fixed at registration, so that it means the same in every version."""

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON values."""
        return {"classes": list(self.classes), "dtype": self.dtype, "width": self.width}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a schema back.

        Raises:
            DatasetError: It is malformed.
        """
        classes, dtype, width = value.get("classes"), value.get("dtype"), value.get("width")
        if (
            value.keys() != {"classes", "dtype", "width"}
            or not isinstance(classes, list)
            or not all(isinstance(name, str) for name in classes)
            or not isinstance(dtype, str)
            or dtype not in _FORMAT_OF_DTYPE
            or type(width) is not int
            or width < 1
        ):
            raise DatasetError(f"A classifier's {SCHEMA_NAME} must have classes, dtype and width.")
        return cls(width, dtype, tuple(classes))


@dataclass(frozen=True)
class Records:
    """An open snapshot. Close it when done; the mapped features live as long as somebody refers to them."""

    features: npt.NDArray[Any]
    """(n, p), of the schema's dtype: mapped read-only from disk, so take the rows that you need."""
    labels: npt.NDArray[np.int64]
    """(n,), positions in `classes`."""
    split: npt.NDArray[np.uint8]
    """(n,), `TRAIN` or `HOLDOUT`."""
    classes: tuple[str, ...]
    index: IdIndex

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def schema(self) -> DataSchema:
        """What the records have in common."""
        return DataSchema(self.features.shape[1], self.features.dtype.name, self.classes)

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_records(directory: Path) -> Records:
    """Open a snapshot; labels and split are read, features are not.

    Raises:
        DatasetError: A file is missing or damaged, or the files contradict each other.
    """
    schema = read_schema(directory)
    path = directory / RECORDS_NAME
    try:
        tensors = check_safetensors(path, finite=False)  # finiteness was checked when the records came in
    except FileNotFoundError:
        raise DatasetError(f"The snapshot has no {RECORDS_NAME}.") from None
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    index = IdIndex.open(directory / INDEX_NAME)
    expected = {
        "labels": ("I64", (index.records,)),
        "features": (_FORMAT_OF_DTYPE[schema.dtype], (index.records, schema.width)),
        "split": ("U8", (index.records,)),
    }
    if {name: (info.dtype, info.shape) for name, info in tensors.items()} != expected:
        index.close()
        raise DatasetError(f"{RECORDS_NAME} does not agree with {SCHEMA_NAME} and {INDEX_NAME}.")
    return Records(
        features=map_tensor(path, tensors["features"]),
        labels=np.array(map_tensor(path, tensors["labels"])),
        split=np.array(map_tensor(path, tensors["split"])),
        classes=schema.classes,
        index=index,
    )


def read_schema(directory: Path) -> DataSchema:
    """Read what a snapshot's records have in common.

    Raises:
        DatasetError: The file is missing or malformed.
    """
    try:
        return DataSchema.from_json(read_json_object(directory / SCHEMA_NAME, _MAX_SCHEMA_BYTES))
    except CheckpointError as error:
        raise DatasetError(str(error)) from error


def write_schema(directory: Path, schema: DataSchema) -> None:
    """Write what a snapshot's records have in common."""
    text = json.dumps(schema.to_json(), sort_keys=True, separators=(",", ":"))
    (directory / SCHEMA_NAME).write_text(text, encoding="ascii")
