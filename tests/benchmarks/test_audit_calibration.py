import json
import sys

import pytest

from benchmarks import audit_calibration
from benchmarks.audit_calibration import MEMORISED, QUICK, figures, make_problem

RATES = (
    "retrained_pass_rate",
    "untouched_caught_rate",
    "over_forgetting_caught_rate",
    "ruined_caught_rate",
    "untouched_unmemorised_inconclusive_rate",
)


@pytest.fixture(scope="module")
def measured():
    return audit_calibration.measure(QUICK)


def test_every_rate_stands_beside_its_n_and_interval(measured):
    for name in RATES:
        low, high = measured[f"{name}_interval"]
        assert measured[f"{name}_n"] >= 1
        assert low <= measured[name] <= high
    assert measured["memorised_sets"] == 3
    assert measured["forget_sets"] == 4


def test_the_original_is_caught_and_never_passes(measured):
    assert measured["untouched_caught_rate"] == 1.0
    assert measured["untouched_passed_rate"] == 0.0
    assert measured["untouched_unmemorised_inconclusive_rate"] == 1.0


def test_too_much_forgetting_and_ruin_are_caught(measured):
    assert measured["over_forgetting_caught_rate"] == 1.0
    assert measured["ruined_caught_rate"] == 1.0


def row(candidate, kind, verdict, *, utility_kept=True):
    return {
        "candidate": candidate,
        "kind": kind,
        "verdict": verdict,
        "utility_kept": utility_kept,
        "unnoticed": 0.1,
        "data": "digits/mlp",
        "seconds": 1.0,
    }


def test_rates_count_what_they_are_about():
    found = figures(
        [
            row("retrained", "rare", "pass"),
            row("retrained", "rare", "inconclusive"),
            row("retrained", "easy", "pass"),
            row("untouched", "class", "fail"),
            row("untouched", "easy", "inconclusive"),
            row("over_forgotten", "class", "fail", utility_kept=False),
            row("over_forgotten", "class", "pass"),
        ]
    )
    assert (found["retrained_pass_rate"], found["retrained_pass_rate_n"]) == (0.5, 2)
    assert (found["over_forgetting_caught_rate"], found["over_forgetting_caught_rate_n"]) == (0.0, 1)
    assert found["untouched_unmemorised_inconclusive_rate"] == 1.0
    assert found["ruined_caught_rate"] is None
    assert found["ruined_caught_rate_n"] == 0


@pytest.mark.parametrize("kind", [*MEMORISED, "easy", "random"])
def test_forget_sets_are_drawn_alike_each_time_from_training_records(kind):
    one, other = (make_problem(QUICK.settings[0], kind, 1) for _ in range(2))
    assert one.forget == other.forget
    assert one.data.features.equal(other.data.features)
    assert one.data.labels.equal(other.data.labels)
    learned = one.data.only(one.forget.record_ids).training()
    assert len(learned) >= 20
    assert len(learned) == 20 or kind == "class"


def test_candidates_are_judged_by_other_seeds_than_the_bounds_are_calibrated_on():
    from unlearning.audits.references import FIRST_SEED

    judged = range(
        audit_calibration.JUDGED_SEED, audit_calibration.JUDGED_SEED + audit_calibration.FULL.judged
    )
    assert not set(judged) & set(range(FIRST_SEED, FIRST_SEED + 100))


def test_the_full_run_has_twenty_memorised_sets_on_both_data_sets():
    settings = audit_calibration.FULL.settings
    assert {setting.name for setting in settings} == {"digits", "mnist"}
    assert sum(setting.kinds.get(kind, 0) for setting in settings for kind in MEMORISED) >= 20


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(measured, form, monkeypatch, capsys):
    monkeypatch.setattr(audit_calibration, "measure", lambda sizes: measured if sizes is QUICK else None)
    monkeypatch.setattr(
        sys, "argv", ["audit_calibration", "--quick", *(["--json"] if form == "json" else [])]
    )
    audit_calibration.main()
    printed = capsys.readouterr().out
    if form == "json":
        assert json.loads(printed)["retrained_pass_rate_n"] == 3
    else:
        assert "ruined_caught_rate" in printed
