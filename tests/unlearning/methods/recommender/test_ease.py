"""What is EASE's own: updates within a bound, and inversions where they are cheaper or needed.

That it equals fitting on what remains is in `test_closed_forms`.
"""

import pytest
import torch

from models.recommender import runtime
from tests.reference.classifier_data import silent
from tests.reference.closed_form_case import DATA, REFIT, bring, fitted, forget, of_users
from tests.reference.recommender_data import table
from unlearning.catalog import recommender as catalog
from unlearning.errors import MethodError
from unlearning.methods.recommender import ease


def test_refitting_gives_the_bits_of_a_fit():
    chosen = of_users(DATA, "u3")
    model = forget("ease", fitted("ease"), DATA, chosen, REFIT)
    assert torch.equal(model.inverse, fitted("ease", DATA.without(chosen)).inverse)


def test_the_cheaper_way_is_chosen(monkeypatch):
    """At 15 items inverting costs less than copying the matrix; an update is not even tried."""
    monkeypatch.setattr(ease, "updated_inverse", None)
    chosen = of_users(DATA, "u3")
    model = forget("ease", fitted("ease"), DATA, chosen, catalog.EaseConfig())
    assert torch.equal(model.inverse, fitted("ease", DATA.without(chosen)).inverse)


def test_an_update_that_cannot_show_its_bound_is_replaced(monkeypatch):
    spoil = ease.updated_inverse
    monkeypatch.setattr(ease, "updated_inverse", lambda *args: spoil(*args) + 1e-9)
    chosen = of_users(DATA, "u3")
    expected = fitted("ease", DATA.without(chosen)).inverse
    assert torch.equal(forget("ease", fitted("ease"), DATA, chosen).inverse, expected)
    loose = forget("ease", fitted("ease"), DATA, chosen, catalog.EaseConfig(solve="update", tolerance=1e-3))
    assert not torch.equal(loose.inverse, expected)


def test_a_drifted_inverse_is_refreshed():
    """Errors of earlier updates are caught by the bound, not only those of this one."""
    model = fitted("ease")
    drifted = type(model)(model.config, model.users, model.items, model.counts, model.inverse + 1e-6)
    chosen = of_users(DATA, "u3")
    assert torch.equal(
        forget("ease", drifted, DATA, chosen).inverse, fitted("ease", DATA.without(chosen)).inverse
    )


def test_a_catalogue_that_grows_beyond_its_matrix_is_refused():
    before = table([("a", "x"), ("a", "y")])
    model = runtime.train(before, {"max_matrix_bytes": 32}, seed=0, progress=silent)
    after = table([("a", "x"), ("a", "y"), ("b", "z")])
    with pytest.raises(MethodError, match=r"too large: 3 items need a matrix of 72\.0 bytes"):
        bring("ease", model, before, after)
