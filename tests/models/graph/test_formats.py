import json

import numpy as np
import pytest
import safetensors.numpy

from models.checkpoint import verify_directory
from models.errors import DatasetError
from models.graph.arrays import open_arrays
from models.graph.data import load_data
from models.graph.snapshots import append, ingest
from tests.reference.graph_files import PlainGraph, small_graph, write_csv, write_jsonl


def digest(fresh, paths, schema=None):
    out = fresh()
    ingest(paths, out, data_schema=schema)
    return verify_directory(out).digest


def as_parquet(directory, columns, rows):
    import pyarrow as pa
    from pyarrow import parquet

    path = directory.with_suffix(".parquet")
    table = {name: [row[place] or None for row in rows] for place, name in enumerate(columns)}
    parquet.write_table(pa.table(table), path)
    return path


def tables(graph: PlainGraph):
    """Return columns and rows of nodes and of edges."""
    nodes = (
        ["id", "label", "subject", "split"],
        [[name, *about.values()] for name, about in graph.nodes.items()],
    )
    edges = (
        ["source", "target", "relation", "split"],
        [[*ends, about["relation"], about["split"]] for ends, about in graph.edges.items()],
    )
    return nodes, edges


def as_npz(path, graph: PlainGraph, **changes):
    (_, nodes), (_, edges) = tables(graph)
    arrays = {
        "ids": [row[0] for row in nodes],
        "labels": [row[1] for row in nodes],
        "subjects": [row[2] for row in nodes],
        "split": [row[3] for row in nodes],
        "edges": np.array([row[:2] for row in edges]).T,
        "relations": [row[2] for row in edges],
        "edge_split": [row[3] for row in edges],
        "features": np.array(list(graph.features.values()), np.float32),
    }
    arrays |= changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def variants(tmp_path, graph: PlainGraph):
    """The small graph in every form."""
    plain = graph.write(tmp_path / "plain")
    (node_columns, nodes), (edge_columns, edges) = tables(graph)
    full = np.array(list(graph.features.values()), np.float32)
    order = np.random.default_rng(0).permutation(len(nodes))
    shuffled = tmp_path / "shuffled.npz"
    np.savez(shuffled, ids=[nodes[row][0] for row in order], features=full[order])
    tensors = tmp_path / "features.safetensors"
    safetensors.numpy.save_file({"features": full.astype(np.float64)}, tensors)
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    np.savez(first, ids=[row[0] for row in nodes[:2]], features=full[:2])
    np.savez(second, ids=[row[0] for row in nodes[2:]], features=full[2:])
    reversed_edges = [[row[1], row[0], *row[2:]] for row in edges]
    positions = {row[0]: place for place, row in enumerate(nodes)}
    lines = [
        write_jsonl(tmp_path / "nodes.jsonl", [dict(zip(node_columns, row, strict=True)) for row in nodes]),
        write_jsonl(tmp_path / "edges.jsonl", [dict(zip(edge_columns, row, strict=True)) for row in edges]),
    ]
    return {
        "files in another order": plain[::-1],
        "json lines": [*lines, plain[2]],
        "parquet": [
            as_parquet(tmp_path / "nodes", node_columns, nodes),
            as_parquet(tmp_path / "edges", edge_columns, edges),
            plain[2],
        ],
        "features named by ids": [*plain[:2], shuffled],
        "features in parts": [*plain[:2], second, first],
        "features as tensors": [*plain[:2], tensors],
        "one npz": [as_npz(tmp_path / "one.npz", graph)],
        "one npz with positions": [
            as_npz(
                tmp_path / "positions.npz",
                graph,
                edges=None,
                edge_index=np.array([[positions[row[0]], positions[row[1]]] for row in edges]).T,
            )
        ],
        "every edge turned round": [
            plain[0],
            write_csv(tmp_path / "turned.csv", edge_columns, reversed_edges),
            plain[2],
        ],
        "every edge in both directions": [
            plain[0],
            write_csv(tmp_path / "both.csv", edge_columns, [*edges, *reversed_edges]),
            plain[2],
        ],
        "edges in two files": [
            plain[0],
            write_csv(tmp_path / "one.csv", edge_columns, edges[:3]),
            write_csv(tmp_path / "two.csv", edge_columns, edges[3:]),
            plain[2],
        ],
    }


def test_the_same_graph_in_any_form_makes_the_same_bytes(tmp_path, fresh):
    graph = small_graph()
    expected = digest(fresh, graph.write(tmp_path / "expected"))
    got = {name: digest(fresh, paths) for name, paths in variants(tmp_path, graph).items()}
    assert got == dict.fromkeys(got, expected)


def sparse_arrays(full, prefix="x_"):
    rows, columns = np.nonzero(full)
    return {
        f"{prefix}data": full[rows, columns],
        f"{prefix}indices": np.ascontiguousarray(columns),
        f"{prefix}indptr": np.cumsum([0, *np.bincount(rows, minlength=len(full))]),
        f"{prefix}shape": np.array(full.shape),
    }


def test_sparse_features_in_any_form_make_the_same_bytes(tmp_path, fresh):
    import scipy.sparse

    graph = small_graph()
    plain = graph.write(tmp_path / "plain")[:2]
    full = np.array(list(graph.features.values()), np.float32)
    order = np.array([3, 0, 5, 1, 2, 4])
    paths = {name: tmp_path / f"{name}.npz" for name in ("arrays", "scipy", "shuffled", "messy")}
    np.savez(paths["arrays"], **sparse_arrays(full))
    scipy.sparse.save_npz(paths["scipy"], scipy.sparse.csr_matrix(full))
    np.savez(paths["shuffled"], ids=[list(graph.nodes)[row] for row in order], **sparse_arrays(full[order]))
    # Columns out of order, and a zero that is written down.
    np.savez(
        paths["messy"],
        x_data=np.array([2.0, 1.0, 3.0, 4.0, 0.0, 5.0, 7.0, 6.0, 8.0]),
        x_indices=[2, 0, 1, 2, 0, 0, 2, 1, 0],
        x_indptr=[0, 2, 3, 5, 6, 8, 9],
        x_shape=full.shape,
    )
    tensors = tmp_path / "features.safetensors"
    safetensors.numpy.save_file(
        {name: np.asarray(value) for name, value in sparse_arrays(full).items()}, tensors
    )
    digests = {str(path): digest(fresh, [*plain, path]) for path in (*paths.values(), tensors)}
    assert len(set(digests.values())) == 1, digests
    out = fresh()
    ingest([*plain, tensors], out, data_schema=None)
    assert load_data(out).features.tolist() == full.tolist()


def test_sparse_nodes_join_sparse_ones(tmp_path, fresh):
    base, out = fresh(), fresh()
    full = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    np.savez(tmp_path / "a.npz", ids=["a", "b"], **sparse_arrays(full))
    ingest([tmp_path / "a.npz"], base, data_schema=None)
    np.savez(tmp_path / "b.npz", ids=["c"], **sparse_arrays(np.array([[3.0, 4.0]], np.float32)))
    append(base, [tmp_path / "b.npz"], out)
    assert load_data(out).features.tolist() == [[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]]


def test_integers_become_their_decimal_digits_and_strings_stay(tmp_path, fresh):
    nodes = write_jsonl(tmp_path / "n.jsonl", [{"id": 7}, {"id": "07"}, {"id": "7.0"}])
    edges = write_jsonl(
        tmp_path / "e.jsonl", [{"source": 7, "target": "07"}, {"source": "7.0", "target": "7"}]
    )
    np.savez(tmp_path / "f.npz", features=np.ones((3, 1)))
    out = fresh()
    ingest([nodes, edges, tmp_path / "f.npz"], out, data_schema=None)
    data = load_data(out)
    assert data.node_ids == ("7", "07", "7.0")
    assert data.edges.tolist() == [[0, 0], [1, 2]]


def test_doubles_are_rounded_to_single_precision(tmp_path, fresh):
    np.savez(tmp_path / "a.npz", ids=["a"], features=[[0.1, 1e-50]])
    out = fresh()
    ingest([tmp_path / "a.npz"], out, data_schema=None)
    assert load_data(out).features.tolist() == [[float(np.float32(0.1)), 0.0]]


def test_features_without_a_name_are_numbered(tmp_path, fresh):
    np.savez(tmp_path / "a.npz", ids=["a"], features=np.ones((1, 3)))
    out = fresh()
    ingest([tmp_path / "a.npz"], out, data_schema=None)
    assert load_data(out).feature_names == ("f0", "f1", "f2")


BAD_ARRAYS = {
    "labels without ids": ({"labels": ["a"]}, "describes nodes, but has no ids"),
    "two kinds of edges": (
        {"ids": ["a", "b"], "edges": [["a"], ["b"]], "edge_index": [[0], [1]], "features": np.ones((2, 1))},
        "both edges and edge_index",
    ),
    "positions outside": (
        {"ids": ["a", "b"], "edge_index": [[0], [2]], "features": np.ones((2, 1))},
        "points outside of its 2 ids",
    ),
    "negative positions": (
        {"ids": ["a", "b"], "edge_index": [[0], [-1]], "features": np.ones((2, 1))},
        "points outside of its 2 ids",
    ),
    "three ends": (
        {"ids": ["a", "b"], "edge_index": [[0], [1], [1]], "features": np.ones((2, 1))},
        "instead of \\(2, edges\\)",
    ),
    "lengths that differ": (
        {"ids": ["a", "b"], "labels": ["x"], "features": np.ones((2, 1))},
        "different lengths",
    ),
    "relations of other edges": (
        {"ids": ["a", "b"], "edge_index": [[0], [1]], "relations": ["x", "y"], "features": np.ones((2, 1))},
        "1 edges, but relations has 2",
    ),
    "an array that nobody knows": ({"ids": ["a"], "weights": [1.0]}, "unexpected array 'weights'"),
    "a name too few": (
        {"ids": ["a"], "features": np.ones((1, 2)), "feature_names": ["x"]},
        "names 1 features",
    ),
    "a name twice": (
        {"ids": ["a"], "features": np.ones((1, 2)), "feature_names": ["x", "x"]},
        "the same name",
    ),
    "too large a number": ({"ids": ["a"], "features": [[1e39]]}, "too large for single precision"),
    "one value twice": (
        {"ids": ["a"], "x_data": [1.0, 2.0], "x_indices": [0, 0], "x_indptr": [0, 2], "x_shape": [1, 2]},
        "two values for one feature",
    ),
    "rows that do not end": (
        {"ids": ["a"], "x_data": [1.0], "x_indices": [0], "x_indptr": [0, 2], "x_shape": [1, 2]},
        "do not end where",
    ),
    "half a matrix": ({"ids": ["a"], "x_data": [1.0]}, "lacks the array 'x_indices'"),
    "an empty id": ({"ids": [""], "features": [[1.0]]}, "the id is empty"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_arrays_that_make_no_graph_are_refused(tmp_path, fresh, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        ingest([tmp_path / "a.npz"], fresh(), data_schema=None)


def test_two_tables_of_nodes_in_two_formats_are_one_too_many(tmp_path, fresh):
    paths = small_graph().write(tmp_path / "files")
    with pytest.raises(DatasetError, match="describes nodes, which another file does too"):
        ingest([*paths[:2], as_npz(tmp_path / "a.npz", small_graph())], fresh(), data_schema=None)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weights": np.ones((1, 1), np.float32)}, "holds no features"),
        ({"features": np.ones(3, np.float32)}, "no matrix"),
        ({"features": np.ones((6, 1), np.float16)}, "F16 are not accepted"),
        ({"features": np.full((6, 1), np.inf, np.float32)}, "NaN or infinity"),
        (
            {"features": np.ones((6, 1), np.float32), "more": np.ones(1, np.float32)},
            "unexpected tensor 'more'",
        ),
    ],
)
def test_tensors_that_are_no_features_are_refused(tmp_path, fresh, tensors, message):
    paths = small_graph().write(tmp_path / "files")[:2]
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(DatasetError, match=message):
        ingest([*paths, tmp_path / "a.safetensors"], fresh(), data_schema=None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "a"}, {"id": "b", "colour": "red"}], "line 2: unexpected field 'colour'"),
        ([{"id": "a"}, {"label": "x"}], "row number 1 .* the id is neither"),
        ([{"id": "a", "label": ["x"]}], "line 1"),
        ([{"id": 1.5}], "the id is neither a string nor an integer"),
        ([{"id": "a\n"}], "unprintable"),
        ([{"id": "x" * 513}], "longer than 512"),
        ([{"id": True}], "the id is neither"),
    ],
)
def test_lines_that_are_no_nodes_are_refused(tmp_path, fresh, lines, message):
    with pytest.raises(DatasetError, match=message):
        ingest([write_jsonl(tmp_path / "a.jsonl", lines)], fresh(), data_schema=None)


def test_no_edge_is_lost_between_batches(tmp_path, fresh, monkeypatch):
    from models.graph import arrays, formats, snapshots

    for module in (arrays, formats, snapshots):
        monkeypatch.setattr(module, "BATCH_ROWS", 7)
    graph = PlainGraph()
    for number in range(50):
        graph.node(f"n{number}", [float(number)], "ab"[number % 2])
    for number in range(49):
        graph.edge(f"n{number}", f"n{number + 1}")
    small = digest(fresh, graph.write(tmp_path / "files"))
    one = as_npz(tmp_path / "a.npz", graph, relations=None)
    assert digest(fresh, [one]) == small
    monkeypatch.undo()
    assert digest(fresh, graph.write(tmp_path / "files")) == small


def test_arrays_longer_than_one_read_are_read_whole(tmp_path):
    nodes = 300_000
    edges = np.stack([np.zeros(nodes - 1, np.int64), np.arange(1, nodes)])  # 4.8 MB
    np.savez(tmp_path / "a.npz", ids=np.char.mod("n%d", np.arange(nodes)), edge_index=edges)
    batches = list(open_arrays(tmp_path / "a.npz").edges())
    assert sum(map(len, batches)) == nodes - 1
    assert (batches[-1].first[-1], batches[-1].second[-1]) == ("n0", "n299999")


def test_options_are_checked(tmp_path, fresh):
    paths = small_graph().write(tmp_path / "files")
    options = tmp_path / "options.json"
    for value in ({"directed": "maybe"}, {"undirected": True}):
        options.write_text(json.dumps(value))
        with pytest.raises(DatasetError, match=r"options\.json: (directed|undirected)"):
            ingest([*paths, options], fresh(), data_schema=None)
