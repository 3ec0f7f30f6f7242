import math

import numpy as np
import pytest
import torch

from unlearning.audits.metrics.activation_distance import activation_distance


def test_it_is_the_mean_euclidean_distance_of_the_softmaxes():
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 12, 4))
    p, q = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (one, other))
    expected = np.mean([math.dist(row, reference) for row, reference in zip(p, q, strict=True)])
    measured = activation_distance(torch.tensor(one), torch.tensor(other))
    assert measured.value == pytest.approx(expected, abs=1e-12)
    assert measured.n == 12
    assert measured == activation_distance(torch.tensor(other), torch.tensor(one))


def test_opposite_certainties_are_the_square_root_of_two_apart():
    one = torch.tensor([[900.0, 0.0], [900.0, 0.0]])
    assert activation_distance(one, one.flip(1)).value == pytest.approx(math.sqrt(2), abs=1e-12)
    assert activation_distance(one, one).value == 0
