"""A recommender's snapshot on disk, and numpy's view of it; torch-free.

`interactions.safetensors` holds `users` (n,) and `items` (n,), int64 positions in the tables of `names.json`, which are
sorted as text, `timestamps` (n,) float64 where there are any, and `split` (n,) uint8. `dataset.json` says how the
files were read; `index.sqlite` holds the ids (`models.id_index`): an interaction's subject is its user, its class its
item. Row i of every array is the record at position i of the index.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.checkpoint import check_safetensors, read_json_object
from models.errors import CheckpointError, DatasetError
from models.recommender.options import InteractionSchema
from models.safetensors_file import TensorStream, map_tensor, write_safetensors

RECORDS_NAME: Final = "interactions.safetensors"
NAMES_NAME: Final = "names.json"
SCHEMA_NAME: Final = "dataset.json"
INDEX_NAME: Final = "index.sqlite"

TRAIN: Final = 0
HOLDOUT: Final = 1

_MAX_SCHEMA_BYTES = 1 << 20
_MAX_NAMES_BYTES = 1 << 30


@dataclass(frozen=True)
class Interactions:
    """The arrays of a snapshot, all equally long, and the tables that they point into."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    user_index: npt.NDArray[np.int64]
    item_index: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.float64] | None
    split: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.split)

    def kept(self, keep: npt.NDArray[np.bool_]) -> "Interactions":
        """Return the interactions where `keep` is True, and the tables of those that they name."""
        user_index, item_index = self.user_index[keep], self.item_index[keep]
        users, user_index = _narrowed(self.users, user_index)
        items, item_index = _narrowed(self.items, item_index)
        return Interactions(
            users,
            items,
            user_index,
            item_index,
            None if self.timestamps is None else self.timestamps[keep],
            self.split[keep],
        )


def read_interactions(directory: Path) -> Interactions:
    """Read a snapshot's arrays and tables.

    Raises:
        DatasetError: A file is missing or damaged, or the files contradict each other.
    """
    schema = read_schema(directory)
    users, items = _read_names(directory)
    path = directory / RECORDS_NAME
    try:
        tensors = check_safetensors(path)
    except FileNotFoundError:
        raise DatasetError(f"The snapshot has no {RECORDS_NAME}.") from None
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    records = tensors["split"].shape if "split" in tensors else (-1,)
    expected = {"users": ("I64", records), "items": ("I64", records), "split": ("U8", records)}
    if schema.timestamps:
        expected["timestamps"] = ("F64", records)
    if {name: (info.dtype, info.shape) for name, info in tensors.items()} != expected or len(records) != 1:
        raise DatasetError(f"{RECORDS_NAME} does not agree with {SCHEMA_NAME}.")
    arrays = {name: np.array(map_tensor(path, info)) for name, info in tensors.items()}
    for column, names in (("users", users), ("items", items)):
        if not np.array_equal(np.unique(arrays[column]), np.arange(len(names))):
            raise DatasetError(f"{RECORDS_NAME} does not agree with {NAMES_NAME}.")
    if (arrays["split"] > HOLDOUT).any():
        raise DatasetError(f"{RECORDS_NAME} has splits that are neither training nor holdout.")
    return Interactions(
        users, items, arrays["users"], arrays["items"], arrays.get("timestamps"), arrays["split"]
    )


def write_interactions(directory: Path, interactions: Interactions, schema: InteractionSchema) -> None:
    """Write the arrays, the tables and the schema; equal content makes equal bytes."""
    columns: dict[str, npt.NDArray[Any]] = {
        "users": interactions.user_index,
        "items": interactions.item_index,
    }
    if interactions.timestamps is not None:
        columns["timestamps"] = interactions.timestamps
    columns["split"] = interactions.split
    write_safetensors(
        directory / RECORDS_NAME,
        {name: TensorStream(values.dtype, values.shape, [values]) for name, values in columns.items()},
    )
    _write_json(directory / NAMES_NAME, {"items": interactions.items, "users": interactions.users})
    _write_json(directory / SCHEMA_NAME, schema.to_json())


def read_schema(directory: Path) -> InteractionSchema:
    """Read how a data set's files were read.

    Raises:
        DatasetError: The file is missing or malformed.
    """
    try:
        value = read_json_object(directory / SCHEMA_NAME, _MAX_SCHEMA_BYTES)
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    return InteractionSchema.read(value, f"A recommender's {SCHEMA_NAME}")


def _read_names(directory: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        value = read_json_object(directory / NAMES_NAME, _MAX_NAMES_BYTES)
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    if value.keys() != {"users", "items"}:
        raise DatasetError(f"{NAMES_NAME} must hold users and items.")
    return _read_table(value["users"]), _read_table(value["items"])


def _read_table(names: object) -> tuple[str, ...]:
    if (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and all(before < after for before, after in pairwise(names))
    ):
        return tuple(names)
    raise DatasetError(f"{NAMES_NAME} must hold ids as text, sorted and none twice.")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")), encoding="ascii")


def _narrowed(
    names: tuple[str, ...], index: npt.NDArray[np.int64]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the names that `index` still points at, and the index into them."""
    left, narrowed = np.unique(index, return_inverse=True)
    return tuple(names[position] for position in left.tolist()), narrowed.astype(np.int64)
