import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.architectures import describe_config, get_architecture
from models.checkpoint import CONFIG_NAME, check_checkpoint, write_manifest
from models.errors import CheckpointError, UnknownArchitectureError
from models.graph import runtime
from models.graph.architectures import WEIGHTS_NAME
from models.graph.configuration import ARCHITECTURES
from models.graph.deletion import Deletion, node_keys
from tests.reference.classifier_data import silent
from tests.reference.graph_data import path_graph

NODES, LINKS = "node_classification", "link_prediction"
DATA = path_graph(8)


def train(architecture="gcn", task=NODES, **changes):
    recipe = {"architecture": architecture, "task": task, "hidden": (4, 4), "epochs": 2, **changes}
    return runtime.train(DATA, recipe, seed=1, progress=silent)


def same_bits(model, other) -> bool:
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture
def saved(fresh):
    """Save a model and return its directory."""

    def save(model):
        directory = fresh()
        runtime.save_model(model, directory)
        return directory

    return save


def rewrite(directory, *, config=None, tensors=None):
    """Change a checkpoint's files and write a manifest that fits them."""
    if config is not None:
        known = json.loads((directory / CONFIG_NAME).read_text())
        (directory / CONFIG_NAME).write_text(json.dumps({**known, **config}))
    if tensors is not None:
        known = load_file(directory / WEIGHTS_NAME)
        changed = {name: tensor for name, tensor in {**known, **tensors}.items() if tensor is not None}
        save_file(changed, directory / WEIGHTS_NAME)
    write_manifest(directory)


@pytest.mark.parametrize("task", [NODES, LINKS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_checkpoint_gives_back_the_same_bits(saved, architecture, task):
    model = train(architecture, task)
    directory = saved(model)
    check_checkpoint(directory, {".json", ".safetensors"})
    loaded = runtime.load_model(directory)
    assert same_bits(loaded, model)
    assert loaded.config == model.config
    assert torch.equal(loaded.embeddings(DATA), model.embeddings(DATA))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_deletion_operators_are_saved_with_the_model(saved):
    keys = node_keys(DATA.node_ids).sort().values
    operators = [
        Deletion([torch.eye(4) * (2 + turn), torch.eye(4)], [keys[:3], keys[:1]]) for turn in range(2)
    ]
    model = train().with_deletions(operators)
    directory = saved(model)
    loaded = runtime.load_model(directory)
    assert same_bits(loaded, model)
    assert torch.equal(loaded.embeddings(DATA), model.embeddings(DATA))
    assert runtime.describe(loaded)["deletions"] == 2
    for stripped in (
        runtime.untrained(loaded, seed=3),
        runtime.retrain(loaded, DATA, seed=3, progress=silent),
    ):
        assert stripped.deletion_operators is None
        assert stripped.config.deletions == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deletions": 1}, "operators of 2 requests, config.json says 1"),
        ({"deletion_operators.0.weight_0": None}, "no deletion tensor 0.weight_0"),
        ({"deletion_operators.0.weight_0": torch.eye(3)}, "does not have shape"),
        ({"deletion_operators.1.weight_1": torch.ones(4, 3)}, "not a square matrix"),
        ({"deletion_operators.1.keys_0": torch.tensor([2, 1])}, "not distinct, sorted"),
        ({"deletion_operators.0.weight_1": torch.full((4, 4), torch.nan)}, "NaN"),
    ],
)
def test_malformed_deletion_operators_are_refused(saved, changes, message):
    weights, keys = [torch.eye(4), torch.eye(4)], [torch.tensor([1, 2]), torch.tensor([1])]
    directory = saved(train().with_deletions([Deletion(weights, keys), Deletion(weights, keys)]))
    config = {name: value for name, value in changes.items() if name == "deletions"}
    rewrite(
        directory, config=config, tensors={name: changes[name] for name in changes.keys() - config.keys()}
    )
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": [4]}, "hidden"),
        ({"classes": []}, "node classification needs classes"),
        ({"classes": ["cat", "cat"]}, "distinct"),
        ({"architecture": "gat"}, "another architecture"),
        (
            {"architecture": "transformer"},
            "no graph architecture 'transformer'; installed: gat, gcn, gin, sage",
        ),
        ({"width": 0}, "width"),
        ({"width": 1 << 23}, "more than the"),
        ({"format": 2}, "format"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_fault(saved, changes, message):
    directory = saved(train())
    if "width" in changes and changes["width"] > 1:
        recipe = {"architecture": "gcn", "task": NODES, "hidden": [64]}
        changes = {**changes, "recipe": recipe}
    rewrite(directory, config=changes)
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(directory)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"convs.0.bias": None}, "must hold exactly"),
        ({"extra": torch.zeros(1)}, "must hold exactly"),
        ({"convs.0.bias": torch.zeros(5)}, "shape"),
        ({"convs.0.bias": torch.zeros(4, dtype=torch.float64)}, "type"),
        ({"convs.0.bias": torch.full((4,), torch.inf)}, "infinity"),
    ],
)
def test_wrong_weights_are_refused(saved, tensors, message):
    directory = saved(train())
    rewrite(directory, tensors=tensors)
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(directory)


def test_a_damaged_or_missing_weights_file_is_refused(saved):
    directory = saved(train())
    (directory / WEIGHTS_NAME).write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match="does not have the size"):
        runtime.load_model(directory)
    write_manifest(directory)
    with pytest.raises(CheckpointError, match="cannot be read"):
        runtime.load_model(directory)
    (directory / WEIGHTS_NAME).unlink()
    write_manifest(directory)
    with pytest.raises(CheckpointError, match="cannot be read"):
        runtime.load_model(directory)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"architecture": "gcn"}, "task"),
        ({"task": "graph_classification"}, "task"),
        ({"task": NODES, "epoch": 3}, "epoch"),
        ({"task": NODES, "heads": 2}, "heads"),
        ({"task": NODES, "hidden": []}, "hidden"),
        ({"task": NODES, "dropout": 1.0}, "dropout"),
        ({"architecture": "gat", "task": NODES, "hidden": (6, 4), "heads": 4}, "cannot share"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_fault(recipe, message):
    with pytest.raises(ValueError, match=message):
        runtime.train(DATA, recipe, seed=0, progress=silent)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UnknownArchitectureError, match="transformer"):
        runtime.train(DATA, {"architecture": "transformer", "task": NODES}, seed=0, progress=silent)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_description_has_the_sizes_that_costs_are_made_of(architecture):
    model = train(architecture)
    described = runtime.describe(model)
    assert described == describe_config("graph", json.loads(model.config.model_dump_json()))
    sizes = {name: described[name] for name in ("nodes", "edges", "width", "hidden", "layers", "classes")}
    assert sizes == {"nodes": 8, "edges": 14, "width": 2, "hidden": [4, 4], "layers": 2, "classes": 2}
    assert described["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert described["flops_per_epoch"] == 3 * described["flops_forward"] > 0
    json.dumps(dict(described))


def test_a_recipe_says_nothing_of_the_seed_or_of_the_graphs_size():
    model = train()
    recipe = runtime.recipe(model)
    assert recipe["family"] == "graph"
    assert recipe.keys() == {"family", "architecture", "format", "classes", "width", "recipe"}
    assert recipe == runtime.recipe(runtime.untrained(model, seed=9))
    assert not same_bits(model, runtime.untrained(model, seed=9))


def test_the_architectures_are_registered():
    for name in ARCHITECTURES:
        assert get_architecture("graph", name).runtime().__name__ == "models.graph.architectures"
