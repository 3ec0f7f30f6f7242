import math

import torch

from unlearning.audits.metrics.head_distance import relative_distance


def test_distance_of_heads():
    zeros = torch.zeros(2, 2)
    assert relative_distance(zeros, zeros) == 0
    assert relative_distance(torch.ones(2, 2), zeros) == math.inf
    assert math.isnan(relative_distance(torch.full((2, 2), math.nan), torch.ones(2, 2)))
