"""Retraining a recommender is training on what remains."""

import pytest
import torch

from models.contracts import ForgetSet
from tests.reference.classifier_data import silent
from tests.reference.closed_form_case import DATA, assert_exact, both, fitted, of_users
from unlearning.catalog import recommender as catalog
from unlearning.errors import MethodError
from unlearning.methods.recommender import retrain


@both
def test_retraining_is_a_fit_on_the_rest(kind):
    chosen = of_users(DATA, "u3")
    model = retrain.run(
        fitted(kind),
        DATA,
        ForgetSet(tuple(chosen)),
        catalog.RetrainConfig(),
        generator=torch.Generator().manual_seed(0),
        progress=silent,
    )
    assert_exact(model, fitted(kind, DATA.without(chosen)))


@both
def test_retraining_on_nothing_is_refused(kind):
    with pytest.raises(MethodError, match="Retraining is not possible: there are no training interactions"):
        retrain.update(
            fitted(kind),
            DATA,
            DATA.without(DATA.ids),
            catalog.RetrainConfig(),
            generator=torch.Generator(),
            progress=silent,
        )


def test_retraining_refuses_what_is_not_there():
    with pytest.raises(MethodError, match="1 of the records to forget are not in the data"):
        retrain.run(
            fitted("ease"),
            DATA,
            ForgetSet(('["x","y"]',)),
            catalog.RetrainConfig(),
            generator=torch.Generator(),
            progress=silent,
        )
