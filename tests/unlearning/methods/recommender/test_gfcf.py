"""What is GF-CF's own. That it equals fitting on what remains, bit by bit, is in `test_closed_forms`."""

import pytest

from models.recommender import runtime
from models.recommender.pair_sums import PairSums
from tests.reference.classifier_data import silent
from tests.reference.closed_form_case import DATA, assert_exact, bring, fitted, forget, of_users
from tests.reference.recommender_data import table
from unlearning.errors import MethodError


def test_more_users_than_sums_stay_exact_for_are_refused():
    before = table([("a", "x"), ("b", "y")])
    model = runtime.train(before, {"architecture": "gfcf", "max_users": 2}, seed=0, progress=silent)
    with pytest.raises(MethodError, match="3 users are more than the 2"):
        bring("gfcf", model, before, table([("a", "x"), ("b", "y"), ("c", "y")]))


def test_gfcf_sums_afresh_where_most_is_forgotten(monkeypatch):
    monkeypatch.setattr(PairSums, "changed", None)
    chosen = of_users(DATA, *[user for user in DATA.users if user != "u3"])
    assert_exact(forget("gfcf", fitted("gfcf"), DATA, chosen), fitted("gfcf", DATA.without(chosen)))
