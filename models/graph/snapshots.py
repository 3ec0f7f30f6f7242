"""A graph's data files in, snapshot directories out; torch-free (`models.contracts.FamilySnapshots`).

All files together make one graph (`models.graph.formats` says what each may hold). Beside the nodes' ids, some 40 bytes per
edge and 16 per feature that is not zero are held; dense features wait in a file. Equal content makes equal bytes, so a
snapshot without some nodes, edges or features has the digest of one that never had them.

What is refused, rather than guessed at: an edge to a node that is not in the table of nodes; an edge from a node to itself,
which every layer here adds by itself or does without; an edge that is there twice. Both directions of an undirected edge
are one edge, as other tools write it, if both say the same of it.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.checkpoint import write_manifest
from models.contracts import SnapshotSummary
from models.graph.arrays import scratch
from models.graph.assembly import Assembled, Files, assemble
from models.graph.elements import EDGE, NODE, edge_records, node_record, parse_records
from models.graph.formats import BATCH_ROWS
from models.graph.records import Floats, Graph, GraphSchema, Integers, SparseRows, read_graph, write_graph
from models.graph.targets import DIRECTED
from models.id_index import INDEX_NAME, IdIndex, IndexBuilder


def ingest(sources: Sequence[Path], out: Path, *, data_schema: Mapping[str, Any] | None) -> SnapshotSummary:
    """Write the graph of some data files as a snapshot; see `models.contracts.FamilySnapshots.ingest`."""
    schema = None if data_schema is None else GraphSchema.read(data_schema, "The data set's schema")
    return _write(assemble(Files.open(sources), schema, None, out), out, None)


def append(base: Path, sources: Sequence[Path], out: Path) -> SnapshotSummary:
    """Write a snapshot plus new nodes and edges after its own; see `models.contracts.FamilySnapshots.append`."""
    graph, schema = read_graph(base)
    return _write(assemble(Files.open(sources), schema, graph, out), out, base)


def without(base: Path, record_ids: Collection[str], out: Path) -> SnapshotSummary:
    """Write a snapshot less some nodes with their edges, some edges, and some features, which become 0.

    See `models.contracts.FamilySnapshots.without`.
    """
    graph, schema = read_graph(base)
    named = parse_records(record_ids, directed=schema.directed)
    place = {name: row for row, name in enumerate(graph.node_ids)}
    nodes = np.ones(len(place), bool)
    nodes[[place[name] for name in named.nodes if name in place]] = False
    edges = nodes[graph.edges].all(axis=0) & ~_edge_mask(graph, place, named.edges, directed=schema.directed)
    cleared = [
        (place[node], schema.names.column(feature))
        for node, feature in named.features
        if node in place and feature in schema.names
    ]
    write_graph(out, _kept(graph, nodes, edges, cleared, out), schema)
    gone = [node_record(graph.node_ids[row]) for row in np.flatnonzero(~nodes).tolist()]
    gone += _edge_records(graph, ~edges, schema)
    with IdIndex.open(base / INDEX_NAME) as known:
        positions = known.positions(gone)
    with IndexBuilder(out / INDEX_NAME) as index:
        index.note(_facts(schema))
        index.copy(base / INDEX_NAME, without=positions)
    return _finish(out, schema)


def _write(assembled: Assembled, out: Path, base: Path | None) -> SnapshotSummary:
    graph, schema = assembled.graph, assembled.schema
    write_graph(out, graph, schema)
    with IndexBuilder(out / INDEX_NAME) as index:
        index.note(_facts(schema))
        if base is not None:
            index.copy(base / INDEX_NAME)
        _index_nodes(index, assembled)
        _index_edges(index, graph, schema, start=assembled.known_edges)
    return _finish(out, schema)


def _index_nodes(index: IndexBuilder, assembled: Assembled) -> None:
    graph, start = assembled.graph, assembled.known_nodes
    classes = [*(NODE + name for name in assembled.schema.node_classes), None]  # -1 points to the last
    index.add(
        map(node_record, islice(graph.node_ids, start, None)),
        assembled.subjects,
        graph.node_split[start:].tolist(),
        (classes[label] for label in graph.labels[start:].tolist()),
    )


def _index_edges(index: IndexBuilder, graph: Graph, schema: GraphSchema, *, start: int) -> None:
    classes: list[str | None] = [EDGE + name for name in schema.edge_classes] or [None]
    for begin in range(start, graph.edges.shape[1], BATCH_ROWS):
        part = slice(begin, begin + BATCH_ROWS)
        index.add(
            _edge_records(graph, part, schema),
            None,
            graph.edge_split[part].tolist(),
            (classes[relation] for relation in graph.relations[part].tolist()),
        )


def _facts(schema: GraphSchema) -> dict[str, Any]:
    return {DIRECTED: schema.directed, **schema.names.to_facts()}


def _finish(out: Path, schema: GraphSchema) -> SnapshotSummary:
    write_manifest(out)
    with IdIndex.open(out / INDEX_NAME) as index:
        return SnapshotSummary(index.records, index.subject_count, schema.model_dump(mode="json"))


def _edge_mask(
    graph: Graph, place: Mapping[str, int], pairs: Sequence[tuple[str, str]], *, directed: bool
) -> npt.NDArray[np.bool_]:
    """Tell which edges are among these pairs of ids, (e,)."""
    known = [(place[one], place[other]) for one, other in pairs if one in place and other in place]
    ends = np.array(known, np.int64).reshape(-1, 2)
    if not directed:
        ends.sort(axis=1)
    nodes = len(graph.node_ids)
    return np.isin(graph.edges[0] * nodes + graph.edges[1], ends[:, 0] * nodes + ends[:, 1])


def _kept(
    graph: Graph,
    nodes: npt.NDArray[np.bool_],
    edges: npt.NDArray[np.bool_],
    cleared: Sequence[tuple[int, int]],
    workspace: Path,
) -> Graph:
    """Return these nodes and edges, without some features; an edge among them has both its ends."""
    place = np.cumsum(nodes) - 1
    return Graph(
        node_ids=[name for name, keep in zip(graph.node_ids, nodes.tolist(), strict=True) if keep],
        labels=graph.labels[nodes],
        node_split=graph.node_split[nodes],
        edges=place[graph.edges[:, edges]],
        relations=graph.relations[edges],
        edge_split=graph.edge_split[edges],
        features=_kept_features(graph.features, nodes, np.array(cleared, np.int64).reshape(-1, 2), workspace),
    )


def _kept_features(
    features: Floats | SparseRows, nodes: npt.NDArray[np.bool_], cleared: Integers, workspace: Path
) -> Floats | SparseRows:
    """Return the features of some nodes, with those at `cleared`, (k, 2) rows and columns, as if never given."""
    if isinstance(features, SparseRows):
        gone = np.isin(features.rows * features.width + features.columns, cleared @ [features.width, 1])
        return features.kept(nodes, ~gone)
    if nodes.all() and not len(cleared):
        return features
    kept = scratch(workspace, (int(nodes.sum()), features.shape[1]))
    begin = 0
    for start in range(0, len(features), BATCH_ROWS):
        part = features[start : start + BATCH_ROWS][nodes[start : start + BATCH_ROWS]]
        kept[begin : begin + len(part)] = part
        begin += len(part)
    cleared = cleared[nodes[cleared[:, 0]]]
    kept[(np.cumsum(nodes) - 1)[cleared[:, 0]], cleared[:, 1]] = 0.0
    return kept


def _edge_records(graph: Graph, edges: slice | npt.NDArray[np.bool_], schema: GraphSchema) -> list[str]:
    sources, targets = graph.edges[:, edges].tolist()
    return edge_records(graph.node_ids, sources, targets, directed=schema.directed)
