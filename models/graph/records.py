"""A graph's snapshot on disk, and numpy's view of it; torch-free.

`graph.safetensors` holds, of n nodes and e edges: `node_names`, the UTF-8 bytes of all node ids, and `node_ends` (n,), where
each ends; `node_labels` (n,) and `node_split` (n,); `edges` (2, e), `edge_relations` (e,) and `edge_split` (e,); and the
features, either `features` (n, width), or where most are zero `feature_ends` (n,), `feature_columns` and
`feature_values`, the rows one after the other, each ending where `feature_ends` says. `dataset.json` holds the schema,
`index.sqlite` (`models.id_index`) the record ids in the order in which they came, nodes before edges each time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.checkpoint import check_safetensors, read_json_object
from models.errors import CheckpointError, DatasetError
from models.graph.feature_names import FeatureNames
from models.safetensors_file import TensorInfo, TensorStream, map_tensor, write_safetensors

GRAPH_NAME: Final = "graph.safetensors"
SCHEMA_NAME: Final = "dataset.json"

TRAIN: Final = 0
HOLDOUT: Final = 1
UNLABELLED: Final = -1

MAX_CLASSES: Final = 100_000
"""More classes than that are ids in the wrong column."""
MAX_NODES: Final = 2**31 - 1
"""Positions of nodes are stored in 32 bits."""
_MAX_SCHEMA_BYTES = 64 << 20
_CHUNK = 1 << 20

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class GraphSchema(BaseModel):
    """What all snapshots of one data set share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directed: bool = Field(description="Whether an edge has a direction.")
    edge_classes: tuple[str, ...] = Field(description="Classes of edges; none where edges have no class.")
    feature_names: tuple[str, ...] | None = Field(
        description="Names of the features by column; null: f0, f1, and so on."
    )
    node_classes: tuple[str, ...] = Field(
        description="Classes of nodes. Fixed at registration, so that a label means the same in every version."
    )
    sparse: bool = Field(description="Whether only the features that are not zero are stored.")
    width: int = Field(ge=1, description="Features per node.")

    @property
    def names(self) -> FeatureNames:
        """What the features are called."""
        return FeatureNames(self.width, self.feature_names)

    @classmethod
    def read(cls, value: Mapping[str, Any], what: str) -> Self:
        """Read a schema from JSON values.

        Raises:
            DatasetError: It is malformed.
        """
        try:
            return cls.model_validate(dict(value))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise DatasetError(f"{what} is malformed at {place!r}: {fault['msg']}.") from None


@dataclass(frozen=True)
class SparseRows:
    """Features of which most are zero: the others alone, row by row."""

    ends: Integers
    """(rows,), where each row ends."""
    columns: npt.NDArray[np.int32]
    """(values,), ascending in each row."""
    values: Floats
    """(values,), none of them zero."""
    width: int

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def rows(self) -> Integers:
        """The row of each value, (values,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0))

    def dense(self) -> Floats:
        """Return all features, (rows, width)."""
        full = np.zeros((len(self), self.width), np.float32)
        full[self.rows, self.columns] = self.values
        return full

    def kept(self, rows: npt.NDArray[np.bool_], values: npt.NDArray[np.bool_]) -> "SparseRows":
        """Return these rows and, in them, these values; both masks."""
        of_row = self.rows
        values = values & rows[of_row]
        lengths = np.bincount(of_row[values], minlength=len(self))[rows]
        return SparseRows(np.cumsum(lengths), self.columns[values], self.values[values], self.width)

    def followed_by(self, other: "SparseRows") -> "SparseRows":
        """Return these rows and then those of `other`."""
        return SparseRows(
            np.concatenate([self.ends, other.ends + len(self.columns)]),
            np.concatenate([self.columns, other.columns]),
            np.concatenate([self.values, other.values]),
            self.width,
        )

    def taken(self, order: Integers) -> "SparseRows":
        """Return the rows in this order, each once."""
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        of_row = rank[self.rows]
        values = np.argsort(of_row, kind="stable")
        lengths = np.bincount(of_row, minlength=len(self))
        return SparseRows(np.cumsum(lengths), self.columns[values], self.values[values], self.width)


@dataclass(frozen=True)
class Graph:
    """One snapshot's arrays, without the names of its records in the index."""

    node_ids: list[str]
    labels: Integers
    """(n,), positions among the schema's node classes, or -1."""
    node_split: Bytes
    """(n,), `TRAIN` or `HOLDOUT`."""
    edges: Integers
    """(2, e), positions of nodes; of an undirected edge the smaller one first."""
    relations: Integers
    """(e,), positions among the schema's edge classes; 0 where there are none."""
    edge_split: Bytes
    """(e,)."""
    features: Floats | SparseRows
    """(n, width): if dense, mapped read-only from disk."""


def read_schema(directory: Path) -> GraphSchema:
    """Read what a snapshot shares with others of its data set.

    Raises:
        DatasetError: The file is missing or malformed.
    """
    try:
        return GraphSchema.read(read_json_object(directory / SCHEMA_NAME, _MAX_SCHEMA_BYTES), SCHEMA_NAME)
    except CheckpointError as error:
        raise DatasetError(str(error)) from error


def read_graph(directory: Path) -> tuple[Graph, GraphSchema]:
    """Read a snapshot.

    Raises:
        DatasetError: A file is missing or damaged, or the files contradict each other.
    """
    schema, path = read_schema(directory), directory / GRAPH_NAME
    tensors = _tensors(path)
    arrays = {name: map_tensor(path, info) for name, info in tensors.items()}
    nodes = len(arrays.get("node_ends", ()))
    edges = arrays["edges"].shape[-1] if "edges" in arrays else 0
    values = len(arrays.get("feature_columns", ()))
    expected = _expected(schema, nodes, edges, len(arrays.get("node_names", ())), values)
    if {name: (info.dtype, info.shape) for name, info in tensors.items()} != expected:
        raise DatasetError(f"{GRAPH_NAME} does not agree with {SCHEMA_NAME}.")
    graph = Graph(
        node_ids=_split_names(arrays["node_names"], arrays["node_ends"]),
        labels=arrays["node_labels"].astype(np.int64),
        node_split=np.array(arrays["node_split"]),
        edges=arrays["edges"].astype(np.int64),
        relations=arrays["edge_relations"].astype(np.int64),
        edge_split=np.array(arrays["edge_split"]),
        features=_features(arrays, schema),
    )
    _check(graph, schema)
    return graph, schema


def write_graph(directory: Path, graph: Graph, schema: GraphSchema) -> None:
    """Write a snapshot's data file and schema; equal content makes equal bytes."""
    names = [name.encode() for name in graph.node_ids]
    ends = np.cumsum(np.fromiter(map(len, names), np.int64, len(names)))
    blob = np.frombuffer(b"".join(names), np.uint8)
    tensors = {"node_ends": _whole(ends, np.int64)}
    features = graph.features
    if isinstance(features, SparseRows):
        tensors |= {
            "feature_ends": _whole(features.ends, np.int64),
            "feature_columns": _whole(features.columns, np.int32),
            "feature_values": _whole(features.values, np.float32),
        }
    else:
        tensors["features"] = TensorStream(np.float32, features.shape, _row_chunks(features))
    tensors |= {
        "node_labels": _whole(graph.labels, np.int32),
        "edges": _whole(graph.edges, np.int32),
        "edge_relations": _whole(graph.relations, np.int32),
        "node_names": _whole(blob, np.uint8),
        "node_split": _whole(graph.node_split, np.uint8),
        "edge_split": _whole(graph.edge_split, np.uint8),
    }
    write_safetensors(directory / GRAPH_NAME, tensors)
    text = json.dumps(schema.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    (directory / SCHEMA_NAME).write_text(text, encoding="ascii")


def feature_values(path: Path, nodes: Iterable[str], names: FeatureNames) -> Iterator[tuple[str, str]]:
    """Yield of some nodes each feature that is not zero, as the node's id and the feature's name.

    Args:
        path: A snapshot's `graph.safetensors`.
        nodes: Ids of nodes; those that are not there have no features.
        names: What the features are called.

    Raises:
        DatasetError: The file is damaged.
    """
    arrays = {name: map_tensor(path, info) for name, info in _tensors(path).items()}
    if not {"node_names", "node_ends"} <= arrays.keys():
        raise DatasetError(f"{GRAPH_NAME} lacks the names of its nodes.")
    place = {name: row for row, name in enumerate(_split_names(arrays["node_names"], arrays["node_ends"]))}
    for node in nodes:
        row = place.get(node)
        if row is None:
            continue
        if "features" in arrays:
            columns = np.flatnonzero(arrays["features"][row])
        else:
            begin = int(arrays["feature_ends"][row - 1]) if row else 0
            columns = arrays["feature_columns"][begin : int(arrays["feature_ends"][row])]
        for column in columns.tolist():
            yield node, names[column]


def _tensors(path: Path) -> dict[str, TensorInfo]:
    try:
        return check_safetensors(path, finite=False)  # finiteness was checked when the data came in
    except FileNotFoundError:
        raise DatasetError(f"The snapshot has no {GRAPH_NAME}.") from None
    except CheckpointError as error:
        raise DatasetError(str(error)) from error


def _expected(
    schema: GraphSchema, nodes: int, edges: int, name_bytes: int, values: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "node_ends": ("I64", (nodes,)),
        "node_labels": ("I32", (nodes,)),
        "edges": ("I32", (2, edges)),
        "edge_relations": ("I32", (edges,)),
        "node_names": ("U8", (name_bytes,)),
        "node_split": ("U8", (nodes,)),
        "edge_split": ("U8", (edges,)),
    }
    if schema.sparse:
        return expected | {
            "feature_ends": ("I64", (nodes,)),
            "feature_columns": ("I32", (values,)),
            "feature_values": ("F32", (values,)),
        }
    return expected | {"features": ("F32", (nodes, schema.width))}


def _features(arrays: Mapping[str, npt.NDArray[Any]], schema: GraphSchema) -> Floats | SparseRows:
    if not schema.sparse:
        return arrays["features"]
    ends, columns = np.array(arrays["feature_ends"]), np.array(arrays["feature_columns"])
    if not _are_ends(ends, len(columns)) or not _within(columns, 0, schema.width):
        raise DatasetError(f"The features in {GRAPH_NAME} are damaged.")
    return SparseRows(ends, columns, np.array(arrays["feature_values"]), schema.width)


def _split_names(blob: npt.NDArray[Any], ends: npt.NDArray[Any]) -> list[str]:
    if not _are_ends(ends, len(blob)):
        raise DatasetError(f"The node ids in {GRAPH_NAME} are damaged.")
    data, begin = blob.tobytes(), 0
    names = []
    try:
        for end in ends.tolist():
            names.append(data[begin:end].decode())
            begin = end
    except UnicodeDecodeError:
        raise DatasetError(f"The node ids in {GRAPH_NAME} are damaged.") from None
    return names


def _check(graph: Graph, schema: GraphSchema) -> None:
    """Refuse positions that point outside: the arrays index each other without further looks."""
    nodes = len(graph.node_ids)
    relations = max(1, len(schema.edge_classes))
    if (
        not _within(graph.edges, 0, nodes)
        or not _within(graph.labels, UNLABELLED, len(schema.node_classes))
        or not _within(graph.relations, 0, relations)
        or not _within(graph.node_split, TRAIN, HOLDOUT + 1)
        or not _within(graph.edge_split, TRAIN, HOLDOUT + 1)
    ):
        raise DatasetError(f"{GRAPH_NAME} holds numbers that cannot be.")


def _are_ends(ends: npt.NDArray[Any], total: int) -> bool:
    if not len(ends):
        return total == 0
    return bool(ends[0] >= 0 and ends[-1] == total and (np.diff(ends) >= 0).all())


def _within(values: npt.NDArray[Any], low: int, high: int) -> bool:
    return not values.size or bool(values.min() >= low and values.max() < high)


def _whole(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> TensorStream:
    return TensorStream(dtype, values.shape, [values])


def _row_chunks(features: Floats) -> Iterator[Floats]:
    step = max(1, _CHUNK // max(1, features.shape[1] * features.itemsize))
    for start in range(0, len(features), step):
        yield features[start : start + step]
