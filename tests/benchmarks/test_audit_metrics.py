import json
import sys

import pytest

from benchmarks import audit_metrics


@pytest.fixture(scope="module")
def figures():
    return audit_metrics.measure(audit_metrics.QUICK)


def test_every_metric_agrees_with_its_slow_reference(figures):
    assert len(figures["agreement"]) == 8
    assert 0 <= figures["largest_difference"] < 1e-9
    assert all(row["seconds"] > 0 and row["speedup"] > 0 for row in figures["agreement"].values())


def test_intervals_hold_the_truth_in_most_draws(figures):
    assert len(figures["coverage"]) == 4
    # 95 % of 40 draws are 38; fewer than 33 has a chance below 1 in 1,000.
    assert min(figures["coverage"].values()) >= 33 / 40
    assert figures["u_lira_when_forgotten"]["accuracy"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(
        audit_metrics, "measure", lambda sizes: dict(figures) if sizes is audit_metrics.QUICK else None
    )
    monkeypatch.setattr(sys, "argv", ["audit_metrics", "--quick", *(["--json"] if form == "json" else [])])
    audit_metrics.main()
    printed = capsys.readouterr().out
    if form == "json":
        assert json.loads(printed)["agreement"] == figures["agreement"]
    else:
        assert "RMIA" in printed
        assert "change of AUC" in printed
