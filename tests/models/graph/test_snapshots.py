import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.checkpoint import verify_directory
from models.errors import DatasetError
from models.families import get_family
from models.graph.data import load_data
from models.graph.elements import edge_record, feature_record, node_record
from models.graph.snapshots import append, ingest, without
from models.id_index import INDEX_NAME, IdIndex
from tests.reference.graph_files import PlainGraph, small_graph, write_csv


def stored(fresh, graph: PlainGraph, schema=None) -> Path:
    out = fresh()
    ingest(graph.write(fresh()), out, data_schema=schema)
    return out


def same_bytes(one: Path, other: Path) -> bool:
    return verify_directory(one).digest == verify_directory(other).digest


def read_back(directory: Path) -> PlainGraph:
    """Return what a loaded snapshot says, in the words of the plain graph."""
    data = load_data(directory)
    graph = PlainGraph(directed=data.directed)
    with IdIndex.open(directory / INDEX_NAME) as index:
        assert sorted(index.record_ids()) == sorted(data.ids)
        assert index.records == len(data)
        subjects = {
            name: subject
            for subject in ("ann", "bob", "cy", "dan")
            for name in index.records_of_subjects([subject])
        }
    for row, name in enumerate(data.node_ids):
        label = int(data.labels[row])
        graph.nodes[name] = {
            "label": data.classes[label] if label >= 0 else "",
            "subject": subjects.get(node_record(name), ""),
            "split": "holdout" if data.held_out_nodes[row] else "",
        }
        graph.features[name] = data.features[row].tolist()
    for row, (source, target) in enumerate(data.edges.T.tolist()):
        graph.edges[data.node_ids[source], data.node_ids[target]] = {
            "relation": data.edge_classes[int(data.relations[row])] if data.edge_classes else "",
            "split": "holdout" if data.held_out_edges[row] else "",
        }
    return graph


def plain(graph: PlainGraph) -> PlainGraph:
    """Return a graph in which training says nothing of its split, as loaded ones do."""
    for about in (*graph.nodes.values(), *graph.edges.values()):
        about["split"] = about["split"].replace("train", "")
    return graph


@pytest.mark.parametrize("directed", [False, True])
def test_a_graph_comes_back_as_it_was_given(fresh, directed):
    graph = small_graph(directed=directed)
    assert read_back(stored(fresh, graph)) == plain(graph)


def test_the_summary_counts_nodes_and_edges_and_names_what_is_shared(fresh):
    out = fresh()
    summary = ingest(small_graph().write(fresh()), out, data_schema=None)
    assert (summary.records, summary.subjects) == (12, 3)
    assert summary.data_schema == {
        "directed": False,
        "edge_classes": ["cites", "likes"],
        "feature_names": None,
        "node_classes": ["art", "math"],
        "sparse": False,
        "width": 3,
    }
    assert summary.data_schema == json.loads((out / "dataset.json").read_text())


def test_classes_and_subjects_are_in_the_index(fresh):
    with IdIndex.open(stored(fresh, small_graph()) / INDEX_NAME) as index:
        assert index.records_of_classes(["node:math"]) == ["node:1", "node:01"]
        assert index.count_of_classes(["edge:cites"]) == 4
        assert index.records_of_subjects(["ann"]) == ["node:1", "node:node:x"]
        assert index.facts == {"directed": False, "feature_names": None, "width": 3}


DELETIONS = {
    "a node with its edges": [node_record("node:x")],
    "an edge": [edge_record("01", "node:x", directed=False)],
    "a feature": [feature_record("é", "f1")],
    "all at once": [
        node_record("1"),
        node_record("10"),
        edge_record('a "b", c', "é", directed=False),
        feature_record("é", "f1"),
        feature_record("1", "f0"),
    ],
    "a class of nodes": [node_record("1"), node_record("01")],
    "every edge of a held-out node": [
        edge_record('a "b", c', "é", directed=False),
        edge_record("é", "10", directed=False),
    ],
}


def delete(graph: PlainGraph, record_ids) -> PlainGraph:
    """Do the same to the plain graph, by the names of what is deleted."""
    for record_id in record_ids:
        kind, _, name = record_id.partition(":")
        if kind == "feature":
            node, feature = json.loads(name)
            if node in graph.features:
                graph.features[node][int(feature[1:])] = 0.0
        elif kind == "edge":
            ends = set(json.loads(name))
            graph.drop_edges([pair for pair in graph.edges if set(pair) == ends])
        else:
            graph.drop_nodes([name])
    return graph


@pytest.mark.parametrize("record_ids", DELETIONS.values(), ids=DELETIONS.keys())
def test_a_snapshot_without_records_equals_one_that_never_had_them(fresh, record_ids):
    base = stored(fresh, small_graph())
    schema = json.loads((base / "dataset.json").read_text())
    out = fresh()
    summary = without(base, record_ids, out)
    expected = delete(small_graph(), record_ids)
    assert same_bytes(out, stored(fresh, expected, schema))
    assert read_back(out) == plain(expected)
    assert summary.records == len(expected.nodes) + len(expected.edges)


def test_what_the_snapshot_lacks_is_ignored(fresh):
    base, out = stored(fresh, small_graph()), fresh()
    without(
        base, ["r7", node_record("zz"), edge_record("1", "é", directed=False), feature_record("1", "f9")], out
    )
    assert same_bytes(base, out)


def test_a_graph_may_lose_everything(fresh):
    graph, out = small_graph(), fresh()
    without(stored(fresh, graph), map(node_record, graph.nodes), out)
    data = load_data(out)
    assert (len(data), data.width, data.classes) == (0, 3, ("art", "math"))


def test_new_nodes_and_edges_come_after_the_old_ones(fresh, tmp_path):
    base, out = stored(fresh, small_graph()), fresh()
    more = [
        write_csv(tmp_path / "nodes.csv", ["id", "label", "subject"], [["new", "art", "dan"]]),
        write_csv(
            tmp_path / "edges.csv",
            ["source", "target", "relation"],
            [["new", "1", "likes"], ["01", "10", "cites"]],
        ),
        tmp_path / "features.npz",
    ]
    np.savez(more[2], ids=["new"], features=[[9.0, 9.0, 9.0]])
    append(base, more, out)
    expected = small_graph()
    expected.node("new", [9.0, 9.0, 9.0], "art", "dan")
    expected.edge("1", "new", "likes")
    expected.edge("01", "10", "cites")
    assert read_back(out) == plain(expected)
    with IdIndex.open(out / INDEX_NAME) as index:
        assert list(index.record_ids(12)) == ["node:new", 'edge:["1","new"]', 'edge:["01","10"]']
    taken_back = fresh()
    without(out, [node_record("new"), edge_record("01", "10", directed=False)], taken_back)
    assert same_bytes(taken_back, base)


def test_edges_alone_can_be_added(fresh, tmp_path):
    base, out = stored(fresh, small_graph()), fresh()
    append(
        base, [write_csv(tmp_path / "e.csv", ["source", "target", "relation"], [["1", "é", "cites"]])], out
    )
    assert load_data(out).edges[:, -1].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (["source", "target"], [["1", "zz"]], "not in the table of nodes: 'zz'"),
        (["source", "target", "relation"], [["1", "1", "cites"]], "from a node to itself.*'1'"),
        (["source", "target", "relation"], [["01", "1", "cites"]], r"more than once: \['01', '1'\]"),
        (["source", "target", "relation"], [["1", "é", "hates"]], "class 'hates' is none of the data set's"),
        (["source", "target"], [["1", "é"]], "Some edges have a relation and others none"),
        (["id"], [["1"]], "no features|more than once"),
        (["id", "label"], [["new", "sport"]], "class 'sport' is none of the data set's"),
        (["id"], [["new"]], "no features"),
    ],
)
def test_what_does_not_fit_the_snapshot_is_not_added(fresh, tmp_path, columns, rows, message):
    with pytest.raises(DatasetError, match=message):
        append(stored(fresh, small_graph()), [write_csv(tmp_path / "x.csv", columns, rows)], fresh())


def test_a_replacement_must_keep_to_the_schema(fresh):
    schema = json.loads((stored(fresh, small_graph()) / "dataset.json").read_text())
    wide = small_graph()
    wide.features = {name: [*values, 1.0] for name, values in wide.features.items()}
    with pytest.raises(DatasetError, match="4 features per node instead of 3"):
        stored(fresh, wide, schema)
    with pytest.raises(DatasetError, match="contradicts the data set"):
        stored(fresh, small_graph(directed=True), schema)


NAMES = [*small_graph().nodes, "p", "q", "r"]


@st.composite
def histories(draw):
    """Draw a sequence of requests: what each deletes of what is there by then, and what is added between."""
    steps = []
    for _ in range(draw(st.integers(2, 7))):
        kind = draw(st.sampled_from(["nodes", "edges", "features", "add"]))
        steps.append((kind, draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))))
    return steps


def play(graph: PlainGraph, base: Path, history, workplace: Path) -> Path:
    """Do a history to the plain graph and to its snapshot."""
    for number, (kind, picks) in enumerate(history):
        if not graph.nodes:
            return base
        names, pairs = list(graph.nodes), list(graph.edges)
        out = workplace / f"step-{number}"
        out.mkdir()
        if kind == "add":
            new = f"new-{number}"
            partner = names[picks[0] % len(names)]
            graph.node(new, [float(number), 0.0, 1.0], "art", "dan", "holdout" if picks[0] % 2 else "")
            graph.edge(new, partner, "likes")
            files = [
                write_csv(
                    workplace / "n.csv",
                    ["id", "label", "subject", "split"],
                    [[new, "art", "dan", graph.nodes[new]["split"]]],
                ),
                write_csv(workplace / "e.csv", ["source", "target", "relation"], [[new, partner, "likes"]]),
                workplace / "f.npz",
            ]
            np.savez(files[2], features=[graph.features[new]])
            append(base, files, out)
        else:
            if kind == "nodes":
                records = [node_record(names[pick % len(names)]) for pick in picks]
            elif kind == "edges":
                chosen = [pairs[pick % len(pairs)] for pick in picks if pairs]
                records = [edge_record(*pair, directed=graph.directed) for pair in chosen]
            else:
                records = [feature_record(names[pick % len(names)], f"f{pick % 3}") for pick in picks]
            without(base, records, out)
            delete_distinct(graph, records)
        base = out
    return base


def delete_distinct(graph: PlainGraph, records) -> None:
    delete(graph, dict.fromkeys(records))


@given(histories(), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_splits_and_edges_stay_right_over_many_requests_in_a_row(history, directed):
    workplace = Path(tempfile.mkdtemp())
    try:
        graph, first = small_graph(directed=directed), workplace / "first"
        first.mkdir()
        ingest(graph.write(workplace / "files"), first, data_schema=None)
        last = play(graph, first, history, workplace)
        assert read_back(last) == plain(graph)
        if graph.nodes:
            again = workplace / "again"
            again.mkdir()
            schema = json.loads((first / "dataset.json").read_text())
            ingest(graph.write(workplace / "rewritten"), again, data_schema=schema)
            assert (again / "graph.safetensors").read_bytes() == (last / "graph.safetensors").read_bytes()
    finally:
        shutil.rmtree(workplace)


def test_sparse_features_are_the_same_graph(fresh, tmp_path):
    graph = small_graph()
    paths = graph.write(fresh())
    full = np.array(list(graph.features.values()), np.float32)
    rows, columns = np.nonzero(full)
    np.savez(
        paths[2],
        x_data=full[rows, columns],
        x_indices=columns,
        x_indptr=np.cumsum([0, *np.bincount(rows, minlength=6)]),
        x_shape=full.shape,
    )
    out = fresh()
    assert ingest(paths, out, data_schema=None).data_schema["sparse"]
    assert read_back(out) == plain(small_graph())
    schema = json.loads((out / "dataset.json").read_text())
    left, records = fresh(), [node_record("1"), feature_record("é", "f1")]
    without(out, records, left)
    assert read_back(left) == plain(delete(small_graph(), records))
    full[0], full[4, 1] = 0, 0
    again = fresh()
    never = delete(small_graph(), records)
    files = never.write(fresh())
    full = np.array(list(never.features.values()), np.float32)
    rows, columns = np.nonzero(full)
    np.savez(
        files[2],
        data=full[rows, columns],
        indices=columns,
        indptr=np.cumsum([0, *np.bincount(rows, minlength=5)]),
        shape=full.shape,
        format=b"csr",
    )
    ingest(files, again, data_schema=schema)
    assert same_bytes(left, again)


def test_family_finds_these_functions():
    assert get_family("graph").snapshots().ingest is ingest


def test_no_torch_and_no_pyarrow_are_imported():
    code = (
        "import models.graph.snapshots, models.graph.targets, sys;"
        "print(sorted({'torch', 'pyarrow', 'torch_geometric'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_damage_is_found(fresh):
    base = stored(fresh, small_graph())
    path = base / "graph.safetensors"
    data = bytearray(path.read_bytes())
    place = data.rindex(b"node:x")
    data[place] = 0xFF
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"node ids in graph\.safetensors are damaged"):
        load_data(base)
