import json
import sys

import pytest
import torch

from benchmarks import acu


@pytest.fixture(scope="module")
def figures():
    return acu.measure(acu.QUICK)


def test_forgetting_is_bit_identical_to_refitting_where_its_rivals_are_not(figures):
    assert figures["bit_identical"] is True
    assert figures["max_relative_error"] == 0.0
    assert figures["recursion_relative_error"] > figures["without_grid_relative_error"] > 0.0
    assert set(figures["per_gamma"]) == {"0.1", "1e-06"}


def test_every_way_of_forgetting_is_as_accurate_as_refitting(figures):
    assert (
        figures["accuracy_after_update"] == figures["accuracy_after_fresh"] == figures["accuracy_refit"] > 0.8
    )
    assert figures["fresh_identical_to_refit"] is figures["statistics_identical_after_update"] is True
    assert figures["update_relative_error"] <= figures["update_error_bound"] < 1e-6
    assert figures["dual_relative_error"] < 1e-6


def test_each_speed_up_is_a_ratio_to_the_faster_refit(figures):
    refit = min(figures["refit_primal_s"], figures["refit_dual_s"])
    assert figures["speedup_single"] == refit / figures["update_single_s"]
    assert figures["speedup_10"] == refit / figures["update_10_s"]
    assert figures["speedup_single_fresh"] == refit / figures["fresh_single_s"]
    assert figures["cache_s"] > 0


def test_the_sequence_forgets_each_record_at_most_once_at_a_time():
    present = torch.ones(100, dtype=torch.bool)
    steps = acu.sequence(100, 90)
    for record, sign in steps:
        assert bool(present[record]) == (sign < 0)
        present[record] = sign > 0
    assert sum(sign < 0 for _, sign in steps) == 90
    assert sum(sign > 0 for _, sign in steps) == 18


def test_an_error_that_is_not_a_number_is_the_worst():
    assert acu.worst([0.0, 2.0, 1.0]) == 2.0
    assert acu.worst([0.0, float("nan"), 1.0]) != acu.worst([0.0, 1.0])


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(acu, "measure", lambda sizes: dict(figures) if sizes is acu.QUICK else None)
    monkeypatch.setattr(sys, "argv", ["acu", "--quick", *(["--json"] if form == "json" else [])])
    acu.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert answer["bit_identical"] is True
        assert answer["environment"]["cores"] >= 1
    else:
        assert "speedup_single" in printed
        assert "ridge penalty 1e-06" in printed
