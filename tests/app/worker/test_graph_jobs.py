"""Graphs from upload to certificate: real jobs in real processes, on a part of Cora and on a small graph of our own."""

import shutil
import threading

import pytest
import torch
from sqlalchemy import select

from app.tables import Model, Snapshot, Version
from app.trust.certificates.verification import TrustedKeys, verify_certificate
from app.trust.signing import read_public_keys
from app.worker.local_process import LocalProcessExecutor
from app.worker.worker import Worker
from models.checkpoint import MANIFEST_NAME, Manifest
from models.families import get_family
from models.graph.conversion import convert_citations
from models.graph.data import load_data
from tests.reference.small_graph_service import RECIPE, files_of, trained, two_communities

CORA_NODES = 300


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


@pytest.fixture(scope="module")
def processes():
    executor = LocalProcessExecutor()
    executor.start()
    yield executor
    executor.close()


@pytest.fixture
def worker(runtime, processes):
    return Worker(runtime, processes, threading.Event())


@pytest.fixture(scope="module")
def cora(shared_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("cora")
    whole = shared_data / "graph" / "cora.npz"
    part = convert_citations(whole, directory / "cora.npz", most_nodes=CORA_NODES, held_out_nodes=0.3)
    return trained([part], directory, RECIPE | {"weight_decay": 5e-3})


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return files_of(two_communities(), tmp_path_factory.mktemp("people"))


@pytest.fixture
def serve(registry, client, admin_headers, worker):
    """Register a graph and its network; return a function that has something forgotten and returns the request."""

    def serve(files):
        dataset = registry.post("/v1/datasets", {"name": "graph", "family": "graph"}, files.data)
        assert dataset.status_code == 201, dataset.text
        body = {"name": "network", "family": "graph", "dataset": dataset.json()["id"]}
        model = registry.post("/v1/models", body, files.checkpoint)
        assert model.status_code == 201, model.text
        # Few nodes are held out here, and few cannot tell a small loss of accuracy from none.
        policy = client.put(
            "/v1/policies/families/graph", json={"utility_margin": 0.4}, headers=admin_headers
        )
        assert policy.status_code == 200, policy.text

        def forget(target, **fields):
            body = {"model": "network", "target": target, "method": "retrain", **fields}
            answer = client.post("/v1/forget-requests", json=body, headers=admin_headers)
            assert answer.status_code == 202, answer.text
            worker.run_until_idle()
            return client.get(answer.headers["Location"], headers=admin_headers).json()

        return forget

    return serve


@pytest.fixture
def latest(runtime):
    """Return the graph and the network of the model's latest version."""

    def latest():
        with runtime.database.read() as session:
            model = session.scalars(select(Model)).one()
            version = session.get_one(Version, (model.id, model.latest_version))
            snapshot = session.get_one(Snapshot, (model.dataset_id, version.snapshot))
        family = get_family("graph").runtime()
        return (
            load_data(runtime.storage.materialise(snapshot.location)),
            family.load_model(runtime.storage.materialise(version.location)),
        )

    return latest


@pytest.fixture
def verified(client, admin_headers, runtime, tmp_path):
    """Check a request's certificate as a stranger would, against the downloaded version."""

    def verified(request) -> None:
        directory = tmp_path / f"downloaded-{request['version']}"
        directory.mkdir()
        base = f"/v1/models/network/versions/{request['version']}"
        manifest = client.get(f"{base}/manifest", headers=admin_headers)
        (directory / MANIFEST_NAME).write_bytes(manifest.content)
        for entry in Manifest.from_json(manifest.json()).files:
            content = client.get(f"{base}/files/{entry.path}", headers=admin_headers).content
            (directory / entry.path).write_bytes(content)
        answer = client.get(f"/v1/forget-requests/{request['id']}/certificate", headers=admin_headers)
        keys = TrustedKeys(dict(read_public_keys(runtime.signing.require().certificates.pem.encode())))
        verify_certificate(answer.content, directory, keys)

    return verified


def completed(request) -> None:
    assert request["status"] == "completed", request["reason"]


def test_each_kind_of_target_leaves_cora_for_good(serve, latest, verified, cora):
    forget = serve(cora)
    graph, _ = latest()
    first, second = (graph.node_ids[end] for end in graph.edges[:, 7].tolist())
    other, subject = graph.node_ids[11], graph.node_ids[23]
    column = int(graph.features[31].nonzero()[0])
    some_features = {
        "kind": "node_features",
        "ids": [graph.node_ids[31]],
        "features": [graph.feature_names[column]],
    }

    for target in (
        {"kind": "edges", "pairs": [[second, first]]},
        {"kind": "nodes", "ids": [other]},
        some_features,
        {"kind": "subjects", "ids": [f"author-{subject}"]},
    ):
        request = forget(target)
        completed(request)
        verified(request)

    left, network = latest()
    assert {other, subject}.isdisjoint(left.node_ids)
    assert left.missing([f"node:{other}", f"node:{subject}"]) == [f"node:{other}", f"node:{subject}"]
    ends = {frozenset(left.node_ids[end] for end in edge) for edge in left.edges.T.tolist()}
    assert frozenset((first, second)) not in ends
    assert left.features[left.node_positions[graph.node_ids[31]], column] == 0
    gone = graph.without([f"node:{other}", f"node:{subject}", *_edge_ids(graph, 7)])
    assert (left.nodes, left.edges.shape) == (gone.nodes, gone.edges.shape)
    assert request["version"] == 5
    assert network.encode(left.features, left.message_edges()).shape == (left.nodes, RECIPE["hidden"][-1])


def _edge_ids(graph, row):
    return [graph.ids[graph.nodes + row]]


def test_classes_of_nodes_and_edges_go_whole(serve, latest, people):
    forget = serve(people)
    completed(forget({"kind": "edge_classes", "ids": ["family"]}))
    left, _ = latest()
    assert set(left.relations.tolist()) == {left.edge_classes.index("friend")}

    completed(forget({"kind": "node_classes", "ids": ["dog"]}))

    left, network = latest()
    assert {left.classes[label] for label in left.labels.tolist()} == {"cat"}
    assert left.classes == network.classes == ("cat", "dog")


def test_requests_that_name_one_thing_twice_are_served_together(
    serve, client, admin_headers, worker, latest, people
):
    forget = serve(people)
    waiting = [
        client.post(
            "/v1/forget-requests",
            json={"model": "network", "target": target, "method": "retrain"},
            headers=admin_headers,
        )
        for target in (
            {"kind": "edges", "pairs": [["p0", "p2"]]},
            {"kind": "edges", "pairs": [["p2", "p0"]]},
            {"kind": "nodes", "ids": ["p2"]},
        )
    ]
    last = forget({"kind": "node_features", "ids": ["p2", "p3"], "features": ["f0"]})
    requests = [client.get(one.headers["Location"], headers=admin_headers).json() for one in waiting]
    assert [request["status"] for request in (*requests, last)] == ["completed"] * 4, requests
    assert {request["version"] for request in (*requests, last)} == {2}
    left, _ = latest()
    assert "p2" not in left.node_ids
    assert left.features[left.node_positions["p3"], 0] == 0


def test_every_edge_of_a_held_out_node_can_go(serve, latest, people):
    forget = serve(people)
    graph, _ = latest()
    place = graph.node_positions["p4"]
    rows = graph.incident_edges(torch.tensor([place])).nonzero().flatten()
    pairs = [[graph.node_ids[end] for end in graph.edges[:, row].tolist()] for row in rows.tolist()]
    assert pairs

    completed(forget({"kind": "edges", "pairs": pairs}))

    left, network = latest()
    assert not left.incident_edges(torch.tensor([left.node_positions["p4"]])).any()
    embeddings = network.encode(left.features, left.message_edges())
    assert embeddings.isfinite().all()


def test_a_graph_left_without_training_nodes_is_not_published(serve, latest, people):
    forget = serve(people)
    graph, _ = latest()
    everyone = [graph.node_ids[place] for place in graph.training_nodes().tolist()]

    request = forget({"kind": "nodes", "ids": everyone})

    assert request["status"] in {"needs_review", "failed"}, request
    assert request["version"] is None
    assert latest()[0].nodes == graph.nodes


def test_a_subjects_nodes_and_edges_are_forgotten_by_whatever_method_passes(serve, latest, people):
    completed(serve(people)({"kind": "subjects", "ids": ["s3"]}, method="auto"))
    left, _ = latest()
    assert {"p6", "p7"}.isdisjoint(left.node_ids)


def test_an_edge_that_is_only_dropped_is_gone_from_the_data_once_a_person_accepts_it(
    serve, client, admin_headers, latest, verified, people
):
    request = serve(people)({"kind": "edges", "pairs": [["p0", "p2"]]}, method="drop_edges")
    if request["status"] == "needs_review":
        body = {"decision": "accept", "reason": "One edge of a drawn graph."}
        path = f"/v1/forget-requests/{request['id']}"
        assert client.post(f"{path}/review", json=body, headers=admin_headers).status_code == 200
        request = client.get(path, headers=admin_headers).json()
    completed(request)
    verified(request)
    assert latest()[0].edges.shape[1] == len(two_communities().edges) - 1


LIMITED = {
    "a class of nodes, of which its records are told by the index": {"kind": "node_classes", "ids": ["dog"]},
    "features, each counted": {
        "kind": "node_features",
        "ids": [f"p{number}" for number in range(80)],
        "features": ["f0", "f1"],
    },
    "edges": {"kind": "edges", "pairs": [[f"p{number}", f"p{number + 2}"] for number in range(120)]},
}


@pytest.mark.parametrize("target", LIMITED.values(), ids=LIMITED.keys())
def test_too_much_of_a_graph_for_one_day_waits_for_a_person(serve, runtime, latest, people, target):
    forget = serve(people)
    # A tenth of 240 nodes and 504 edges is less than any of these.
    limited = runtime.settings.model_copy(update={"max_forgotten_share_per_day": 0.1})
    object.__setattr__(runtime, "settings", limited)

    request = forget(target)

    assert request["status"] == "needs_review"
    assert request["reason"].startswith("A limit was hit")
    assert latest()[0].nodes == 240
