import json
import sys

import pytest

from benchmarks import recommender_training


@pytest.fixture(scope="module")
def figures():
    recorded = []
    arguments, sys.argv = sys.argv, ["recommender_training", "--quick", "--json"]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("builtins.print", recorded.append)
            recommender_training.main()
    finally:
        sys.argv = arguments
    return json.loads(recorded[0])


def test_both_implementations_learn_alike(figures):
    row = figures["rows"]["made up"]
    assert row["interactions"] > 200
    assert row["recall_ratio"] == row["product"]["recall_at_20"] / row["straightforward"]["recall_at_20"]
    assert row["product"]["recall_at_20"] > 0.4
    assert row["product"]["best_epoch"] >= 5


def test_speed_ups_are_ratios_of_what_was_measured(figures):
    row = figures["rows"]["made up"]
    for part in ("epoch", "sampling", "training"):
        slow, fast = row["straightforward"][f"{part}_seconds"], row["product"][f"{part}_seconds"]
        assert row[f"{part}_speedup"] == slow / fast
    assert figures["environment"]["cores"] > 0
