import json
import sys

import pytest
import torch

from benchmarks import graph_scale


@pytest.fixture(scope="module")
def figures():
    return graph_scale.measure(graph_scale.QUICK)


def test_what_was_refreshed_request_after_request_equals_computing_it_anew(figures):
    assert 0.0 < figures["largest_relative_error"] <= 1e-6
    # A dozen operators one upon the other: computing all anew in float32 is itself 2e-6 away from float64.
    assert figures["largest_relative_error_with_operators"] <= 3e-6


def test_every_graph_percentile_and_method_has_a_row_with_its_share_of_a_full_pass(figures):
    asked = {
        (nodes, percentile, method)
        for nodes in graph_scale.QUICK.nodes
        for percentile in graph_scale.PERCENTILES
        for method in ("drop_edges", "gnndelete")
    }
    assert {(row["nodes"], row["percentile"], row["method"]) for row in figures["rows"]} == asked
    passes = {graph["nodes"]: graph for graph in figures["graphs"]}
    for row in figures["rows"]:
        assert row["share_of_pass"] == row["seconds"] / passes[row["nodes"]]["pass_s"]
        assert row["share_of_epoch"] == row["seconds"] / passes[row["nodes"]]["epoch_s"]
        assert 0 < row["seconds"] <= row["slowest_s"]
        assert 2 <= row["nodes_within_2_hops"] <= row["nodes"]
    largest = [row["share_of_pass"] for row in figures["rows"] if row["nodes"] == figures["nodes"]]
    assert figures["worst_share_of_pass"] == max(largest)


def test_audit_files_and_memory_stand_apart(figures):
    for graph in figures["graphs"]:
        assert min(graph[name] for name in ("audit_s", "writing_s", "cache_s", "graph_mb")) > 0


def test_generated_degrees_follow_a_power_law_without_double_edges():
    nodes = 20_000
    edges = graph_scale.power_law_edges(nodes, 10 * nodes, torch.Generator().manual_seed(0))
    assert edges.shape[1] == pytest.approx(10 * nodes, rel=0.01)
    assert (edges[0] < edges[1]).all()
    assert len((edges[0] * nodes + edges[1]).unique()) == edges.shape[1]
    degrees = torch.bincount(edges.flatten(), minlength=nodes).double().sort().values
    assert degrees[-1] > 20 * degrees.mean()
    # Of a power law's tail, the share above a degree falls by the exponent less 1 per factor: 2^-1.5 from 40 to 80.
    ratio = (degrees > 80).sum() / (degrees > 40).sum()
    assert float(ratio) == pytest.approx(2**-1.5, rel=0.25)


def test_edges_at_a_percentile_have_as_many_neighbours_as_that_says():
    case = graph_scale.draw_case(1_000)
    degrees = torch.bincount(case.edges.flatten(), minlength=1_000)
    sums = degrees[case.edges].sum(dim=0).double()
    for percentile in graph_scale.PERCENTILES:
        chosen = degrees[graph_scale.edges_at(case, percentile, 8)].sum(dim=0).double()
        assert chosen.median() == pytest.approx(float(sums.quantile(percentile / 100)), rel=0.05)


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(
        graph_scale, "measure", lambda sizes: dict(figures) if sizes is graph_scale.QUICK else None
    )
    monkeypatch.setattr(sys, "argv", ["graph_scale", "--quick", *(["--json"] if form == "json" else [])])
    graph_scale.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert answer["bar"] == 0.02
        assert answer["environment"]["cores"] >= 1
    else:
        assert "worst_share_of_pass" in printed
        assert printed.count("gnndelete") == printed.count("drop_edges") == 6
