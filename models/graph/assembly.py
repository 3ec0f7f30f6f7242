"""Putting a graph together from data files, after those nodes and edges that a snapshot has already; torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.checkpoint import read_json_object
from models.class_names import sort_classes
from models.errors import CheckpointError, DatasetError
from models.graph.arrays import ArrayFile, Features, open_arrays, scratch
from models.graph.formats import TABLES, Edges, Nodes, Table, open_table
from models.graph.records import (
    MAX_CLASSES,
    MAX_NODES,
    UNLABELLED,
    Bytes,
    Floats,
    Graph,
    GraphSchema,
    Integers,
    SparseRows,
)
from models.id_index import NAMED_AT_MOST

OPTIONS_NAME: Final = "options.json"
_MAX_OPTIONS_BYTES = 1 << 16


class GraphOptions(BaseModel):
    """What the data files do not say: `options.json` beside them, at a data set's registration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directed: bool = Field(False, description="Whether an edge has a direction.")


@dataclass
class Files:
    """The data files of one graph, by what they hold."""

    nodes: list[Table | ArrayFile] = field(default_factory=list)
    edges: list[Table | ArrayFile] = field(default_factory=list)
    features: list[ArrayFile] = field(default_factory=list)
    options: GraphOptions | None = None

    @classmethod
    def open(cls, sources: Sequence[Path]) -> "Files":
        """Look at what files hold; what stands in them is read later.

        Raises:
            DatasetError: One is no file of a graph.
        """
        files, arrays = cls(), []
        for path in sources:
            if path.name == OPTIONS_NAME:
                files.options = _read_options(path)
            elif path.suffix in TABLES:
                table = open_table(path)
                (files.edges if table.holds_edges else files.nodes).append(table)
            elif path.suffix in {".npz", ".safetensors"}:
                arrays.append(open_arrays(path))
            else:
                raise DatasetError(f"{path.name} has an unknown format, or is not called {OPTIONS_NAME}.")
        files._sort_arrays(arrays)
        return files

    def _sort_arrays(self, arrays: Sequence[ArrayFile]) -> None:
        """Take the ids of an npz file for its nodes' unless a table says which nodes there are."""
        has_table = bool(self.nodes)
        for file in arrays:
            if file.describes_nodes and (has_table or not file.has_ids):
                raise DatasetError(
                    f"{file.path.name} describes nodes, "
                    + ("which another file does too." if has_table else "but has no ids.")
                )
            if file.has_ids and not has_table:
                self.nodes.append(file)
            if file.has_edges:
                self.edges.append(file)
            if file.has_features:
                self.features.append(file)


@dataclass(frozen=True)
class Assembled:
    """A graph that was put together."""

    graph: Graph
    schema: GraphSchema
    known_nodes: int
    """So many of its nodes, the first ones, are a base snapshot's."""
    known_edges: int
    subjects: Sequence[str | None]
    """Whom the other nodes are about."""


def assemble(files: Files, schema: GraphSchema | None, base: Graph | None, workspace: Path) -> Assembled:
    """Put a graph together.

    Args:
        files: The data files.
        schema: What the graph must agree with; without it, the files decide.
        base: A snapshot of that schema, whose nodes and edges come first.
        workspace: A directory for unnamed files.

    Raises:
        DatasetError: The files are malformed, contradict the schema or each other, or name something twice.
    """
    return _Assembly(files, schema, base, workspace).assemble()


class _Assembly:
    """A graph as it is put together: nodes first, then what refers to them."""

    def __init__(self, files: Files, schema: GraphSchema | None, base: Graph | None, workspace: Path) -> None:
        self._files, self._given, self._base, self._workspace = files, schema, base, workspace
        self._directed = self._is_directed()
        self._ids: list[str] = list(base.node_ids) if base else []
        self._known = len(self._ids)
        self._place: dict[str, int] = {}
        self._subjects: list[str | None] = []
        self._labels = _Codes(schema.node_classes if schema else None, "node")
        self._relations = _Codes(schema.edge_classes if schema else None, "edge")

    def assemble(self) -> Assembled:
        node_split = self._read_nodes()
        features, names = self._read_features()
        edges, relations, edge_split = self._read_edges()
        labels, base = self._labels.codes(), self._base
        if base is not None:
            labels = np.concatenate([base.labels, labels])
        schema = self._given
        if schema is None:
            schema = self._found_schema(features, names)
            labels, relations = self._labels.renumbered(labels), self._relations.renumbered(relations)
        return Assembled(
            graph=Graph(self._ids, labels, node_split, edges, relations, edge_split, features),
            schema=schema,
            known_nodes=self._known,
            known_edges=base.edges.shape[1] if base else 0,
            subjects=self._subjects,
        )

    def _is_directed(self) -> bool:
        asked = self._files.options
        if self._given is None:
            return (asked or GraphOptions()).directed
        if asked is not None and asked.directed != self._given.directed:
            raise DatasetError(
                f"{OPTIONS_NAME} contradicts the data set: whether its edges have a direction is fixed."
            )
        return self._given.directed

    def _read_nodes(self) -> Bytes:
        """Read which nodes there are and all that is said of them but their features; return their splits."""
        splits = [self._base.node_split] if self._base else []
        for file in self._files.nodes:
            for batch in file.nodes():
                self._ids += batch.ids
                self._subjects += batch.subjects
                self._labels.add(batch.labels, batch)
                splits.append(np.array(batch.splits, np.uint8))
        if not splits or (self._base is None and not self._ids):
            raise DatasetError(
                "There are no nodes: one of the files must be a table of them, with a column 'id'."
            )
        if len(self._ids) > MAX_NODES:
            raise DatasetError(f"There are more than {MAX_NODES} nodes.")
        self._place = {name: row for row, name in enumerate(self._ids)}
        if len(self._place) < len(self._ids):
            seen: set[str] = set()
            twice = [name for name in self._ids if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
            raise DatasetError(f"Node ids occur more than once: {_some(twice)}.")
        return np.concatenate(splits)

    def _read_features(self) -> tuple[Floats | SparseRows, tuple[str, ...] | None]:
        """Return every node's features, and what the files call them."""
        parts = [file.features(self._workspace) for file in self._files.features]
        new = len(self._ids) - self._known
        if not parts:
            if new or self._base is None:
                raise DatasetError("There are no features: every node needs them.")
            return self._base.features, None
        _refuse_unlike(parts, self._given)
        rows = self._ordered(parts, new)
        if self._base is not None:
            rows = _joined(self._base.features, rows, self._workspace)
        return rows, parts[0].names

    def _ordered(self, parts: Sequence[Features], new: int) -> Floats | SparseRows:
        """Return the features of the new nodes in their order."""
        if len(parts) == 1 and (parts[0].ids is None or parts[0].ids == self._ids[self._known :]):
            if len(parts[0].rows) != new:
                raise DatasetError(
                    f"{parts[0].source} has features of {len(parts[0].rows)} nodes, but there are {new} new ones."
                )
            return parts[0].rows
        places = [self._places_of(part) for part in parts]
        given = np.bincount(np.concatenate(places), minlength=new)
        if (given == 0).any():
            raise DatasetError(f"Nodes have no features: {self._new_nodes(given == 0)}.")
        if (given > 1).any():
            raise DatasetError(f"Nodes have features more than once: {self._new_nodes(given > 1)}.")
        return _placed([part.rows for part in parts], places, new, self._workspace)

    def _new_nodes(self, mask: npt.NDArray[np.bool_]) -> str:
        rows = np.flatnonzero(mask)[: NAMED_AT_MOST + 1].tolist()
        return _some([self._ids[self._known + row] for row in rows])

    def _places_of(self, part: Features) -> Integers:
        """Return which of the new nodes the rows of a file are about."""
        if part.ids is None:
            raise DatasetError(
                f"{part.source} does not say whose its features are, and is not the only such file."
            )
        places = (
            np.fromiter((self._place.get(name, -1) for name in part.ids), np.int64, len(part.ids))
            - self._known
        )
        if (places < 0).any():
            strange = [part.ids[row] for row in np.flatnonzero(places < 0)[: NAMED_AT_MOST + 1].tolist()]
            raise DatasetError(
                f"{part.source} has features of nodes that are not new here: {_some(strange)}."
            )
        return places

    def _read_edges(self) -> tuple[Integers, Integers, Bytes]:
        base = self._base
        ends = [base.edges.astype(np.int32) if base else np.empty((2, 0), np.int32)]
        splits = [base.edge_split] if base else [np.empty(0, np.uint8)]
        for file in self._files.edges:
            for batch in file.edges():
                ends.append(self._positions(batch))
                self._relations.add(batch.relations or [None] * len(batch), batch)
                splits.append(np.array(batch.splits, np.uint8))
        known, relations = ends[0].shape[1], self._relations.codes()
        if base:
            relations = np.concatenate([base.relations, relations])
        joined, split = np.concatenate(ends, axis=1).astype(np.int64), np.concatenate(splits)
        _refuse_self_loops(joined, self._ids)
        kept = _once(joined, relations, split, self._ids, known, directed=self._directed)
        if not self._directed:
            joined.sort(axis=0)
        return joined[:, kept], relations[kept], split[kept]

    def _positions(self, batch: Edges) -> npt.NDArray[np.int32]:
        count, place = len(batch), self._place
        try:
            return np.stack(
                [
                    np.fromiter(map(place.__getitem__, side), np.int32, count)
                    for side in (batch.first, batch.second)
                ]
            )
        except KeyError:
            strange = dict.fromkeys(name for name in (*batch.first, *batch.second) if name not in place)
            raise DatasetError(
                f"{batch.source} has edges of nodes that are not in the table of nodes: {_some(list(strange))}."
            ) from None

    def _found_schema(self, features: Floats | SparseRows, names: tuple[str, ...] | None) -> GraphSchema:
        return GraphSchema(
            directed=self._directed,
            edge_classes=self._relations.sorted(),
            feature_names=names,
            node_classes=self._labels.sorted(),
            sparse=isinstance(features, SparseRows),
            width=features.width if isinstance(features, SparseRows) else features.shape[1],
        )


class _Codes:
    """Class names as numbers, in the order in which they turn up until all are known."""

    def __init__(self, given: tuple[str, ...] | None, what: str) -> None:
        self._what, self._is_fixed = what, given is not None
        self._known = {name: code for code, name in enumerate(given or ())}
        self._found: list[Integers] = []

    def add(self, names: Sequence[str | None], batch: Nodes | Edges) -> None:
        for name in dict.fromkeys(names):
            if name is not None and name not in self._known:
                self._enter(name, batch)
        codes = (UNLABELLED if name is None else self._known[name] for name in names)
        self._found.append(np.fromiter(codes, np.int64, len(names)))

    def _enter(self, name: str, batch: Nodes | Edges) -> None:
        if self._is_fixed:
            raise DatasetError(
                f"{batch.source}: the {self._what} class {name!r} is none of the data set's; its classes are fixed "
                "at registration."
            )
        if len(self._known) == MAX_CLASSES:
            raise DatasetError(f"{batch.source}: there are more than {MAX_CLASSES} {self._what} classes.")
        self._known[name] = len(self._known)

    def codes(self) -> Integers:
        """Return what was added.

        Raises:
            DatasetError: Some edges have a class and others none.
        """
        codes = np.concatenate([*self._found, np.empty(0, np.int64)])
        if self._what == "node":
            return codes
        if self._known and (codes == UNLABELLED).any():
            raise DatasetError("Some edges have a relation and others none; give all of them one, or none.")
        return codes.clip(min=0)

    def sorted(self) -> tuple[str, ...]:
        return sort_classes(self._known)

    def renumbered(self, codes: Integers) -> Integers:
        """Return numbers in the order of turning up as those in sorted order; -1 stays -1."""
        if not self._known:
            return codes
        rank = {name: code for code, name in enumerate(self.sorted())}
        return np.array([*(rank[name] for name in self._known), UNLABELLED], np.int64)[codes]


def _read_options(path: Path) -> GraphOptions:
    try:
        return GraphOptions.model_validate(read_json_object(path, _MAX_OPTIONS_BYTES))
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise DatasetError(f"{OPTIONS_NAME}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None


def _refuse_unlike(parts: Sequence[Features], schema: GraphSchema | None) -> None:
    first = parts[0]
    width = schema.width if schema else first.width
    sparse = schema.sparse if schema else isinstance(first.rows, SparseRows)
    for part in parts:
        if part.width != width:
            raise DatasetError(f"{part.source} has {part.width} features per node instead of {width}.")
        if isinstance(part.rows, SparseRows) != sparse:
            raise DatasetError(
                f"{part.source} has {'dense' if sparse else 'sparse'} features; others are not so."
            )
        if part.names != (schema.names.all() if schema else first.names) and not (
            schema and part.names is None
        ):
            raise DatasetError(f"{part.source} calls the features otherwise than the data set does.")


def _joined(base: Floats | SparseRows, rows: Floats | SparseRows, workspace: Path) -> Floats | SparseRows:
    if isinstance(base, SparseRows) and isinstance(rows, SparseRows):
        return base.followed_by(rows)
    if isinstance(base, SparseRows) or isinstance(rows, SparseRows):
        raise TypeError("features of two kinds")
    full = scratch(workspace, (len(base) + len(rows), base.shape[1]))
    full[: len(base)], full[len(base) :] = base, rows
    return full


def _placed(
    rows: Sequence[Floats | SparseRows], places: Sequence[Integers], nodes: int, workspace: Path
) -> Floats | SparseRows:
    """Return rows of several files in the order of the nodes that they are about."""
    sparse = [part for part in rows if isinstance(part, SparseRows)]
    if sparse:
        joined = sparse[0]
        for part in sparse[1:]:
            joined = joined.followed_by(part)
        return joined.taken(np.argsort(np.concatenate(places)))
    dense = [part for part in rows if not isinstance(part, SparseRows)]
    full = scratch(workspace, (nodes, dense[0].shape[1]))
    for floats, place in zip(dense, places, strict=True):
        full[place] = floats
    return full


def _refuse_self_loops(ends: Integers, ids: Sequence[str]) -> None:
    loops = np.flatnonzero(ends[0] == ends[1])
    if len(loops):
        names = [ids[place] for place in ends[0, loops[: NAMED_AT_MOST + 1]].tolist()]
        raise DatasetError(f"Edges lead from a node to itself, which no graph here holds: {_some(names)}.")


def _once(
    ends: Integers,
    relations: Integers,
    split: Bytes,
    ids: Sequence[str],
    known: int,
    *,
    directed: bool,
) -> npt.NDArray[np.bool_]:
    """Return which edges to keep: of both directions of an undirected edge the first, if they agree, of others all.

    Args:
        ends: (2, e), as the files have them.
        relations: (e,).
        split: (e,).
        ids: The nodes' ids.
        known: So many of the edges are a base snapshot's.
        directed: Whether an edge has a direction.

    Raises:
        DatasetError: An edge is there twice.
    """
    kept = np.ones(ends.shape[1], bool)
    first, second = (ends[0], ends[1]) if directed else (ends.min(axis=0), ends.max(axis=0))
    keys = first * len(ids) + second
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    if not len(again):
        return kept
    one, other = order[again - 1], order[again]
    alike = (relations[one] == relations[other]) & (split[one] == split[other])
    opposite = (ends[0, one] == ends[1, other]) & ~np.isin(again - 1, again)  # a third one is one too many
    wrong = ~(alike & opposite & (other >= known) & (one >= known)) | directed
    if wrong.any():
        pairs = [
            [ids[place] for place in pair] for pair in ends[:, other[wrong][: NAMED_AT_MOST + 1]].T.tolist()
        ]
        raise DatasetError(
            f"Edges are there more than once: {_some(pairs)}. Two nodes have one edge; only the other direction of an "
            "undirected one may be listed too, with the same relation and split."
        )
    kept[other] = False
    return kept


def _some(names: Sequence[object]) -> str:
    more = ", …" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(map(repr, names[:NAMED_AT_MOST])) + more
