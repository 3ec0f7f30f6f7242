"""Graphs over HTTP: several files make a dataset, and what cannot be is refused. SQLite alone: nothing here is SQL's."""

import io
import json
import shutil

import numpy as np
import pytest

from app.tables import Dataset
from tests.reference.graph_files import small_graph
from tests.reference.small_graph_service import files_of, two_communities


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


NODES = b"id,label,subject,split\n1,a,ann,train\n01,b,bob,train\n2,a,,holdout\n"
EDGES = b"source,target\n1,01\n01,2\n"


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


FEATURES = npz(features=np.eye(3))
SOUND = {"nodes.csv": NODES, "edges.csv": EDGES, "features.npz": FEATURES}


@pytest.fixture
def register(registry):
    """Register a dataset of the family graph."""

    def register(files, name="papers"):
        return registry.post("/v1/datasets", {"name": name, "family": "graph"}, files)

    return register


def test_three_files_make_a_dataset(register):
    answer = register(SOUND)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["head"]["records"], answer.json()["head"]["subjects"]) == (5, 2)


def test_one_file_can_hold_everything(register):
    whole = npz(
        ids=["1", "01", "2"],
        labels=["a", "b", ""],
        subjects=["ann", "", "bob"],
        split=["train", "train", "holdout"],
        edge_index=np.array([[0, 1, 1], [1, 0, 2]]),
        relations=["x", "x", "y"],
        features=np.eye(3, dtype=np.float32),
        feature_names=["age", "height", "weight"],
    )
    answer = register({"graph.npz": whole})
    assert answer.status_code == 201, answer.text
    assert answer.json()["head"]["records"] == 5


BAD = {
    "an edge of an unknown node": (
        {"edges.csv": b"source,target\n1,zz\n"},
        "not in the table of nodes: 'zz'",
    ),
    "ids that look like numbers are not numbers": (
        {"edges.csv": b"source,target\n1,001\n"},
        "not in the table of nodes: '001'",
    ),
    "a self-loop": ({"edges.csv": EDGES + b"2,2\n"}, "from a node to itself"),
    "an edge twice": ({"edges.csv": EDGES + b"1,01\n"}, "more than once: ['1', '01']"),
    "an edge three times, in both directions": (
        {"edges.csv": EDGES + b"01,1\n1,01\n"},
        "more than once: ['1', '01']",
    ),
    "two directions that disagree": (
        {"edges.csv": b"source,target,split\n1,01,train\n01,1,holdout\n"},
        "more than once",
    ),
    "a node twice": (
        {"nodes.csv": NODES + b"1,a,,\n", "features.npz": npz(features=np.eye(4))},
        "more than once: '1'",
    ),
    "features of too few nodes": ({"features.npz": npz(features=np.ones((2, 3)))}, "features of 2 nodes"),
    "features without nodes": ({"nodes.csv": b"id\n"}, "There are no nodes"),
    "features of a strange node": (
        {"features.npz": npz(ids=["1", "01", "zz"], features=np.eye(3))},
        "not new here: 'zz'",
    ),
    "a node without features": (
        {"features.npz": npz(ids=["1", "2", "2"], features=np.eye(3))},
        "Nodes have no features: '01'",
    ),
    "no width at all": ({"features.npz": npz(features=np.ones((3, 0)))}, "0 features"),
    "two widths": (
        {
            "features.npz": npz(ids=["1", "01"], features=np.eye(2)),
            "more.npz": npz(ids=["2"], features=np.ones((1, 3))),
        },
        "features per node instead of",
    ),
    "features that are no numbers": ({"features.npz": npz(features=np.full((3, 2), np.nan))}, "NaN"),
    "a sparse matrix whose columns are outside": (
        {"features.npz": npz(x_data=np.ones(1), x_indices=[7], x_indptr=[0, 1, 1, 1], x_shape=[3, 2])},
        "outside of its columns",
    ),
    "a sparse matrix by columns": (
        {"features.npz": npz(data=np.ones(1), indices=[1], indptr=[0, 1, 1, 1], shape=[3, 2], format=b"csc")},
        "not compressed by rows",
    ),
    "objects": ({"features.npz": npz(features=np.array([[{}]]))}, "not accepted there"),
    "neither nodes nor edges": ({"edges.csv": b"from,to\n1,01\n"}, "neither nodes nor edges"),
    "a column that nobody knows": (
        {"edges.csv": b"source,target,weight\n1,01,2\n"},
        "unexpected column 'weight'",
    ),
    "a line that is too short": ({"edges.csv": EDGES + b"1\n"}, "line 4: it has 1 fields"),
    "a quotation mark that stays open": ({"edges.csv": EDGES + b'"1,01\n'}, "line 4"),
    "an empty id": ({"nodes.csv": NODES + b",a,,\n"}, "row number 3 (counting from 0): the id is empty"),
    "a third split": ({"nodes.csv": NODES.replace(b"holdout", b"test")}, "'test' is neither"),
    "some relations": (
        {"more.csv": b"source,target,relation\n1,2,x\n"},
        "Some edges have a relation and others none",
    ),
    "an option that nobody knows": ({"options.json": b'{"direction": 1}'}, "options.json: direction"),
    "no features": ({"features.npz": None}, "There are no features"),
    "a pickled file": ({"graph.pkl": b"cposix\nsystem\n"}, "is not data of the family 'graph'"),
    "no Parquet": ({"edges.parquet": b"PAR1 nothing PAR1"}, "edges.parquet"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD.keys())
def test_a_graph_that_cannot_be_is_refused_and_changes_nothing(register, unchanged, changes, reason):
    files = {name: content for name, content in (SOUND | changes).items() if content is not None}
    with unchanged():
        answer = register(files)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:invalid-data")
    assert reason in answer.json()["detail"]


def test_both_directions_of_an_undirected_edge_are_one(register):
    answer = register(SOUND | {"edges.csv": EDGES + b"01,1\n2,01\n"})
    assert answer.json()["head"]["records"] == 5


def test_both_directions_are_two_edges_of_a_directed_graph(register):
    files = SOUND | {"edges.csv": EDGES + b"01,1\n", "options.json": b'{"directed": true}'}
    assert register(files).json()["head"]["records"] == 6


def test_isolated_nodes_and_graphs_without_edges_are_graphs(register):
    answer = register({"nodes.csv": NODES, "features.npz": FEATURES})
    assert answer.json()["head"]["records"] == 3


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    return files_of(two_communities(), tmp_path_factory.mktemp("people"))


@pytest.fixture
def model(register, registry, people):
    """The graph of two communities and a network trained on it, registered; returns the dataset."""
    dataset = register(people.data, "people")
    dataset.raise_for_status()
    body = {"name": "people", "family": "graph", "dataset": dataset.json()["id"]}
    answer = registry.post("/v1/models", body, people.checkpoint)
    assert answer.status_code == 201, answer.text
    return dataset.json()


def test_a_network_of_another_graph_is_refused(register, registry, people):
    dataset = register(SOUND).json()
    body = {"name": "people", "family": "graph", "dataset": dataset["id"]}
    answer = registry.post("/v1/models", body, people.checkpoint)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:checkpoint-mismatch")


UNKNOWN = {
    "an unknown node": ({"kind": "nodes", "ids": ["p1", "1"]}, ["1"]),
    "an edge that is not there": ({"kind": "edges", "pairs": [["p0", "p2"], ["p0", "p9"]]}, ['["p0","p9"]']),
    "a self-loop": ({"kind": "edges", "pairs": [["p0", "p0"]]}, ['["p0","p0"]']),
    "an edge of an unknown node": ({"kind": "edges", "pairs": [["p0", "zz"]]}, ['["p0","zz"]']),
    "an unknown feature": ({"kind": "node_features", "ids": ["p1"], "features": ["f4"]}, ["f4"]),
    "features of an unknown node": ({"kind": "node_features", "ids": ["q"], "features": ["f3"]}, ["q"]),
    "an unknown class": ({"kind": "node_classes", "ids": ["emu"]}, ["emu"]),
    "a class of nodes as one of edges": ({"kind": "edge_classes", "ids": ["cat"]}, ["cat"]),
    "an unknown subject": ({"kind": "subjects", "ids": ["ann"]}, ["ann"]),
}


@pytest.mark.parametrize(("target", "unknown"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_not_in_the_graph_cannot_be_forgotten(
    client, admin_headers, model, unchanged, target, unknown
):
    with unchanged():
        answer = client.post(
            "/v1/forget-requests", json={"model": "people", "target": target}, headers=admin_headers
        )
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:unknown-ids")
    assert answer.json()["unknown"] == unknown


@pytest.mark.parametrize(
    ("target", "slug"),
    [
        ({"kind": "records", "ids": ["node:p1"]}, "unsuitable-target"),
        ({"kind": "users", "ids": ["p1"]}, "unsuitable-target"),
        ({"kind": "edges", "ids": ["p0"]}, "invalid-request"),
        ({"kind": "edges", "pairs": [["p0"]]}, "invalid-request"),
        ({"kind": "edges", "pairs": [["p0", "p2"], ["p0", "p2"]]}, "invalid-request"),
        ({"kind": "nodes", "ids": ["p1", "p1"]}, "invalid-request"),
        ({"kind": "node_features", "ids": ["p1"]}, "invalid-request"),
        ({"kind": "nodes", "ids": [1]}, "invalid-request"),
    ],
)
def test_targets_that_are_none_are_refused(client, admin_headers, model, target, slug):
    answer = client.post(
        "/v1/forget-requests", json={"model": "people", "target": target}, headers=admin_headers
    )
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:expunge:problem:{slug}")


KNOWN = {
    "nodes": ({"kind": "nodes", "ids": ["p1", "p3"]}, 2),
    "one node": ({"kind": "nodes", "ids": ["p79"]}, 1),
    "edges": ({"kind": "edges", "pairs": [["p0", "p2"], ["p6", "p4"]]}, 2),
    "both directions of one edge": ({"kind": "edges", "pairs": [["p0", "p2"], ["p2", "p0"]]}, 1),
    "node features": ({"kind": "node_features", "ids": ["p1", "p2"], "features": ["f0", "f3"]}, 4),
    "a whole class of nodes": ({"kind": "node_classes", "ids": ["cat"]}, 120),
    "a whole class of edges": ({"kind": "edge_classes", "ids": ["family"]}, 236),
    "subjects": ({"kind": "subjects", "ids": ["s0", "s1"]}, 4),
}


@pytest.mark.parametrize(("target", "records"), KNOWN.values(), ids=KNOWN.keys())
def test_a_plan_counts_what_a_target_comes_to(client, admin_headers, model, target, records):
    answer = client.post("/v1/plans", json={"model": "people", "target": target}, headers=admin_headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["forget"] == records
    assert answer.json()["records"] == 240 + len(two_communities().edges)


def test_forgotten_nodes_edges_and_features_cannot_come_back(runtime, registry, model, people):
    from app.datasets.suppression import suppress
    from models.families import get_family

    forgotten = ["node:p7", 'edge:["p0","p2"]', 'feature:["p8","f1"]']
    with runtime.database.write() as session:
        (dataset,) = session.query(Dataset).all()
        suppress(session, dataset, get_family("graph").targets().remembered(forgotten))
    answer = registry.post(f"/v1/datasets/{model['id']}/snapshots", {"mode": "replace"}, people.data)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:forgotten-records")
    assert sorted(answer.json()["ids"]) == sorted(forgotten)


def test_new_nodes_join_a_graph(registry, model):
    files = {
        "nodes.jsonl": json.dumps({"id": "new", "label": "cat", "subject": "zoe"}).encode(),
        "edges.jsonl": json.dumps({"source": "new", "target": "p0", "relation": "friend"}).encode(),
        "features.npz": npz(features=np.ones((1, 4))),
    }
    answer = registry.post(f"/v1/datasets/{model['id']}/snapshots", {"mode": "append"}, files)
    assert answer.status_code == 201, answer.text
    assert answer.json()["records"] == model["head"]["records"] + 2


def test_a_new_node_of_another_width_does_not_join(registry, model, unchanged):
    files = {"nodes.csv": b"id\nnew\n", "features.npz": npz(features=np.ones((1, 5)))}
    with unchanged():
        answer = registry.post(f"/v1/datasets/{model['id']}/snapshots", {"mode": "append"}, files)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:invalid-data")
    assert "5 features per node instead of 4" in answer.json()["detail"]


def test_strange_ids_stay_as_they_are(register, tmp_path):
    paths = small_graph().write(tmp_path / "files")
    answer = register({path.name: path.read_bytes() for path in paths})
    assert answer.json()["head"]["records"] == 12
