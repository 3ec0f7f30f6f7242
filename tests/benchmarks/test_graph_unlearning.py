import dataclasses
import json
import sys
from pathlib import Path

import pytest

from benchmarks import graph_unlearning
from benchmarks.graph_unlearning import LINKS, NODES, QUICK

KEYS = {
    "data",
    "task",
    "method",
    "deleted",
    "et_gap",
    "ed_gap",
    "accuracy_gap",
    "membership_auc",
    "speedup",
    "peak_mb",
}
NOWHERE = Path("no folder is needed for a graph that is drawn")


@pytest.fixture(scope="module")
def figures():
    return graph_unlearning.measure(QUICK, NOWHERE)


def rows_of(figures, task, deleted):
    return {row["method"]: row for row in figures["rows"] if (row["task"], row["deleted"]) == (task, deleted)}


def test_every_deletion_and_method_has_a_row_with_the_agreed_keys(figures):
    for case in QUICK.cases:
        for deleted in case.deletions:
            names = ["original", "retrain", *graph_unlearning.METHODS]
            names = [name for name in names if case.task == NODES or name != "gif"]
            assert list(rows_of(figures, case.task, deleted)) == names
    assert all(row.keys() >= KEYS for row in figures["rows"])


def test_figures_are_of_the_task_or_there_is_a_reason(figures):
    for row in figures["rows"]:
        if not row["draws"]:
            assert row["reason"]
            continue
        of_links = row["task"] == LINKS
        assert (row["et_gap"] is not None) == (row["ed"] is not None) == of_links
        assert (
            (row["accuracy_gap"] is not None) == (row["deleted_cross_entropy"] is not None) == (not of_links)
        )
        assert 0 <= row["membership_auc"] <= 1


def test_speed_is_measured_against_retraining_in_the_same_run(figures):
    for case in QUICK.cases:
        rows = rows_of(figures, case.task, case.deletions[0])
        assert rows["retrain"]["speedup"] == 1.0
        dropped = rows["drop_edges"]
        assert dropped["speedup"] == pytest.approx(rows["retrain"]["seconds"] / dropped["seconds"])


@pytest.mark.parametrize("what", ["edges 5%", "hubs", "community", "memorised"])
def test_training_edges_are_deleted(what):
    data = graph_unlearning.load_graph("made", LINKS, NOWHERE)
    model = graph_unlearning.architectures.train(
        data, {**QUICK.recipe, "task": LINKS, "epochs": 3}, seed=0, progress=graph_unlearning.silent
    )
    forget = graph_unlearning.deletion(data, model, what, 0)
    share = 0.05 if what == "edges 5%" else 0.025
    known = data.training_edges().shape[1]
    assert len(forget.record_ids) == len(set(forget.record_ids)) == int(share * known)
    assert data.without(forget.record_ids).training_edges().shape[1] == known - len(forget.record_ids)


def test_hubs_have_more_neighbours_than_most():
    data = graph_unlearning.load_graph("made", LINKS, NOWHERE)
    degrees = graph_unlearning.torch.bincount(data.training_edges().flatten(), minlength=data.nodes).double()
    gone = data.elements(graph_unlearning.deletion(data, None, "hubs", 0).record_ids).edges
    assert degrees[gone].mean() > 1.5 * degrees[data.training_edges()].mean()


def test_the_most_harmful_nodes_are_training_nodes_whose_loss_of_gradient_raises_the_validation_loss():
    data = graph_unlearning.load_graph("made", NODES, NOWHERE)
    model = graph_unlearning.architectures.train(
        data, {**QUICK.recipe, "task": NODES}, seed=0, progress=graph_unlearning.silent
    )
    chosen = graph_unlearning.most_harmful(model, data, 20)
    assert len(set(chosen.tolist())) == 20
    assert set(chosen.tolist()) <= set(data.training_nodes().tolist())


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(
        graph_unlearning,
        "measure",
        lambda sizes, folder: dict(figures) if (sizes, folder) == (QUICK, NOWHERE) else None,
    )
    flags = ["--quick", "--data", str(NOWHERE), *(["--json"] if form == "json" else [])]
    monkeypatch.setattr(sys, "argv", ["graph_unlearning", *flags])
    graph_unlearning.main()
    printed = capsys.readouterr().out
    if form == "json":
        assert {row["method"] for row in json.loads(printed)["rows"]} >= {"d2dgn", "gnndelete", "drop_edges"}
    else:
        assert "made, gcn, link_prediction, hubs" in printed


def test_the_full_form_measures_what_the_issue_asks_for():
    measured = {
        (case.data, case.architecture, deleted)
        for case in graph_unlearning.FULL.cases
        for deleted in case.deletions
    }
    shares = ("edges 0.5%", "edges 2.5%", "edges 5%", "nodes 100", "nodes 5%")
    wanted = {(name, "gcn", share) for name in ("cora", "citeseer", "dblp") for share in shares}
    wanted |= {("cora", name, share) for name in ("gat", "gin", "sage") for share in shares}
    assert measured >= wanted
    assert graph_unlearning.FULL.draws >= 3
    assert all(case.references * graph_unlearning.FULL.draws >= 6 for case in graph_unlearning.FULL.cases)
    assert dataclasses.replace(graph_unlearning.FULL, cases=()).processes == 2
