"""A graph by the command line alone: train, register its files, forget, against a whole running service."""

import pytest

from models.checkpoint import verify_directory
from tests.reference.small_graph_service import two_communities


@pytest.fixture
def files(tmp_path):
    return two_communities().write(tmp_path / "people")


def test_a_graph_of_several_files_is_trained_registered_and_forgotten_from(
    connected, expunge, tmp_path, files
):
    checkpoint = tmp_path / "people-1"
    recipe = [
        "-r",
        "architecture=gcn",
        "-r",
        "task=node_classification",
        "-r",
        "hidden=[16,8]",
        "-r",
        "epochs=40",
    ]
    trained = expunge("train", *files, "--family", "graph", *recipe, "--out", checkpoint, "--json")
    assert trained.json["model"]["family"] == "graph", trained.err
    verify_directory(checkpoint)
    dataset = expunge("register", "dataset", "people", *files, "--family", "graph", "--json").json
    assert dataset["head"]["records"] == 240 + len(two_communities().edges)
    registered = expunge(
        "register", "model", "people", checkpoint, "--dataset", "people", "--family", "graph", "--json"
    )
    assert registered.json["architecture"] == "gcn", registered.err

    plan = expunge("plan", "people", '["p0","p2"]', "p4:p6", "--kind", "edges", "--json").json
    assert plan["forget"] == 2

    unknown = expunge("forget", "people", "p0:p239", "--kind", "edges")
    assert unknown.status == 1
    assert "p239" in unknown.err

    asked = expunge("forget", "people", "p8", "--kind", "node_features", "--feature", "f1", "--json").json
    assert asked["target"] == {"kind": "node_features", "count": 1}
    assert asked["status"] == "pending"


def test_a_file_that_is_no_graph_is_one_line(expunge, tmp_path):
    (tmp_path / "edges.csv").write_text("from,to\n1,2\n")
    outcome = expunge("train", tmp_path / "edges.csv", "--family", "graph", "--out", tmp_path / "x")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert "neither nodes nor edges" in outcome.err
    assert not (tmp_path / "x").exists()
