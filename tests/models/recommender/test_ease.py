"""EASE against its formula, its updates against fitting anew, its bound against the truth."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import CONFIG_NAME, write_manifest
from models.errors import CheckpointError
from models.recommender import runtime
from models.recommender.closed_form import WEIGHTS_NAME, Change
from models.recommender.configuration import EaseRecipe
from models.recommender.ease import InverseError, count_pairs, fit, invert, one_each, updated_inverse
from tests.reference.classifier_data import silent
from tests.reference.recommender_data import random_interactions, table
from tests.reference.recommender_models import ease_weights

LAMBDA = 5.0


def fitted(data):
    return fit(data, EaseRecipe(regularisation=LAMBDA), silent)


def dense(data):
    return torch.from_numpy(data.learned().matrix().toarray())


def test_it_is_the_formula():
    data = random_interactions(users=25, items=14)
    model = fitted(data)
    expected = ease_weights(dense(data), LAMBDA)
    assert torch.allclose(model.weights(), expected, atol=1e-14)
    scores = model.scores(torch.arange(len(model.users)), data)
    assert torch.allclose(scores, dense(data) @ expected, atol=1e-13)


def test_scores_are_of_the_users_asked_for():
    data = random_interactions(users=10, items=8)
    model = fitted(data)
    assert torch.equal(
        model.scores(torch.tensor([3, 1]), data), model.scores(torch.arange(len(model.users)), data)[[3, 1]]
    )


def test_who_has_no_training_interaction_is_not_known():
    model = fitted(table([("a", "x"), ("a", "y"), ("b", "y")], held_out=[("c", "y"), ("b", "z")]))
    assert (model.users, model.items) == (("a", "b"), ("x", "y"))
    with pytest.raises(ValueError, match="does not know"):
        model.scores(torch.tensor([0]), table([("c", "y")]))


@pytest.mark.parametrize(
    ("gone", "new"),
    [
        ([("a", "x"), ("a", "y")], []),
        ([("a", "y")], []),
        ([("c", "z")], []),
        ([], [("d", "x"), ("d", "q"), ("a", "z")]),
        ([("a", "x"), ("b", "y")], [("a", "m"), ("e", "x")]),
    ],
)
def test_an_update_is_a_fit_on_what_is_then_there(gone, new):
    pairs = [("a", "x"), ("a", "y"), ("b", "y"), ("b", "x"), ("c", "x"), ("c", "y"), ("c", "z")]
    before = table(pairs)
    after = table([pair for pair in pairs if pair not in gone] + new)
    change = Change.between(before.learned(), after.learned(), {user for user, _ in gone + new})
    expected, model = fitted(after), fitted(before)
    assert change.carried(model.counts, one_each).equal(expected.counts)
    assert torch.allclose(
        updated_inverse(model.inverse, change, LAMBDA), expected.inverse, atol=1e-15, rtol=0
    )


@pytest.mark.parametrize("scattered", [False, True])
def test_leaving_out_many_or_few_items(scattered):
    """Few gaps are copied in blocks, many are gathered; both must pick the same entries."""
    items = [f"i{number:03}" for number in range(200)]
    single = items[::2] if scattered else items[50:53]
    pairs = [("keeper", item) for item in items if item not in single] + [("leaver", item) for item in single]
    before, after = table(pairs), table([pair for pair in pairs if pair[0] == "keeper"])
    change = Change.between(before.learned(), after.learned(), {"leaver"})
    found = updated_inverse(fitted(before).inverse, change, LAMBDA)
    assert torch.allclose(found, fitted(after).inverse, atol=1e-14, rtol=0)


def test_the_bound_is_above_the_error_and_not_far_above():
    data = random_interactions(users=60, items=40)
    model = fitted(data)
    histories = data.matrix()
    for spoilt in (0.0, 1e-9, 1e-6):
        noise = torch.randn(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        inverse = model.inverse + spoilt * noise / noise.norm()
        error = InverseError.of(histories, LAMBDA, inverse)
        weights = inverse / -inverse.diagonal()
        weights.fill_diagonal_(0.0)
        true = float((weights - ease_weights(dense(data), LAMBDA)).abs().max())
        assert true <= error.weights
        assert error.weights <= 1e-11 + 1e4 * spoilt
        assert (
            float(torch.linalg.matrix_norm(inverse - invert(count_pairs(data), LAMBDA), 2)) <= error.inverse
        )


@pytest.mark.parametrize("broken", [0.0, -1.0, float("nan")])
def test_what_is_no_inverse_has_no_bound(broken):
    data = random_interactions(users=20, items=10)
    inverse = torch.full((10, 10), broken, dtype=torch.float64)
    assert InverseError.of(data.matrix(), LAMBDA, inverse).weights == float("inf")


def test_too_large_a_catalogue_is_refused_with_the_memory_it_would_need():
    data = random_interactions(users=20, items=10)
    with pytest.raises(
        ValueError, match=r"10 items need a matrix of 800\.0 bytes .* choose gfcf or raise it"
    ):
        fit(data, EaseRecipe(max_matrix_bytes=799), silent)


def test_no_training_interaction_is_refused():
    with pytest.raises(ValueError, match="no training interactions"):
        fitted(table([], held_out=[("a", "x")]))


@pytest.mark.parametrize("recipe", [{"regularisation": 0}, {"architecture": "ease", "lambda": 1}])
def test_a_wrong_recipe_is_refused(recipe):
    with pytest.raises(ValueError, match=r"The recipe is wrong: (regularisation|lambda): "):
        runtime.train(random_interactions(), recipe, seed=0, progress=silent)


def test_a_checkpoint_reads_back(tmp_path):
    data = random_interactions(users=9, items=7, share=0.6)
    model = runtime.train(data, {"regularisation": LAMBDA}, seed=0, progress=silent)
    runtime.save_model(model, tmp_path)
    loaded = runtime.load_model(tmp_path)
    assert (loaded.users, loaded.items, loaded.config) == (model.users, model.items, model.config)
    assert loaded.counts.equal(model.counts)
    assert torch.equal(loaded.inverse, model.inverse)
    assert runtime.describe(loaded)["items"] == 7


def test_refitting_gives_the_same_bits():
    data = random_interactions(users=30, items=20)
    model = fitted(data)
    again = runtime.retrain(model, data, seed=5, progress=silent)
    assert torch.equal(model.inverse, again.inverse)
    assert model.counts.equal(again.counts)
    assert runtime.recipe(model) == runtime.recipe(again)


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("inverse", lambda tensor: tensor[:-1], "must have shape"),
        ("inverse", lambda tensor: tensor.float(), "must have shape"),
        ("inverse", lambda tensor: tensor * torch.nan, "no inverse of a positive definite matrix"),
        ("inverse", lambda tensor: -tensor, "no inverse of a positive definite matrix"),
        ("pairs.values", lambda tensor: tensor * 2, "as many interactions"),
        ("pairs.values", lambda tensor: -tensor, "not positive"),
        ("pairs.keys", lambda tensor: tensor.flip(0), "ascending"),
        ("users.ends", lambda tensor: tensor[:-1], "does not divide"),
        ("items.text", lambda tensor: tensor.flip(0), "not sorted"),
        ("items.text", None, "exactly these tensors"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, name, spoil, said):
    runtime.save_model(fitted(random_interactions(users=9, items=7, share=0.6)), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_NAME)
    if spoil is None:
        del tensors[name]
    else:
        tensors[name] = spoil(tensors[name]).contiguous()
    save_file(tensors, tmp_path / WEIGHTS_NAME)
    (tmp_path / "manifest.json").unlink()
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        runtime.load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": 8}, "must have shape"),
        ({"users": 8}, "not as long as config.json says"),
        ({"interactions": 3}, "as many interactions"),
        ({"max_matrix_bytes": 8}, "contradicts itself"),
        ({"surprise": 1}, "not a recommender's of kind ease: surprise"),
        ({"architecture": "oracle"}, "no recommender architecture 'oracle'"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, change, said):
    runtime.save_model(fitted(random_interactions(users=9, items=7, share=0.6)), tmp_path)
    config = json.loads((tmp_path / CONFIG_NAME).read_text())
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config | change))
    (tmp_path / "manifest.json").unlink()
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        runtime.load_model(tmp_path)


def test_histories_of_other_data_are_not_mixed_up():
    data = table([("a", "x"), ("b", "y"), ("b", "x")])
    model = fitted(data)
    less = data.without(['["b","x"]'])
    assert np.array_equal(model.histories(data).toarray(), [[1, 0], [1, 1]])
    assert np.array_equal(model.histories(less).toarray(), [[1, 0], [0, 1]])
