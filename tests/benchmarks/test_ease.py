import json
import math
import sys

import pytest

from benchmarks import ease
from benchmarks.recommender_data import DATA
from tests.reference.recommender_data import random_interactions

needs_data = pytest.mark.skipif(not DATA.exists(), reason="../shared/data/recommender is not there")


@pytest.fixture(scope="module")
def figures():
    return ease.measure(ease.QUICK)


@needs_data
def test_forgetting_equals_fitting_on_what_remains(figures):
    row = figures["data"]["lastfm"]
    assert row["tables_and_counts_identical"] is True
    assert figures["ease_max_difference"] == row["max_difference"] <= row["reported_bound"] <= 1e-10
    assert figures["gfcf_max_difference"] == 0.0
    assert row["requests"] == 20


@needs_data
def test_speed_is_a_ratio_to_refitting_what_remains(figures):
    row = figures["data"]["lastfm"]
    assert figures["ease_speedup_user"] == row["refit_s"] / row["update_user_s"]
    assert 0 < figures["gfcf_ms_per_user"] <= row["gfcf_ms_slowest_user"]


def test_requests_name_each_interaction_once_and_every_fifth_a_whole_user():
    data = random_interactions(users=30, items=20)
    asked = list(ease.requests(data, 25))
    named = [name for one in asked for name in one]
    assert len(asked) == 25
    assert len(set(named)) == len(named)
    assert set(named) <= set(data.training().ids)
    for number, one in enumerate(asked):
        user = json.loads(one[0])[0]
        whole = {name for name in data.training().ids if json.loads(name)[0] == user}
        assert (set(one) == whole) if number % 5 == 0 else len(one) == 1


def test_an_inversion_in_place_of_an_update_is_not_passed_off_as_one(monkeypatch):
    data = random_interactions(users=30, items=20)
    model = ease.runtime.train(data, {}, seed=0, progress=ease.silent)
    right = ease.ease.updated_inverse
    monkeypatch.setattr(ease.ease, "updated_inverse", lambda *args: right(*args) + 1.0)
    with pytest.raises(RuntimeError, match="could not show its bound"):
        ease.forget(model, data, [data.training().ids[0]])


def test_a_difference_that_is_not_a_number_is_the_worst():
    assert ease.worst([0.0, 2.0]) == 2.0
    assert math.isnan(ease.worst([0.0, math.nan]))


@needs_data
@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(ease, "measure", lambda sizes: dict(figures) if sizes is ease.QUICK else None)
    monkeypatch.setattr(sys, "argv", ["ease", "--quick", *(["--json"] if form == "json" else [])])
    ease.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert {"ease_max_difference", "ease_speedup_user", "gfcf_max_difference"} < answer.keys()
        assert answer["environment"]["cores"] >= 1
    else:
        assert "ease_speedup_user" in printed
