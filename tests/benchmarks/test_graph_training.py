import json
import sys

import pytest

from benchmarks import graph_training
from models.graph.configuration import ARCHITECTURES


@pytest.fixture(scope="module")
def figures():
    return graph_training.measure(graph_training.QUICK, graph_training.DATA_FOLDER)


def test_every_network_and_task_is_trained_and_timed(figures):
    rows = {(row["task"], row["architecture"]): row for row in figures["rows"]}
    assert rows.keys() == {
        (task, name) for task in (graph_training.LINKS, graph_training.NODES) for name in ARCHITECTURES
    }
    for row in rows.values():
        assert 0.0 < row["test_score"] <= 1.0
        assert 1 <= row["best_epoch"] <= graph_training.QUICK.epochs
        assert row["speedup"] == row["plain_epoch_ms"] / row["epoch_ms"]
    assert rows[graph_training.NODES, "gcn"]["test_score"] > 0.6


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(
        graph_training, "measure", lambda sizes, _: figures if sizes is graph_training.QUICK else None
    )
    monkeypatch.setattr(sys, "argv", ["graph_training", "--quick", *(["--json"] if form == "json" else [])])
    graph_training.main()
    printed = capsys.readouterr().out
    if form == "json":
        assert len(json.loads(printed)["rows"]) == 8
    else:
        assert "sage" in printed
