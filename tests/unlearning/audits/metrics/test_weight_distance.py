import math

import numpy as np
import pytest
import torch

from unlearning.audits.metrics.weight_distance import weight_distance
from unlearning.errors import MetricError


def test_it_is_numpys_norm_of_all_weights_laid_end_to_end():
    generator = np.random.default_rng(0)
    shapes = {"weight": (4, 3), "bias": (4,), "scale": ()}
    ours, theirs = ({name: generator.normal(size=shape) for name, shape in shapes.items()} for _ in range(2))
    flat = [np.concatenate([np.ravel(one[name]) for name in shapes]) for one in (ours, theirs)]
    measured = weight_distance(
        {name: torch.tensor(value) for name, value in ours.items()},
        {name: torch.tensor(value) for name, value in reversed(theirs.items())},
    )
    assert measured.absolute == pytest.approx(np.linalg.norm(flat[0] - flat[1]), rel=1e-12)
    assert measured.value == pytest.approx(measured.absolute / np.linalg.norm(flat[1]), rel=1e-12)
    assert measured.n == 17


def test_counters_are_no_weights():
    ours = {"w": torch.tensor([1.0]), "steps": torch.tensor(3)}
    theirs = {"w": torch.tensor([2.0]), "steps": torch.tensor(900)}
    assert weight_distance(ours, theirs).value == 0.5


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, "by name"),
        ({"a": torch.ones(2)}, {"a": torch.ones(1)}, "'a' differ in shape"),
        ({"a": torch.ones(2)}, {"a": torch.ones(2, dtype=torch.int64)}, "'a' differ in shape or type"),
        ({"a": torch.ones(2)}, {"a": torch.zeros(2)}, "all zero"),
        ({}, {}, "all zero"),
        ({"a": torch.tensor([math.nan])}, {"a": torch.ones(1)}, "not finite"),
        ({"a": torch.ones(1)}, {"a": torch.tensor([math.inf])}, "not finite"),
    ],
)
def test_weights_that_cannot_be_compared_are_refused(ours, theirs, reason):
    with pytest.raises(MetricError, match=reason):
        weight_distance(ours, theirs)
