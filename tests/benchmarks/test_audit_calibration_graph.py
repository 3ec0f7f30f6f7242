import json
import sys

import pytest

from benchmarks import audit_calibration, audit_calibration_graph
from benchmarks.audit_calibration_graph import FULL, JUDGED_SEED, QUICK, Setting, figures, make_problem
from unlearning.audits.references import FIRST_SEED

RATES = (
    "retrained_pass_rate",
    "untouched_caught_rate",
    "untouched_passed_rate",
    "over_forgetting_caught_rate",
    "ruined_caught_rate",
)


@pytest.fixture(scope="module")
def measured():
    return audit_calibration_graph.measure(QUICK)


def test_retrained_passes_and_nothing_else_does(measured):
    assert {row["verdict"] for row in measured["rows"] if row["candidate"] == "retrained"} == {"pass"}
    assert {row["verdict"] for row in measured["rows"] if row["candidate"] != "retrained"} == {"fail"}
    assert measured["sets_with_power"] == measured["forget_sets"] == 2


def test_every_rate_stands_beside_its_n_and_interval(measured):
    for name in RATES:
        if measured[f"{name}_n"]:
            low, high = measured[f"{name}_interval"]
            assert low <= measured[name] <= high
        else:
            assert measured[name] is measured[f"{name}_interval"] is None


def row(candidate, verdict, *, utility_kept=True, power=True):
    return {
        "candidate": candidate,
        "verdict": verdict,
        "utility_kept": utility_kept,
        "unnoticed": 0.1,
        "power": power,
        "seconds": 1.0,
    }


def test_rates_count_what_they_are_about():
    found = figures(
        [
            row("retrained", "pass"),
            row("retrained", "fail"),
            row("retrained", "inconclusive", power=False),
            row("untouched", "fail"),
            row("over_forgotten", "fail", utility_kept=False),
            row("over_forgotten", "inconclusive"),
        ]
    )
    assert (found["retrained_pass_rate"], found["retrained_pass_rate_n"]) == (0.5, 2)
    assert found["retrained_failed_rate"] == 1 / 3
    assert (found["over_forgetting_caught_rate"], found["over_forgetting_caught_rate_n"]) == (0.0, 1)
    assert found["ruined_caught_rate"] is None


@pytest.mark.parametrize("kind", ["mislabelled", "class", "nodes", "edges"])
def test_forget_sets_are_drawn_alike_each_time(kind, tmp_path):
    task = "link_prediction" if kind == "edges" else "node_classification"
    setting = Setting("made", kind, 20, 1, {"task": task})
    (one, forget), (other, again) = (make_problem(setting, 1, tmp_path) for _ in range(2))
    assert forget == again
    assert one.labels.equal(other.labels)
    assert one.training_digest() == other.training_digest()
    assert not one.missing(forget.record_ids)
    assert len(forget.record_ids) == 20 or kind == "class"


def test_candidates_are_judged_by_other_seeds_than_the_bounds_are_calibrated_on():
    assert not set(range(JUDGED_SEED, JUDGED_SEED + FULL.judged)) & set(range(FIRST_SEED, FIRST_SEED + 100))


def test_the_command_of_the_classifiers_takes_the_family(measured, monkeypatch, capsys):
    monkeypatch.setattr(
        audit_calibration_graph, "measure", lambda sizes: measured if sizes is QUICK else None
    )
    monkeypatch.setattr(sys, "argv", ["audit_calibration", "--family", "graph", "--quick", "--json"])
    audit_calibration.main()
    assert json.loads(capsys.readouterr().out)["retrained_pass_rate"] == 1.0
