"""GF-CF against its formula, its sums exact, its checkpoints strict."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import write_manifest
from models.errors import CheckpointError
from models.recommender import runtime
from models.recommender.closed_form import WEIGHTS_NAME, Change
from models.recommender.configuration import GfcfRecipe
from models.recommender.gfcf import fit, leading_vectors, weights_of
from tests.reference.classifier_data import silent
from tests.reference.recommender_data import random_interactions, table
from tests.reference.recommender_models import gfcf_scores


def fitted(data, **recipe):
    return fit(data, GfcfRecipe(**{"factors": 4, **recipe}), silent)


@pytest.mark.parametrize(("factors", "alpha"), [(0, 0.3), (3, 0.3), (5, 1.0)])
def test_it_is_the_formula(factors, alpha):
    data = random_interactions(users=30, items=12)
    model = fitted(data, factors=factors, alpha=alpha)
    expected = gfcf_scores(torch.from_numpy(data.learned().matrix().toarray()), factors, alpha)
    scores = model.scores(torch.arange(len(model.users)), data)
    # The weights of users are rounded to multiples of 2^-42.
    assert torch.allclose(scores, expected, atol=1e-10, rtol=0)


def test_many_items_get_the_same_low_pass_as_few():
    data = random_interactions(users=80, items=600, share=0.1)
    matrix = fitted(data, factors=0).linear_filter()
    some = leading_vectors(matrix, 6)
    values, vectors = np.linalg.eigh(matrix.toarray())
    assert some.shape == (len(values), 6)
    projector = vectors[:, -6:] @ vectors[:, -6:].T
    assert np.allclose((some @ some.T).numpy(), projector, atol=1e-10)


def test_vectors_of_nothing_are_left_out():
    """Two users make a matrix of rank two, whatever number of vectors is asked for."""
    model = fitted(table([("a", "x"), ("a", "y"), ("b", "y"), ("b", "z")]), factors=3)
    assert model.vectors.shape == (3, 2)


def test_taking_a_user_out_leaves_the_bits_of_never_having_had_one():
    data = random_interactions(users=30, items=15)
    model = fitted(data)
    remaining = data.without([name for name in data.ids if name.startswith('["u3"')])
    change = Change.between(data.learned(), remaining.learned(), {"u3"})
    bits = model.config.weight_bits
    assert change.carried(model.sums, lambda rows: weights_of(rows, bits)).equal(fitted(remaining).sums)


def test_fitting_again_gives_the_same_bits():
    data = random_interactions(users=80, items=600, share=0.1)
    model, again = fitted(data, factors=6), fitted(data, factors=6)
    assert torch.equal(model.vectors, again.vectors)
    assert runtime.recipe(model) == runtime.recipe(again)


def test_too_many_users_are_refused():
    with pytest.raises(ValueError, match="20 users are more than the 19 whose sums stay exact"):
        fitted(random_interactions(users=20, items=10, share=0.6), max_users=19)


def test_no_training_interaction_is_refused():
    with pytest.raises(ValueError, match="no training interactions"):
        fitted(table([], held_out=[("a", "x")]))


def test_a_checkpoint_reads_back(tmp_path):
    data = random_interactions(users=9, items=7, share=0.6)
    model = runtime.train(data, {"architecture": "gfcf", "factors": 2}, seed=0, progress=silent)
    runtime.save_model(model, tmp_path)
    loaded = runtime.load_model(tmp_path)
    positions = torch.arange(9)
    assert torch.equal(loaded.scores(positions, data), model.scores(positions, data))
    assert (loaded.users, loaded.items) == (model.users, model.items)
    assert loaded.sums.equal(model.sums)
    assert runtime.describe(loaded)["factors"] == 2


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("vectors", lambda tensor: tensor[:, :0].float(), r"must have shape \(7, any\)"),
        ("vectors", lambda tensor: tensor * torch.inf, "not finite"),
        ("vectors", lambda tensor: torch.cat([tensor] * 2, 1), "too many vectors"),
        ("item_degrees", lambda tensor: tensor + 1, "as many interactions"),
        ("item_degrees", lambda tensor: tensor * 0, "as many interactions"),
        ("pairs.values", lambda tensor: tensor * 0, "not positive"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, name, spoil, said):
    runtime.save_model(fitted(random_interactions(users=9, items=7, share=0.6)), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_NAME)
    tensors[name] = spoil(tensors[name]).contiguous()
    save_file(tensors, tmp_path / WEIGHTS_NAME)
    (tmp_path / "manifest.json").unlink()
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        runtime.load_model(tmp_path)
