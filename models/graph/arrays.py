"""Reading graphs as arrays from `.npz`, and features from `.npz` and `.safetensors`; torch-free.

| array | shape | what it holds |
| --- | --- | --- |
| `ids` | (n,) | ids of nodes; where another file is the table of nodes, whose the rows of features are |
| `labels`, `subjects`, `split` | (n,) | as in a table of nodes; an empty string means none |
| `edge_index` | (2, e) | integers: positions of nodes in `ids` |
| `edges` | (2, e) | ids of nodes; either this or `edge_index` |
| `relations`, `edge_split` | (e,) | as in a list of edges |
| `features` | (n, width) | numbers |
| `x_data`, `x_indices`, `x_indptr`, `x_shape` | | instead of `features`: a compressed sparse matrix, by rows |
| `data`, `indices`, `indptr`, `shape`, `format` | | the same as `scipy.sparse.save_npz` writes it |
| `feature_names` | (width,) | names of the features; without it f0, f1, and so on |

A file of the format safetensors holds `features`, or the matrix by either set of names; it has no strings, so its rows are
in the order of the table of nodes. Features are kept in single precision.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.checkpoint import check_safetensors
from models.classifier.rows import MAX_WIDTH, batch_length, to_name, to_split, to_subject
from models.errors import CheckpointError, DatasetError
from models.graph.formats import BATCH_ROWS, Edges, Nodes
from models.graph.records import Floats, SparseRows
from models.npz import NAMES, NUMBERS, ArrayStream, Layout, array_names, open_npz
from models.safetensors_file import NUMPY_DTYPES, map_tensor

_SPARSE: Final = ("data", "indices", "indptr", "shape")
_LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        **dict.fromkeys(
            ("ids", "labels", "subjects", "split", "relations", "edge_split", "feature_names"), Layout(NAMES)
        ),
        "edge_index": Layout("iu", dimensions=2, either_order=True),
        "edges": Layout(NAMES, dimensions=2, either_order=True),
        "features": Layout(NUMBERS, dimensions=2),
        **{prefix + "data": Layout(NUMBERS) for prefix in ("", "x_")},
        **{prefix + name: Layout("iu") for prefix in ("", "x_") for name in _SPARSE[1:]},
        "format": Layout("SU", dimensions=0),
    }
)
_OF_NODES: Final = frozenset({"ids", "labels", "subjects", "split"})
_OF_EDGES: Final = frozenset({"edge_index", "edges"})
_OF_FEATURES: Final = frozenset({"features", "data", "x_data"})
_MATRIX: Final = 2


@dataclass(frozen=True)
class Features:
    """The features of some nodes."""

    source: str
    ids: list[str] | None
    """Whose they are; None: those of the table of nodes, in its order."""
    names: tuple[str, ...] | None
    rows: Floats | SparseRows

    @property
    def width(self) -> int:
        """Features per node."""
        return self.rows.width if isinstance(self.rows, SparseRows) else self.rows.shape[1]


@dataclass(frozen=True)
class ArrayFile:
    """An `.npz` or `.safetensors` file, of which only the names of its arrays were read."""

    path: Path
    names: frozenset[str]

    @property
    def has_ids(self) -> bool:
        """Whether it can be the table of nodes."""
        return "ids" in self.names

    @property
    def has_features(self) -> bool:
        """Whether it holds features."""
        return bool(self.names & _OF_FEATURES)

    @property
    def has_edges(self) -> bool:
        """Whether it holds edges."""
        return bool(self.names & _OF_EDGES)

    @property
    def describes_nodes(self) -> bool:
        """Whether it says more of nodes than their ids and features."""
        return bool(self.names & (_OF_NODES - {"ids"}))

    def nodes(self) -> Iterator[Nodes]:
        """Yield the nodes.

        Raises:
            DatasetError: The file is damaged or malformed.
        """
        with open_npz(self.path, _LAYOUTS) as arrays:
            streams = {name: arrays[name] for name in _OF_NODES & arrays.keys()}
            _check_lengths(streams)
            total = streams["ids"].shape[0]
            for start in range(0, total, BATCH_ROWS):
                count = min(BATCH_ROWS, total - start)
                taken = {name: _strings(stream.take(count)) for name, stream in streams.items()}
                nothing: list[Any] = [None] * count
                yield Nodes(
                    self.path.name,
                    [to_name(value, "id") for value in taken["ids"]],
                    [_to_label(value) for value in taken.get("labels", nothing)],
                    [to_subject(value) for value in taken.get("subjects", nothing)],
                    [to_split(value) for value in taken.get("split", nothing)],
                )
            for stream in streams.values():
                stream.finish()

    def edges(self) -> Iterator[Edges]:
        """Yield the edges.

        Raises:
            DatasetError: The file is damaged or malformed.
        """
        with open_npz(self.path, _LAYOUTS) as arrays:
            if arrays.keys() >= _OF_EDGES:
                raise ValueError("it has both edges and edge_index")
            ends = (arrays["edges"] if "edges" in arrays else arrays["edge_index"]).all()
            if len(ends) != _MATRIX:
                raise ValueError(f"its edges have the shape {ends.shape} instead of (2, edges)")
            ids = None
            if "edge_index" in arrays:
                if "ids" not in arrays:
                    raise ValueError("an edge_index needs the ids that it counts")
                ids = [to_name(value, "id") for value in _strings(arrays["ids"].all())]
                _check_positions(ends, len(ids))
            relations = _column(arrays, "relations", ends.shape[1])
            splits = _column(arrays, "edge_split", ends.shape[1])
            for start in range(0, ends.shape[1], BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                first, second = (_to_ids(side[part], ids) for side in ends)
                yield Edges(
                    self.path.name,
                    first,
                    second,
                    None if relations is None else [to_name(value, "relation") for value in relations[part]],
                    [0] * len(first) if splits is None else [to_split(value) for value in splits[part]],
                )

    def features(self, workspace: Path) -> Features:
        """Return the features; dense ones are mapped from an unnamed file in `workspace`.

        Raises:
            DatasetError: The file is damaged or malformed.
        """
        if self.path.suffix == ".safetensors":
            return self._from_safetensors(workspace)
        with open_npz(self.path, _LAYOUTS) as arrays:
            ids = _strings(arrays["ids"].all()) if "ids" in arrays else None
            names = _strings(arrays["feature_names"].all()) if "feature_names" in arrays else None
            if "features" in arrays:
                rows: Floats | SparseRows = _copy_dense(arrays["features"], workspace)
            else:
                rows = _read_sparse({name: arrays[name].all() for name in arrays.keys() & _sparse_names()})
            return self._checked(
                rows,
                None if ids is None else [to_name(value, "id") for value in ids],
                None if names is None else tuple(to_name(value, "feature's name") for value in names),
            )

    def _from_safetensors(self, workspace: Path) -> Features:
        try:
            tensors = check_safetensors(self.path)
            if strange := {info.dtype for info in tensors.values()} - NUMPY_DTYPES.keys():
                raise ValueError(f"numbers of the type {', '.join(sorted(strange))} are not accepted")  # noqa: TRY301 - located below
            arrays = {name: map_tensor(self.path, info) for name, info in tensors.items()}
            if unexpected := sorted(arrays.keys() - _sparse_names() - {"features"}):
                raise ValueError(f"it has an unexpected tensor {unexpected[0][:100]!r}")  # noqa: TRY301 - located below
            if "features" not in arrays:
                return self._checked(_read_sparse(arrays), None, None)
            if arrays["features"].ndim != _MATRIX:
                raise ValueError("its features are no matrix")  # noqa: TRY301 - located below
            return self._checked(
                _copy(_chunks(arrays["features"]), arrays["features"].shape, workspace), None, None
            )
        except CheckpointError as error:
            raise DatasetError(str(error)) from error
        except ValueError as error:
            raise DatasetError(f"{self.path.name} holds no usable features: {error}.") from error

    def _checked(
        self, rows: Floats | SparseRows, ids: list[str] | None, names: tuple[str, ...] | None
    ) -> Features:
        features = Features(self.path.name, ids, names, rows)
        if not 1 <= features.width <= MAX_WIDTH:
            raise ValueError(f"a node has {features.width} features; there must be 1 to {MAX_WIDTH}")
        if ids is not None and len(ids) != len(rows):
            raise ValueError(f"it names {len(ids)} nodes, but has features of {len(rows)}")
        if names is not None and len(names) != features.width:
            raise ValueError(f"it names {len(names)} features, but has {features.width}")
        if names is not None and len(set(names)) < len(names):
            raise ValueError("two features have the same name")
        return features


def open_arrays(path: Path) -> ArrayFile:
    """Look at what a file's arrays are called; nothing else is read.

    Raises:
        DatasetError: The file is damaged, or has arrays that no graph has.
    """
    if path.suffix == ".safetensors":
        return ArrayFile(path, _tensor_names(path))
    found = ArrayFile(path, array_names(path))
    if unexpected := sorted(found.names - _LAYOUTS.keys()):
        raise DatasetError(f"{path.name} has an unexpected array {unexpected[0][:100]!r}.")
    return found


def _tensor_names(path: Path) -> frozenset[str]:
    try:
        names = frozenset(check_safetensors(path, finite=False))
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    if not names & _OF_FEATURES:
        raise DatasetError(f"{path.name} holds no features.")
    return names


def _sparse_names() -> frozenset[str]:
    return frozenset({"format", *(prefix + name for prefix in ("", "x_") for name in _SPARSE)})


def _copy_dense(stream: ArrayStream, workspace: Path) -> Floats:
    def chunks() -> Iterator[npt.NDArray[Any]]:
        rows, step = stream.shape[0], batch_length(stream.row_bytes)
        for start in range(0, rows, step):
            yield stream.take(min(step, rows - start))
        stream.finish()

    if not 1 <= stream.shape[1] <= MAX_WIDTH:
        raise ValueError(f"a node has {stream.shape[1]} features; there must be 1 to {MAX_WIDTH}")
    return _copy(chunks(), stream.shape, workspace)


def _chunks(rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    step = batch_length(rows.shape[1] * rows.itemsize)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _copy(chunks: Iterator[npt.NDArray[Any]], shape: tuple[int, ...], workspace: Path) -> Floats:
    copy = scratch(workspace, (shape[0], shape[1]))
    start = 0
    for chunk in chunks:
        copy[start : start + len(chunk)] = _single(chunk)
        start += len(chunk)
    return copy


def scratch(workspace: Path, shape: tuple[int, int]) -> Floats:
    """Return room for features that is not memory: an array in an unnamed file, which lives as long as the array."""
    if 0 in shape:
        return np.zeros(shape, np.float32)  # an empty range cannot be mapped
    with tempfile.TemporaryFile(dir=workspace) as file:
        return np.memmap(file, np.float32, mode="w+", shape=shape)


def _single(values: npt.NDArray[Any]) -> Floats:
    """Return numbers in single precision.

    Raises:
        ValueError: One is not finite, or too large.
    """
    with np.errstate(over="ignore"):  # what does not fit is found in the next line
        rounded = values.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError("its features hold NaN, infinity, or numbers too large for single precision")
    return rounded


def _read_sparse(arrays: Mapping[str, npt.NDArray[Any]]) -> SparseRows:
    """Return a compressed sparse matrix without its zeros, each row's columns ascending.

    Raises:
        ValueError: Its arrays do not make such a matrix.
    """
    prefix = "x_" if "x_data" in arrays else ""
    if absent := [prefix + name for name in _SPARSE if prefix + name not in arrays]:
        raise ValueError(f"it lacks the array {absent[0]!r}")
    if "format" in arrays and np.asarray(arrays["format"]).astype(str).item() != "csr":
        raise ValueError("its sparse matrix is not compressed by rows (`csr`)")
    data, columns, ends, shape = (arrays[prefix + name] for name in _SPARSE)
    if shape.shape != (_MATRIX,) or len(data) != len(columns) or len(ends) != int(shape[0]) + 1:
        raise ValueError("the arrays of its sparse matrix have lengths that do not fit each other")
    ends = ends.astype(np.int64)
    width = int(shape[1])
    if ends[0] != 0 or ends[-1] != len(data) or (np.diff(ends) < 0).any():
        raise ValueError("the rows of its sparse matrix do not end where its values do")
    if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < width:
        raise ValueError("its sparse matrix has values outside of its columns")
    return _canonical(_single(data), columns.astype(np.int64), ends, width)


def _canonical(
    values: Floats, columns: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], width: int
) -> SparseRows:
    rows = len(ends) - 1
    keys = np.repeat(np.arange(rows), np.diff(ends)) * width + columns
    if len(keys) > 1 and not (np.diff(keys) > 0).all():
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        if (np.diff(keys) == 0).any():
            raise ValueError("its sparse matrix holds two values for one feature of one node")
    held = values != 0
    keys, values = keys[held], values[held]
    lengths = np.bincount(keys // width, minlength=rows)
    return SparseRows(np.cumsum(lengths), (keys % width).astype(np.int32), values, width)


def _check_lengths(arrays: Mapping[str, ArrayStream]) -> None:
    lengths = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its arrays have different lengths: {lengths}")


def _check_positions(ends: npt.NDArray[Any], nodes: int) -> None:
    if ends.size and (int(ends.min()) < 0 or int(ends.max()) >= nodes):
        raise ValueError(f"its edge_index points outside of its {nodes} ids")


def _column(arrays: Mapping[str, ArrayStream], name: str, length: int) -> list[Any] | None:
    if name not in arrays:
        return None
    values = arrays[name].all()
    if len(values) != length:
        raise ValueError(f"it has {length} edges, but {name} has {len(values)}")
    return _strings(values)


def _to_ids(values: npt.NDArray[Any], ids: list[str] | None) -> list[str]:
    if ids is None:
        return [to_name(value, "id") for value in _strings(values)]
    return [ids[place] for place in values.tolist()]


def _strings(values: npt.NDArray[Any]) -> list[Any]:
    return [value.decode() for value in values.tolist()] if values.dtype.kind == "S" else values.tolist()


def _to_label(value: object) -> str | None:
    return None if value is None or value == "" else to_name(value, "label")
