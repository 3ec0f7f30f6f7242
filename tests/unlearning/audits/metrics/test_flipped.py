import pytest
import torch
from scipy.stats import binomtest

from unlearning.audits.metrics.flipped import flipped
from unlearning.errors import MetricError

ONE = torch.tensor([0, 1, 2, 2, 1, 0, 1, 1])
OTHER = torch.tensor([0, 2, 2, 2, 1, 1, 1, 1])


def test_it_is_the_share_of_differing_decisions_with_an_exact_interval():
    found = flipped(ONE, OTHER)
    expected = binomtest(2, 8).proportion_ci(0.95, method="exact")
    assert found.value == 2 / 8
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.n == 8
    assert found == flipped(OTHER, ONE)
    assert flipped(ONE > 0, OTHER > 0).value == 1 / 8


def test_the_same_decisions_are_none_but_not_surely_none():
    found = flipped(ONE, ONE)
    assert found.value == found.interval[0] == 0 < found.interval[1]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (OTHER[:4], "not paired"),
        (OTHER[None], "not paired"),
        (OTHER.float(), "not scores"),
    ],
)
def test_what_cannot_be_compared_is_refused(other, reason):
    with pytest.raises(MetricError, match=reason):
        flipped(ONE, other)


def test_no_items_are_refused():
    with pytest.raises(MetricError, match="no other items"):
        flipped(ONE[:0], ONE[:0])
