import json
import sys

import numpy as np
import pytest

from benchmarks import graph_snapshots


@pytest.fixture(scope="module")
def rows():
    return graph_snapshots.measure(graph_snapshots.QUICK)


def test_every_size_is_measured(rows):
    assert [row["nodes"] for row in rows] == [300, 1_000]
    assert [row["records"] for row in rows] == [3_300, 11_000]
    for row in rows:
        assert all(row[f"{name}_s"] > 0 for name in ("ingest", "load", "naming", "without"))
        assert row["index_mb"] > 0 < row["graph_mb"]
        assert row["peak_mb"] > 0


def test_edges_are_distinct_and_lead_elsewhere():
    edges = graph_snapshots.draw_edges(50, np.random.default_rng(0))
    assert edges.shape == (2, 500)
    assert (edges[0] < edges[1]).all()
    assert len({*map(tuple, edges.T.tolist())}) == 500


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(rows, form, monkeypatch, capsys):
    monkeypatch.setattr(graph_snapshots, "measure", lambda _: rows)
    monkeypatch.setattr(sys, "argv", ["graph_snapshots", "--quick", *(["--json"] if form == "json" else [])])
    graph_snapshots.main()
    printed = capsys.readouterr().out
    if form == "json":
        assert json.loads(printed)["rows"] == rows
    else:
        assert printed.count("index_mb") == len(rows)
