"""A small case of the recommenders in closed form, and what it takes to be equal."""

import json

import pytest
import torch

from models.contracts import ForgetSet
from models.recommender import runtime
from tests.reference.classifier_data import silent
from tests.reference.recommender_data import random_interactions
from unlearning.catalog import recommender as catalog
from unlearning.methods.recommender import ease, gfcf

DATA = random_interactions(users=25, items=15, share=0.35)
RECIPES = {"ease": {"regularisation": 5.0}, "gfcf": {"factors": 4}}
METHODS = {"ease": ease, "gfcf": gfcf}
UPDATE = catalog.EaseConfig(solve="update")
REFIT = catalog.EaseConfig(solve="refit")
CONFIGS = {"ease": UPDATE, "gfcf": catalog.GfcfConfig()}
both = pytest.mark.parametrize("kind", ["ease", "gfcf"])


def fitted(kind, data=DATA):
    return runtime.train(data, {"architecture": kind} | RECIPES[kind], seed=0, progress=silent)


def forget(kind, model, data, record_ids, config=None):
    return METHODS[kind].run(
        model,
        data,
        ForgetSet(tuple(sorted(record_ids))),
        config or CONFIGS[kind],
        generator=torch.Generator().manual_seed(0),
        progress=silent,
    )


def bring(kind, model, data, target):
    return METHODS[kind].update(
        model, data, target, CONFIGS[kind], generator=torch.Generator(), progress=silent
    )


def of_users(data, *users):
    return [name for name in data.ids if json.loads(name)[0] in users]


def of_items(data, *items):
    return [name for name in data.ids if json.loads(name)[1] in items]


def numbers(model):
    return model.counts if model.architecture == "ease" else model.sums


def assert_exact(model, expected):
    assert (model.users, model.items, model.config) == (expected.users, expected.items, expected.config)
    assert numbers(model).equal(numbers(expected))
    if model.architecture == "ease":
        assert float((model.weights() - expected.weights()).abs().max()) < 1e-13
    else:
        assert torch.equal(model.vectors, expected.vectors)
        assert torch.equal(model.item_degrees, expected.item_degrees)
