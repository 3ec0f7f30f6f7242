import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn import functional

from models.architectures import describe_config
from models.checkpoint import write_manifest
from models.classifier import network, runtime
from models.classifier.network import NetworkClassifier
from models.errors import CheckpointError
from tests.reference.classifier_data import clusters, silent

MLP = {"architecture": "mlp", "hidden": [8], "epochs": 12, "batch_size": 16, "learning_rate": 0.1}
CNN = {
    "architecture": "cnn",
    "image_shape": [1, 4, 4],
    "channels": [3],
    "hidden": [5],
    "epochs": 12,
    "batch_size": 16,
    "learning_rate": 0.1,
}
RECIPES = {"mlp": MLP, "cnn": CNN}
DATA = {"mlp": clusters(held_out=12), "cnn": clusters(held_out=12, width=16)}
NAMES = ["mlp", "cnn"]


def train(name, *, seed=1, data=None, **changes):
    return runtime.train(data or DATA[name], RECIPES[name] | changes, seed=seed, progress=silent)


MODELS = {name: train(name) for name in NAMES}


def same_bits(model, other) -> bool:
    return model.weights.keys() == other.weights.keys() and all(
        torch.equal(model.weights[name], other.weights[name]) for name in model.weights
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_model_knows_its_clusters(name):
    held_out = DATA[name].audit()
    assert (MODELS[name].predict(held_out.features) == held_out.labels).double().mean() > 0.9


def test_the_perceptron_is_what_its_formula_says():
    model, inputs = MODELS["mlp"], DATA["mlp"].features[:5]
    weights = {name: tensor.double() for name, tensor in model.weights.items()}
    scaled = inputs / inputs.abs().amax(dim=1, keepdim=True)
    hidden = (scaled @ weights["hidden.0.weight"].T + weights["hidden.0.bias"]).clamp(min=0)
    logits = hidden @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(model.embeddings(inputs), hidden.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.logits(inputs), logits.float(), rtol=1e-4, atol=1e-5)


def test_the_convolution_is_what_its_formula_says():
    model, inputs = MODELS["cnn"], DATA["cnn"].features[:3]
    images = (inputs / inputs.abs().amax(dim=1, keepdim=True)).reshape(3, 4, 4)
    padded = functional.pad(images, (1, 1, 1, 1))
    kernel, bias = model.weights["conv.0.weight"].double(), model.weights["conv.0.bias"].double()
    pooled = torch.zeros(3, 3, 2, 2, dtype=torch.float64)
    for record in range(3):
        for out in range(3):
            for row in range(4):
                for column in range(4):
                    patch = padded[record, row : row + 3, column : column + 3]
                    value = (patch * kernel[out, 0]).sum() + bias[out]
                    cell = pooled[record, out, row // 2, column // 2]
                    pooled[record, out, row // 2, column // 2] = torch.maximum(cell, value)
    hidden = pooled.flatten(1) @ model.weights["hidden.0.weight"].double().T + model.weights["hidden.0.bias"]
    torch.testing.assert_close(model.embeddings(inputs), hidden.clamp(min=0).float(), rtol=1e-4, atol=1e-5)


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
def test_retraining_repeats_the_recipe_with_another_seed_and_leaves_the_model_alone(name):
    held = {key: tensor.clone() for key, tensor in MODELS[name].weights.items()}
    again = network.retrain(MODELS[name], DATA[name], seed=2, progress=silent)
    assert same_bits(again, train(name, seed=2))
    assert again.config.seed == 2
    assert all(torch.equal(tensor, MODELS[name].weights[key]) for key, tensor in held.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_gone_keeps_its_output(name):
    remaining = DATA[name].without_classes(["b"])
    again = network.retrain(MODELS[name], remaining, seed=1, progress=silent)
    assert again.classes == ("a", "b", "c")
    assert again.logits(remaining.features).shape == (len(remaining), 3)
    assert not (again.predict(remaining.features) == 1).any()
    without = dataclasses.replace(  # a data set whose own list of classes is shorter, and in another order
        remaining, classes=("c", "a"), labels=(remaining.labels == 0).long()
    )
    assert same_bits(network.retrain(MODELS[name], without, seed=1, progress=silent), again)


def test_a_class_the_model_does_not_know_is_refused():
    strange = dataclasses.replace(DATA["mlp"], classes=("a", "b", "z"))
    with pytest.raises(ValueError, match="does not know these classes: z"):
        network.retrain(MODELS["mlp"], strange, seed=1, progress=silent)


def test_held_out_records_are_not_learned():
    assert same_bits(train("mlp", data=DATA["mlp"].training()), MODELS["mlp"])


@pytest.mark.parametrize("name", NAMES)
def test_chunks_do_not_change_what_is_computed(name, monkeypatch):
    model, inputs = MODELS[name], DATA[name].features
    whole = model.logits(inputs), model.embeddings(inputs), model.predict(inputs)
    monkeypatch.setattr(network, "_CHUNK_ELEMENTS", 300)
    assert model.rows_per_chunk < len(inputs)
    torch.testing.assert_close(model.logits(inputs), whole[0])
    torch.testing.assert_close(model.embeddings(inputs), whole[1])
    assert torch.equal(model.predict(inputs), whole[2])
    assert not model.logits(inputs).requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_no_records_have_no_logits(name):
    nothing = DATA[name].features[:0]
    assert MODELS[name].logits(nothing).shape == (0, 3)
    assert MODELS[name].embeddings(nothing).shape[0] == len(MODELS[name].predict(nothing)) == 0


@given(
    dtype=st.sampled_from([torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64]),
    values=st.lists(st.integers(0, 16), min_size=6, max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_inputs_of_any_type_are_scaled_alike(dtype, values):
    model = with_input_range(16.0)
    features = torch.tensor([values], dtype=dtype)
    assert torch.equal(model.scale(features), torch.tensor([values], dtype=torch.float32) / 16)


def with_input_range(input_range) -> NetworkClassifier:
    config = MODELS["mlp"].config
    recipe = config.recipe.model_copy(update={"input_range": input_range})
    return NetworkClassifier(config.model_copy(update={"recipe": recipe}), MODELS["mlp"].weights)


def test_inputs_are_scaled_by_the_declared_range_or_by_their_own_largest_value():
    huge = torch.tensor([[1e300, -2e300, 0, 0, 0, 0]], dtype=torch.float64)
    assert MODELS["mlp"].scale(huge)[0, :3].tolist() == [0.5, -1.0, 0.0]
    assert with_input_range(4.0).scale(huge)[0, :3].tolist() == [1.0, -1.0, 0.0]
    assert with_input_range(None).scale(torch.zeros(1, 6)).tolist() == [[0.0] * 6]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(2, 5), r"shape \(n, 6\), not \(2, 5\)"),
        (torch.zeros(6), "shape"),
        (torch.full((1, 6), torch.nan), "finite"),
        (torch.full((1, 6), torch.inf), "finite"),
    ],
)
def test_unusable_inputs_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        MODELS["mlp"].predict(features)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mlp", {"hidden": []}, "hidden"),
        ("mlp", {"hidden": [0]}, r"hidden\.0"),
        ("mlp", {"epochs": 0}, "epochs"),
        ("mlp", {"batch_size": 0}, "batch_size"),
        ("mlp", {"learning_rate": float("nan")}, "learning_rate"),
        ("mlp", {"momentum": 1.0}, "momentum"),
        ("mlp", {"schedule": "steps"}, "schedule"),
        ("mlp", {"gamma": 1}, "gamma"),
        ("mlp", {"image_shape": [1, 2, 3]}, "image_shape"),
        ("mlp", {"hidden": [65536, 65536]}, "more than the"),
        ("mlp", {"input_range": 0.01}, "beyond the recipe's input_range"),
        ("mlp", {"learning_rate": 99, "epochs": 50}, "training diverged"),
        ("cnn", {"image_shape": [1, 28, 28]}, "have 784 features, but the records have 16"),
        ("cnn", {"channels": [2, 2, 2]}, "leave nothing of images of 4 x 4"),
    ],
)
def test_a_wrong_recipe_is_a_value_error_that_names_the_field(name, changes, message):
    with pytest.raises(ValueError, match=message):
        train(name, **changes)


def test_a_cnn_must_say_how_its_images_lie():
    with pytest.raises(ValueError, match="image_shape: Field required"):
        runtime.train(DATA["cnn"], {"architecture": "cnn"}, seed=1, progress=silent)


def test_training_needs_records():
    with pytest.raises(ValueError, match="no training records"):
        train("mlp", data=clusters(0, held_out=4))


def test_progress_tells_the_loss_of_every_epoch():
    steps = []
    train("mlp", epochs=5, data=None)
    runtime.train(DATA["mlp"], MLP, seed=1, progress=lambda *step: steps.append(step))
    assert [step[:3] for step in steps] == [("training", number, 12) for number in range(1, 13)]
    losses = [step[3]["training loss"] for step in steps]
    assert losses[-1] < losses[0] / 5


@pytest.fixture(params=NAMES)
def checkpoint(request, tmp_path):
    runtime.save_model(MODELS[request.param], tmp_path)
    return tmp_path


def test_a_saved_model_is_loaded_bit_by_bit(checkpoint):
    loaded = runtime.load_model(checkpoint)
    original = MODELS[loaded.architecture]
    assert loaded.config == original.config
    assert same_bits(loaded, original)
    inputs = DATA[loaded.architecture].features
    assert torch.equal(loaded.logits(inputs), original.logits(inputs))


def test_a_loaded_model_is_retrained_by_its_recipe(checkpoint):
    loaded = runtime.load_model(checkpoint)
    again = runtime.retrain(loaded, DATA[loaded.architecture], seed=1, progress=silent)
    assert same_bits(again, loaded)


def test_a_model_is_described_without_torch_as_with_it(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    model = MODELS[config["architecture"]]
    description = runtime.describe(model)
    assert describe_config("classifier", config) == description
    assert description["parameters"] == sum(tensor.numel() for tensor in model.weights.values())
    assert description["flops_per_record"] == 3 * description["flops_forward"] * 12


def test_a_perceptrons_work_is_counted_by_hand():
    # 6 inputs to 8 hidden to 3 classes: 2 * (6 * 8 + 8 * 3) multiplications and additions.
    assert runtime.describe(MODELS["mlp"])["flops_forward"] == 144
    # 9 weights at 16 pixels for 3 channels; 3 * 2 * 2 pooled to 5 hidden; 5 hidden to 3 classes.
    assert runtime.describe(MODELS["cnn"])["flops_forward"] == 2 * (9 * 16 * 3 + 12 * 5 + 5 * 3)


def damage(checkpoint, change):
    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    save_file(tensors, checkpoint / "model.safetensors")
    write_manifest(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("head.bias"), "exactly these tensors"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "exactly these tensors"),
        (lambda tensors: tensors.clear(), "it holds none"),
        (lambda tensors: tensors.update({"head.bias": torch.zeros(4)}), "head.bias must have shape"),
        (lambda tensors: tensors.update({"head.bias": torch.zeros(3).double()}), "type torch.float32"),
        (lambda tensors: tensors["head.bias"].fill_(torch.nan), "head.bias holds NaN"),
        (lambda tensors: tensors["hidden.0.weight"][0].fill_(torch.inf), "hidden.0.weight holds NaN"),
    ],
)
def test_a_damaged_checkpoint_is_refused(checkpoint, change, message):
    damage(checkpoint, change)
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(classes=["a", "a", "b"]), "distinct"),
        (lambda config: config.update(classes=[]), "classes"),
        (lambda config: config.update(input_width=0), "input_width"),
        (lambda config: config.update(surprise=1), "surprise"),
        (lambda config: config.pop("recipe"), "recipe"),
        (lambda config: config["recipe"].update(hidden=[9]), "must have shape"),
        (lambda config: config["recipe"].update(hidden=[1 << 40]), "hidden"),
        (lambda config: config["recipe"].update(architecture="resnet"), "recipe"),
    ],
)
def test_a_config_that_is_no_networks_is_refused(checkpoint, change, message):
    config = json.loads((checkpoint / "config.json").read_text())
    change(config)
    (checkpoint / "config.json").write_text(json.dumps(config))
    write_manifest(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(checkpoint)


def test_a_recipe_of_the_other_architecture_is_refused():
    config = dict(network.config(MODELS["mlp"]))
    with pytest.raises(CheckpointError, match="of another architecture"):
        describe_config("classifier", config | {"recipe": network.config(MODELS["cnn"])["recipe"]})


def test_weights_that_cannot_be_read_are_refused(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"not a tensor in sight")
    write_manifest(checkpoint)
    with pytest.raises(CheckpointError, match="cannot be read"):
        runtime.load_model(checkpoint)


def test_what_a_retraining_depends_on_is_all_but_the_seed():
    assert network.recipe(train("mlp", seed=2)) == network.recipe(MODELS["mlp"])
    assert network.recipe(train("mlp", epochs=3)) != network.recipe(MODELS["mlp"])
