import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import CheckpointError
from models.recommender import neural
from models.recommender.neural_configuration import describe_neural, read_neural_config
from models.recommender.training import descend
from tests.reference.blocks import block_interactions
from tests.reference.classifier_data import silent

NAMES = ["lightgcn", "simgcl", "ultragcn", "lightgcl"]
DATA = block_interactions()
SMALL = {"width": 8, "epochs": 20, "learning_rate": 0.05, "batch_size": 128}
OWN = {
    "simgcl": {"contrast_weight": 0.02},
    "ultragcn": {"negatives": 20, "negative_weight": 5.0},
    "lightgcl": {"rank": 4},
}


def train(name, *, seed=1, data=None, **changes):
    recipe = {"architecture": name, **SMALL, **OWN.get(name, {}), **changes}
    return neural.train(DATA if data is None else data, recipe, seed=seed, progress=silent)


MODELS = {name: train(name) for name in NAMES}


def same_bits(model, other) -> bool:
    return torch.equal(model.user_factors, other.user_factors) and torch.equal(
        model.item_factors, other.item_factors
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_model_ranks_the_users_block_first(name):
    model = MODELS[name]
    scores = model.scores(torch.arange(60), DATA)
    own = torch.arange(60)[:, None] % 4 == torch.tensor([int(item[5:]) for item in model.items])[None, :] % 4
    # A random pair of an item of the user's block and one of another: 1/2 for an untrained model.
    ranked = [
        (scores[user][own[user]][:, None] > scores[user][~own[user]][None, :]).double().mean()
        for user in range(60)
    ]
    assert torch.stack(ranked).mean() > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_trains_the_same_model_and_another_seed_another(name):
    before = torch.get_rng_state()
    assert same_bits(train(name), MODELS[name])
    assert not same_bits(train(name, seed=2), MODELS[name])
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's random numbers were used


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_does_not_change_the_model(name):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert same_bits(train(name), MODELS[name])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", NAMES)
def test_the_audit_half_decides_nothing(name):
    assert same_bits(train(name, data=DATA.for_methods()), MODELS[name])


@pytest.mark.parametrize("name", NAMES)
def test_retraining_repeats_the_recipe_with_another_seed_and_leaves_the_model_alone(name):
    held = MODELS[name].user_factors.clone()
    again = neural.retrain(MODELS[name], DATA, seed=2, progress=silent)
    assert same_bits(again, train(name, seed=2))
    assert again.config.seed == 2
    assert torch.equal(held, MODELS[name].user_factors)


@pytest.mark.parametrize("name", NAMES)
def test_who_has_no_training_interaction_is_not_known(name):
    gone = [record for record in DATA.ids if "user-0007" in record or "item-0003" in record]
    model = neural.retrain(MODELS[name], DATA.without(gone), seed=2, progress=silent)
    assert len(model.users) == 59
    assert "user-0007" not in model.users
    assert "item-0003" not in model.items
    assert model.config.users == len(model.user_factors) == 59


def test_narrowing_drops_rows_and_names_and_leaves_the_others_as_they_are():
    model = MODELS["lightgcn"]
    remaining = DATA.without([record for record in DATA.ids if "user-0007" in record])
    narrowed = model.narrowed(remaining)
    kept = [place for place, user in enumerate(model.users) if user != "user-0007"]
    assert narrowed.users == tuple(model.users[place] for place in kept)
    assert torch.equal(narrowed.user_factors, model.user_factors[kept])
    assert narrowed.config.users == 59
    assert same_bits(model.narrowed(DATA), model)
    with pytest.raises(ValueError, match="does not know"):
        narrowed.narrowed(DATA)
    with pytest.raises(ValueError, match="no training interactions"):
        model.narrowed(DATA.only([]))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_inner_products_of_what_is_propagated(name):
    model = MODELS[name]
    users, items = model.propagate(DATA)
    torch.testing.assert_close(model.scores(torch.tensor([3, 0]), DATA), users[[3, 0]] @ items.T)
    assert model.propagate(DATA)[0] is users  # kept for the next question about the same data
    fewer = DATA.without(DATA.training().ids[:5])
    assert torch.equal(model.propagate(fewer)[0], users) == (name == "ultragcn")
    assert torch.equal(model.propagate(DATA)[0], users)


def test_an_interaction_of_a_stranger_cannot_be_propagated():
    with pytest.raises(ValueError, match="does not know"):
        MODELS["lightgcn"].narrowed(DATA.only(DATA.training().ids[:20])).propagate(DATA)


def test_training_stops_when_the_calibration_interactions_are_ranked_no_better():
    steps = []
    recipe = {"architecture": "lightgcn", **SMALL, "epochs": 500, "patience": 20, "evaluate_every": 2}
    model = neural.train(DATA, recipe, seed=1, progress=lambda *step: steps.append(step))
    recalls = {step: figures["recall@20"] for _, step, _, figures in steps if "recall@20" in figures}
    assert len(steps) == model.config.best_epoch + 20 < 500
    assert steps[-1][1] == 500  # done, as whoever watches the progress sees it
    assert max(recalls, key=recalls.get) == model.config.best_epoch
    assert steps[-1][3]["training loss"] < steps[0][3]["training loss"]


def test_without_calibration_interactions_every_epoch_is_run():
    steps = []
    recipe = {"architecture": "lightgcn", **SMALL, "epochs": 7, "patience": 1}
    model = neural.train(DATA.training(), recipe, seed=1, progress=lambda *step: steps.append(step))
    assert [step[1] for step in steps] == list(range(1, 8))
    assert model.config.best_epoch == 7


def test_a_user_who_has_taken_everything_does_not_stop_training():
    everything = dataclasses.replace(
        DATA,
        user_index=torch.cat([DATA.user_index, torch.full((40,), 0)]),
        item_index=torch.cat([DATA.item_index, torch.arange(40)]),
        held_out=torch.cat([DATA.held_out | (DATA.user_index == 0), torch.zeros(40, dtype=torch.bool)]),
    )
    assert len(train("lightgcn", data=everything.training()).users) == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "ease"}, "architecture"),
        ({"width": 0}, "width"),
        ({"epochs": 0}, "epochs"),
        ({"layers": 0}, "layers"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"temperature": 1.0}, "temperature"),
        ({"architecture": "ultragcn", "layers": 2}, "layers"),
        ({"architecture": "lightgcl", "rank": 40}, "no rank beyond 39"),
    ],
)
def test_a_wrong_recipe_is_a_value_error_that_names_the_field(changes, message):
    recipe = {"architecture": "lightgcn", **SMALL, **changes}
    with pytest.raises(ValueError, match=message):
        neural.train(DATA, recipe, seed=1, progress=silent)


def test_a_run_that_leaves_the_numbers_is_refused():
    model = MODELS["lightgcn"]
    graph = model.graph(DATA)
    far = dataclasses.replace(model.factors, users=model.user_factors * 1e30)
    objective = neural.objective(model.config.recipe, graph)
    with pytest.raises(ValueError, match="smaller learning rate"):
        next(descend(objective, graph, far, model.config.recipe, generator=torch.Generator().manual_seed(0)))


def test_training_needs_interactions():
    with pytest.raises(ValueError, match="no training interactions"):
        train("lightgcn", data=DATA.only([]))


@pytest.fixture(params=NAMES)
def checkpoint(request, tmp_path):
    neural.save_model(MODELS[request.param], tmp_path)
    return tmp_path


def load(directory):
    return neural.load_model(directory, json.loads((directory / "config.json").read_text()))


def test_a_saved_model_is_loaded_bit_by_bit(checkpoint):
    loaded = load(checkpoint)
    original = MODELS[loaded.architecture]
    assert (loaded.config, loaded.users, loaded.items) == (original.config, original.users, original.items)
    assert same_bits(loaded, original)
    assert torch.equal(loaded.scores(torch.arange(4), DATA), original.scores(torch.arange(4), DATA))


@pytest.mark.parametrize("ids", [("", "u"), ("ü", "用户", "\n", "a\0b"), ("1", "01")])
def test_ids_of_any_text_come_back(tmp_path, ids):
    model = MODELS["lightgcn"]
    narrowed = dataclasses.replace(
        model,
        config=model.config.model_copy(update={"users": len(ids)}),
        users=ids,
        user_factors=model.user_factors[: len(ids)],
    )
    neural.save_model(narrowed, tmp_path)
    assert load(tmp_path).users == ids


def damaged(change):
    def apply(directory):
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("item_factors"), "exactly these tensors"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "exactly these tensors"),
        (lambda tensors: tensors.update(user_factors=torch.zeros(60, 9)), "user_factors must have shape"),
        (lambda tensors: tensors.update(user_factors=torch.zeros(60, 8).double()), "type torch.float32"),
        (lambda tensors: tensors["user_factors"].fill_(torch.nan), "user_factors holds NaN"),
        (lambda tensors: tensors["users.ends"].fill_(3), "does not divide"),
        (lambda tensors: tensors["users.ends"][0].fill_(-1), "does not divide"),
        (lambda tensors: tensors["users.text"].fill_(255), "not UTF-8"),
        (lambda tensors: tensors["users.text"].fill_(65), "names an id twice"),
        (lambda tensors: tensors.update({"users.ends": torch.zeros(60)}), "vectors of bytes"),
        (
            lambda tensors: tensors.update(
                {"users.ends": torch.tensor([2]), "users.text": torch.tensor([65, 66], dtype=torch.uint8)}
            ),
            "names 1 users",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, change, message):
    neural.save_model(MODELS["lightgcn"], tmp_path)
    damaged(change)(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_weights_that_cannot_be_read_are_refused(tmp_path):
    neural.save_model(MODELS["lightgcn"], tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor in sight")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(users=0), "users"),
        (lambda config: config.update(surprise=1), "surprise"),
        (lambda config: config.pop("recipe"), "recipe"),
        (lambda config: config.update(architecture="simgcl"), "of another architecture"),
        (
            lambda config: config["recipe"].update(width=1 << 12) or config.update(users=1 << 20),
            "more than the",
        ),
        (lambda config: config["recipe"].update(temperature=1), "temperature"),
    ],
)
def test_a_config_that_is_no_recommenders_is_refused(change, message):
    config = json.loads(json.dumps(neural.config(MODELS["lightgcn"])))
    change(config)
    with pytest.raises(CheckpointError, match=message):
        read_neural_config(config)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_described_for_the_planner(name):
    model = MODELS[name]
    description = describe_neural(neural.config(model))
    assert description["architecture"] == name
    assert description["parameters"] == model.user_factors.numel() + model.item_factors.numel()
    assert description["flops_per_record"] > description["flops_per_epoch_record"] > 0


def test_what_a_retraining_depends_on_is_its_recipe_alone():
    assert neural.recipe(train("lightgcn", seed=2)) == neural.recipe(MODELS["lightgcn"])
    assert neural.recipe(train("lightgcn", width=4)) != neural.recipe(MODELS["lightgcn"])


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_model_has_fresh_embeddings(name):
    fresh = neural.untrained(MODELS[name], seed=1)
    assert fresh.users == MODELS[name].users
    assert not same_bits(fresh, MODELS[name])
    assert same_bits(fresh, neural.untrained(MODELS[name], seed=1))


def test_embeddings_that_left_the_numbers_are_refused():
    model = MODELS["lightgcn"]
    broken = dataclasses.replace(model.factors, users=model.user_factors * torch.inf)
    with pytest.raises(ValueError, match="finite"):
        model.with_factors(broken)
