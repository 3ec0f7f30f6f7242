import dataclasses

import pytest
import torch

from models.classifier.configuration import AnalyticConfig, BackboneConfig
from models.classifier.features import (
    FeatureMap,
    FrozenLayer,
    choose_feature_bits,
    draw_projection,
    feature_bound,
)


def config(**changes) -> AnalyticConfig:
    fields = {
        "classes": ("a", "b"),
        "input_width": 2,
        "feature_dim": 2,
        "gamma": 0.1,
        "seed": 0,
        "input_range": 4.0,
        "input_bits": 2,
        "weight_bits": 1,
        "feature_bits": 1,
        "feature_bound": 10.0,
        "max_records": 100,
    }
    return AnalyticConfig(**fields | changes)


# Weights 1.5, -0.5 / -1, 0.5 and bias 0.5, 1, in halves.
PROJECTION = torch.tensor([[3, -1], [-2, 1], [1, 2]], dtype=torch.int16)


def test_features_are_those_worked_by_hand():
    # Inputs 2 and -1 over the range 4 are 0.5 and -0.25, both quarters.
    # Column 1: 0.5 * 1.5 + 0.25 * 1 + 0.5 = 1.5. Column 2: -0.25 - 0.125 + 1 = 0.625, rounded to a half: 0.5.
    features = FeatureMap(config(), PROJECTION)(torch.tensor([[2, -1]]))
    assert features.tolist() == [[1.5, 0.5]]
    assert features.dtype == torch.float64


def test_negative_projections_become_zero():
    features = FeatureMap(config(), PROJECTION)(torch.tensor([[-4.0, 4.0]]))
    assert features.tolist() == [[0.0, 2.0]]  # -1.5 - 1 + 0.5 < 0, and 0.5 + 0.5 + 1


def test_without_a_range_each_record_is_scaled_by_its_own_largest_magnitude():
    features = FeatureMap(config(input_range=None), PROJECTION)
    assert torch.equal(features(torch.tensor([[100.0, -50.0]])), features(torch.tensor([[2.0, -1.0]])))
    assert features(torch.zeros(1, 2)).tolist() == [[0.5, 1.0]]  # the bias alone


def test_a_record_gives_the_same_bits_alone_and_in_every_batch():
    projection, weight_bits = draw_projection(50, 64, torch.Generator().manual_seed(1))
    bound = feature_bound(projection, weight_bits)
    features = FeatureMap(
        config(
            input_width=50,
            feature_dim=64,
            input_range=None,
            input_bits=12,
            weight_bits=weight_bits,
            feature_bits=choose_feature_bits(bound, 1000),
            feature_bound=bound,
            max_records=1000,
        ),
        projection,
    )
    inputs = torch.randn(33, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    together = features(inputs)
    alone = torch.cat([features(row) for row in inputs.split(1)])
    assert torch.equal(together, alone)
    assert torch.equal(together.flip(0), features(inputs.flip(0)))


def test_a_backbone_gives_the_same_bits_alone_and_in_every_batch():
    generator = torch.Generator().manual_seed(3)
    layer = FrozenLayer(torch.randn(2, 40, generator=generator), torch.randn(2, generator=generator))
    features = FeatureMap(
        config(
            input_width=40,
            input_range=None,
            backbone=BackboneConfig(kind="mlp", fitted_on="public", widths=(2,)),
        ),
        PROJECTION,
        (layer,),
    )
    inputs = torch.randn(9, 40, generator=generator)
    together = features(inputs)
    assert torch.equal(together, torch.cat([features(row) for row in inputs.split(1)]))
    assert together.unique(dim=0).shape[0] > 1


def test_inputs_beyond_the_range_saturate_and_can_be_refused():
    features = FeatureMap(config(), PROJECTION)
    assert torch.equal(features(torch.tensor([[8.0, 0.0]])), features(torch.tensor([[4.0, 0.0]])))
    features.check_inputs(torch.tensor([[4.0, 0.0]]))
    with pytest.raises(ValueError, match="reach 8, beyond the recipe's input_range of 4"):
        features.check_inputs(torch.tensor([[8.0, 0.0]]))


@pytest.mark.parametrize("inputs", [torch.zeros(1, 3), torch.zeros(2), torch.tensor([[0.0, torch.nan]])])
def test_inputs_of_another_shape_or_not_finite_are_refused(inputs):
    with pytest.raises(ValueError, match="inputs must"):
        FeatureMap(config(), PROJECTION)(inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_bound": 1.0}, "smaller than what the projection can reach"),
        ({"max_records": 2**50}, "would not be exact on the declared feature grid"),
        ({"feature_bits": 26}, "would not be exact on the declared feature grid"),
        ({"input_width": 3}, "must be int16 of shape"),
        ({"backbone": BackboneConfig(kind="mlp", fitted_on="public", widths=(2,))}, "backbone's layers"),
    ],
)
def test_a_grid_that_cannot_be_exact_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FeatureMap(config(**changes), PROJECTION)


def test_projection_sums_beyond_53_bits_are_refused():
    wide = config(input_width=2**10, input_bits=30)
    with pytest.raises(ValueError, match="weights are too large"):
        FeatureMap(wide, torch.full((2**10 + 1, 2), 32_767, dtype=torch.int16))


def test_the_finest_grid_on_which_sums_are_exact_is_chosen():
    bits = choose_feature_bits(8.5, 1000)
    assert 1000 * (8.5 * 2**bits) ** 2 < 2**53 <= 1000 * (8.5 * 2 ** (bits + 1)) ** 2
    with pytest.raises(ValueError, match="lower max_records"):
        choose_feature_bits(2.0**20, 2**20)


def test_a_backbone_needs_widths_and_none_needs_no_declaration():
    with pytest.raises(ValueError, match="needs the width"):
        BackboneConfig(kind="mlp", fitted_on="public")
    with pytest.raises(ValueError, match="fitted on nothing"):
        BackboneConfig(kind="none", fitted_on="training_data")
    assert "head alone" in BackboneConfig(kind="mlp", fitted_on="training_data", widths=(1,)).covers
    assert "whole model" in BackboneConfig().covers


def test_feature_maps_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FeatureMap(config(), PROJECTION).config = config()
