"""Small trained recommenders of every neural architecture, and what they are asked to forget."""

import dataclasses

import torch

from models.contracts import ForgetSet
from models.recommender import neural
from models.recommender.interaction_graph import among
from models.recommender.neural import NeuralRecommender
from tests.reference.blocks import block_interactions
from tests.reference.classifier_data import silent
from unlearning.catalog import get_method

ARCHITECTURES = ["lightgcn", "simgcl", "ultragcn", "lightgcl"]
DATA = block_interactions(120, 60, per_user=16, seed=3)
RECIPE = {"width": 16, "epochs": 60, "evaluate_every": 60, "learning_rate": 0.05, "batch_size": 256}
"""Looked at once, at the end: these learn their interactions by heart."""
OWN = {
    "simgcl": {"contrast_weight": 0.02},
    "ultragcn": {"negatives": 20, "negative_weight": 5.0},
    "lightgcl": {"rank": 4, "contrast_weight": 0.02},
}


def train(architecture: str, seed: int = 1, **changes: object) -> NeuralRecommender:
    recipe = {"architecture": architecture, **RECIPE, **OWN.get(architecture, {}), **changes}
    return neural.train(DATA, recipe, seed=seed, progress=silent)


MODELS = {architecture: train(architecture) for architecture in ARCHITECTURES}

FORGOTTEN = tuple(
    sorted(
        record_id
        for place, record_id in enumerate(DATA.training().ids)
        if place % 20 == 0  # a twentieth of the interactions, spread over all users
    )
)
USER = tuple(sorted(record_id for record_id in DATA.for_methods().ids if "user-0011" in record_id))


def same_bits(model: NeuralRecommender, other: NeuralRecommender) -> bool:
    return (
        (model.users, model.items) == (other.users, other.items)
        and torch.equal(model.user_factors, other.user_factors)
        and torch.equal(model.item_factors, other.item_factors)
    )


def forget(
    method: str,
    record_ids: tuple[str, ...] = FORGOTTEN,
    *,
    model: NeuralRecommender | None = None,
    seed: int = 0,
    progress=silent,
    **parameters: object,
) -> NeuralRecommender:
    spec = get_method("recommender", method)
    return spec.load()(
        MODELS["lightgcn"] if model is None else model,
        DATA.for_methods(),
        ForgetSet(tuple(record_ids)),
        spec.configure(parameters),
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )


def beaten(model: NeuralRecommender, record_ids: tuple[str, ...], remaining) -> float:
    """Mean share of a user's not-taken items that the pairs' items beat, over pairs of known users and items."""
    pairs = dataclasses.replace(DATA, held_out=torch.zeros(len(DATA), dtype=torch.bool)).only(record_ids)
    users = among(pairs.users, model.users)[pairs.user_index]
    items = among(pairs.items, model.items)[pairs.item_index]
    known = (users >= 0) & (items >= 0)
    users, items = users[known], items[known]
    scores = model.scores(users, remaining)
    open_ = torch.from_numpy(model.graph(remaining).matrix.toarray() == 0)[users]
    open_[torch.arange(len(users)), items] = False
    wins = (scores.gather(1, items[:, None]) > scores) & open_
    return float((wins.sum(dim=1) / open_.sum(dim=1)).mean())
