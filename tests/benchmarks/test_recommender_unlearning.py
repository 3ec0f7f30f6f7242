import json
import sys

import pytest

from benchmarks import recommender_unlearning

METHODS = {"untouched", "drop_edges", "finetune", "unlearnrec", "no_encoder", "published", "retrain"}


@pytest.fixture(scope="module")
def rows():
    recorded = []
    arguments, sys.argv = sys.argv, ["recommender_unlearning", "--quick", "--json"]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.print", recorded.append)
            recommender_unlearning.main()
    finally:
        sys.argv = arguments
    return json.loads(recorded[0])["rows"]


def test_every_target_has_a_row_for_every_method(rows):
    for target in recommender_unlearning.TARGETS:
        assert {row["method"] for row in rows if row["target"] == target} == METHODS
    assert {row["model"] for row in rows} == {"lightgcn"}


def test_each_row_has_its_gaps_and_its_time(rows):
    for row in rows:
        assert 0 < row["recall"] <= 1
        assert 0 <= row["forget_auc"] <= 1
        if row["serve_seconds"]:
            assert row["speedup"] > 0
        assert (row["amortised"] is not None) == (row["method"] in {"unlearnrec", "published"})


def test_forgotten_users_are_told_from_nobody_unless_their_edges_alone_are_dropped(rows):
    users = {row["method"]: row for row in rows if row["target"].startswith("users")}
    for method in ("unlearnrec", "no_encoder", "published", "finetune", "retrain"):
        assert users[method]["forget_auc"] == 0.5
        assert users[method]["forget_auc_gap"] == 0.0
    assert users["untouched"]["forget_auc"] > 0.7
    assert users["drop_edges"]["forget_auc"] > 0.6


def test_a_table_of_them_is_printed(rows, capsys):
    recommender_unlearning.print_rows(rows)
    assert "unlearnrec" in capsys.readouterr().out
