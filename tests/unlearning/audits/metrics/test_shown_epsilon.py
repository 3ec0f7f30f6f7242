import math

import pytest

from unlearning.audits.metrics.shown_epsilon import epsilon_cap, shown_epsilon
from unlearning.errors import MetricError


@pytest.mark.parametrize(
    ("models", "cap"), [(2, 0.0), (3, math.log(2)), (17, math.log(16)), (257, math.log(256))]
)
def test_the_cap_is_the_logarithm_of_all_models_but_one(models, cap):
    assert epsilon_cap(models) == cap


@pytest.mark.parametrize("models", [1, 0, -3])
def test_one_model_shows_nothing(models):
    with pytest.raises(MetricError, match="at least 2"):
        epsilon_cap(models)


@pytest.mark.parametrize(
    ("tpr", "fpr", "delta", "epsilon"),
    [
        (0.5, 0.1, 0.0, math.log(5)),
        (0.5, 0.1, 0.1, math.log(4)),
        (0.1, 0.1, 0.0, 0.0),
        (0.05, 0.1, 0.0, 0.0),  # worse than chance shows nothing, not a negative ε
        (0.0, 0.1, 0.0, 0.0),
        (0.1, 0.1, 0.2, 0.0),
        (1.0, 1e-6, 0.0, math.log(99)),  # capped: 100 models
    ],
)
def test_the_rates_show_an_epsilon_up_to_the_cap(tpr, fpr, delta, epsilon):
    assert shown_epsilon(tpr, fpr, 100, delta=delta) == pytest.approx(epsilon, abs=1e-12)


@pytest.mark.parametrize(
    ("tpr", "fpr", "delta"),
    [(0.5, 0.0, 0.0), (1.5, 0.1, 0.0), (math.nan, 0.1, 0.0), (0.5, math.nan, 0.0), (0.5, 0.1, 1.0)],
)
def test_rates_that_bound_nothing_are_refused(tpr, fpr, delta):
    with pytest.raises(MetricError, match="bound no ε"):
        shown_epsilon(tpr, fpr, 100, delta=delta)
