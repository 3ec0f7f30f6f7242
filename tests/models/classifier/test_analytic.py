import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.architectures import describe_config
from models.checkpoint import write_manifest
from models.classifier import analytic, runtime
from models.classifier.analytic import AnalyticClassifier
from models.classifier.configuration import AnalyticConfig, BackboneConfig
from models.classifier.features import FeatureMap, FrozenLayer, draw_projection
from models.classifier.ridge import StaleFactor
from models.errors import CheckpointError, UnknownArchitectureError
from tests.reference.classifier_data import clusters, silent

RECIPE = {"feature_dim": 24, "max_records": 1000}


@pytest.fixture(scope="module")
def model() -> AnalyticClassifier:
    return runtime.train(clusters(held_out=12), RECIPE, seed=1, progress=silent)


@pytest.fixture
def checkpoint(model, tmp_path):
    runtime.save_model(model, tmp_path)
    return tmp_path


def test_a_trained_model_knows_its_clusters(model):
    data = clusters(held_out=12)
    held_out = data.audit()
    assert (model.predict(held_out.features) == held_out.labels).double().mean() > 0.9
    assert model.statistics.records == 60


def test_the_head_is_the_ridge_solution_of_dense_arithmetic(model):
    data = clusters().training()
    features = model.features(data.features)
    dense = torch.linalg.solve(
        features.T @ features + 0.1 * torch.eye(24, dtype=torch.float64),
        features.T @ torch.nn.functional.one_hot(data.labels, 3).to(torch.float64),
    )
    torch.testing.assert_close(model.head, dense, rtol=1e-9, atol=1e-12)


def test_the_same_seed_trains_the_same_model_and_another_seed_another(model):
    again = runtime.train(clusters(held_out=12), RECIPE, seed=1, progress=silent)
    other = runtime.train(clusters(held_out=12), RECIPE, seed=2, progress=silent)
    assert torch.equal(again.head, model.head)
    assert again.statistics.equal(model.statistics)
    assert not torch.equal(other.head, model.head)


def test_the_order_and_the_chunks_of_the_records_do_not_matter(model, monkeypatch):
    data = clusters()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    shuffled = dataclasses.replace(
        data,
        ids=tuple(data.ids[index] for index in order),
        features=data.features[order],
        labels=data.labels[order],
        held_out=data.held_out[order],
    )
    monkeypatch.setattr(analytic, "_CHUNK_ELEMENTS", 24 * 7)
    again = runtime.train(shuffled, RECIPE, seed=1, progress=silent)
    assert again.statistics.equal(model.statistics)
    assert torch.equal(again.head, model.head)


def test_held_out_records_are_not_learned(model):
    assert runtime.train(clusters(), RECIPE, seed=1, progress=silent).statistics.equal(model.statistics)


def test_a_class_without_records_is_never_predicted():
    data = dataclasses.replace(clusters(), classes=("a", "b", "c", "empty"))
    model = runtime.train(data, RECIPE, seed=1, progress=silent)
    assert model.head[:, 3].tolist() == [0.0] * 24
    assert not (model.predict(-100 * data.features) == 3).any()
    assert model.scores(data.features)[:, 3].eq(-torch.inf).all()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"feature_dim": 0}, "feature_dim"),
        ({"gamma": -1}, "gamma"),
        ({"learning_rate": 1}, "learning_rate"),
        ({"max_records": 59}, "more than the 59"),
        ({"input_range": 0.01}, "beyond the recipe's input_range"),
    ],
)
def test_a_wrong_recipe_is_a_value_error_that_names_the_field(recipe, message):
    with pytest.raises(ValueError, match=message):
        runtime.train(clusters(), recipe, seed=1, progress=silent)


def test_training_needs_records():
    with pytest.raises(ValueError, match="no training records"):
        runtime.train(clusters(0, held_out=4), RECIPE, seed=1, progress=silent)


def test_an_unknown_architecture_is_named():
    with pytest.raises(UnknownArchitectureError, match=r"transformer.*analytic"):
        runtime.train(clusters(), {"architecture": "transformer"}, seed=1, progress=silent)


def test_progress_ends_at_the_number_of_records():
    steps = []
    runtime.train(clusters(), RECIPE, seed=1, progress=lambda *step: steps.append(step))
    assert steps[-1] == ("learning records", 60, 60)


def test_a_saved_model_is_loaded_bit_by_bit(model, checkpoint):
    loaded = runtime.load_model(checkpoint)
    assert loaded.config == model.config
    assert torch.equal(loaded.head, model.head)
    assert loaded.statistics.equal(model.statistics)
    assert torch.equal(loaded.features.projection, model.features.projection)


def test_the_factor_cache_is_not_saved(model, checkpoint, tmp_path_factory):
    cached = model.with_head(model.statistics, model.head, StaleFactor.of(model.statistics, 0.1))
    other = tmp_path_factory.mktemp("other")
    runtime.save_model(cached, other)
    assert (other / "manifest.json").read_bytes() == (checkpoint / "manifest.json").read_bytes()


def test_a_model_is_described_without_torch_as_with_it(model, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    description = runtime.describe(model)
    assert describe_config("classifier", config) == description
    assert description["family"] == "classifier"
    assert description["architecture"] == "analytic"
    assert description["flops_per_record"] == 2 * 7 * 24 + 24 * 24 + 2 * 24 * 3


def damage(checkpoint, change):
    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    save_file(tensors, checkpoint / "model.safetensors")
    write_manifest(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("head"), "exactly these tensors"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "exactly these tensors"),
        (lambda tensors: tensors.update(head=tensors["head"].float()), "tensor head must have"),
        (lambda tensors: tensors.update(gram=tensors["gram"][:-1].clone()), "tensor gram must have"),
        (lambda tensors: tensors["counts"].fill_(-1), "counts"),
        (lambda tensors: tensors["counts"].fill_(10**6), "counts"),
        (lambda tensors: tensors["cross"].add_(2.0**-40), "cross is off its grid"),
        (lambda tensors: tensors["gram"].fill_(torch.nan), "gram is off its grid"),
        (lambda tensors: tensors["gram"].fill_(torch.inf), "gram is off its grid"),
        (lambda tensors: tensors["gram"][1].add_(1.0), "gram is not symmetric"),
        (lambda tensors: tensors["projection"].fill_(32_767), "contradicts config.json"),
    ],
)
def test_a_checkpoint_that_no_records_led_to_is_refused(checkpoint, change, message):
    damage(checkpoint, change)
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(checkpoint)


def test_a_file_that_differs_from_its_digest_is_refused(checkpoint):
    path = checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        runtime.load_model(checkpoint)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "unheard_of"}, "no classifier architecture 'unheard_of'"),
        ({"gamma": 0}, "gamma"),
        ({"classes": ["a", "a", "b"]}, "distinct"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_configuration_is_refused(checkpoint, fields, message):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | fields))
    write_manifest(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        runtime.load_model(checkpoint)


def test_a_frozen_backbone_is_saved_loaded_and_declared(model, tmp_path):
    generator = torch.Generator().manual_seed(4)
    layers = (
        FrozenLayer(torch.randn(10, 6, generator=generator), torch.randn(10, generator=generator)),
        FrozenLayer(torch.randn(8, 10, generator=generator), torch.randn(8, generator=generator)),
    )
    projection, weight_bits = draw_projection(8, 24, generator)
    config = AnalyticConfig.model_validate(
        model.config.model_dump()
        | {
            "backbone": BackboneConfig(kind="mlp", fitted_on="training_data", widths=(10, 8)),
            "weight_bits": weight_bits,
            "feature_bound": 64.0,
            "feature_bits": 10,
        }
    )
    data = clusters()
    trained = analytic.fit(FeatureMap(config, projection, layers), data.features, data.labels, silent)
    runtime.save_model(trained, tmp_path)
    loaded = runtime.load_model(tmp_path)
    assert torch.equal(loaded.scores(data.features), trained.scores(data.features))
    assert "head alone" in runtime.describe(loaded)["exactness"]
    assert runtime.describe(loaded)["backbone_fitted_on"] == "training_data"


def test_a_truncated_file_is_refused(checkpoint, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(checkpoint, copy, dirs_exist_ok=True)
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    write_manifest(copy)
    with pytest.raises(CheckpointError, match="cannot be read"):
        runtime.load_model(copy)


def test_a_gamma_lost_in_rounding_is_refused():
    with pytest.raises(ValueError, match="lost in rounding"):
        runtime.train(clusters(4), {"feature_dim": 64, "gamma": 1e-30}, seed=1, progress=silent)


def test_logits_are_finite_scores_and_embeddings_what_the_head_reads(model, monkeypatch):
    data = clusters(held_out=12)
    assert torch.equal(model.logits(data.features), model.scores(data.features))
    assert torch.equal(model.embeddings(data.features), model.features(data.features))
    monkeypatch.setattr(analytic, "_CHUNK_ELEMENTS", 24 * 7)
    assert torch.equal(model.embeddings(data.features), model.features(data.features))
    emptied = dataclasses.replace(clusters(), classes=("a", "b", "c", "empty"))
    without = runtime.train(emptied, RECIPE, seed=1, progress=silent)
    assert without.logits(data.features)[:, 3].tolist() == [0.0] * 72
