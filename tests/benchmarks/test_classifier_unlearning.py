import dataclasses
import json
import sys

import pytest

from benchmarks import classifier_unlearning

TINY = dataclasses.replace(classifier_unlearning.QUICK, records=600, epochs={"mlp": 8, "cnn": 1})


@pytest.fixture(scope="module")
def figures():
    return classifier_unlearning.measure(TINY)


def test_every_network_forget_set_and_method_has_a_row(figures):
    methods = ["original", "retrain", *classifier_unlearning.METHODS]
    assert list(figures["rows"]) == ["mlp", "cnn"]
    for kinds in figures["rows"].values():
        assert list(kinds) == ["random", "mislabelled", "class"]
        assert all(list(rows) == methods for rows in kinds.values())


def test_figures_are_shares_and_ratios_of_the_same_run_or_a_reason(figures):
    for kinds in figures["rows"].values():
        for rows in kinds.values():
            assert rows["retrain"]["speed_up"] == 1.0
            for name, row in rows.items():
                if not row["runs"]:
                    assert row["reason"]
                    continue
                assert all(0 <= row[figure] <= 1 for figure in (*classifier_unlearning.QUALITY, "gap"))
                if name != "original":
                    assert row["speed_up"] == pytest.approx(rows["retrain"]["seconds"] / row["seconds"])


def test_a_retrained_model_does_not_know_the_forgotten_digit(figures):
    rows = figures["rows"]["mlp"]["class"]
    assert rows["retrain"]["forget_accuracy"] == 0
    assert rows["retrain"]["gap"] < rows["original"]["gap"]


def test_the_forget_sets_are_what_their_names_say():
    for kind in classifier_unlearning.FORGET_SETS:
        task = classifier_unlearning.make_task(kind, 400, seed=0)
        forgotten = task.data.only(task.forget.record_ids)
        if kind == "class":
            assert {task.data.classes[label] for label in forgotten.labels.tolist()} == {"3"}
            assert len(task.data.without(task.forget.record_ids).without_classes(["3"])) == 400 - len(
                forgotten
            )
        else:
            assert len(forgotten) == 16
            assert not forgotten.held_out.any()
    clean = classifier_unlearning.make_task("random", 400, seed=0)
    wrong = classifier_unlearning.make_task("mislabelled", 400, seed=0)
    assert clean.forget == wrong.forget
    assert (clean.data.labels != wrong.data.labels).sum() == 16


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(
        classifier_unlearning,
        "measure",
        lambda sizes: dict(figures) if sizes is classifier_unlearning.QUICK else None,
    )
    monkeypatch.setattr(classifier_unlearning.torch, "set_num_threads", lambda _: None)
    flags = ["--quick", *(["--json"] if form == "json" else [])]
    monkeypatch.setattr(sys, "argv", ["classifier_unlearning", *flags])
    classifier_unlearning.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert answer["rows"]["cnn"]["class"]["scrub"]["runs"] == 1
        assert answer["environment"]["cores"] >= 1
    else:
        assert "mlp, mislabelled" in printed
        assert "gradient_difference" in printed
