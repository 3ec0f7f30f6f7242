import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from unlearning.audits.metrics.jensen_shannon import divergences, jensen_shannon
from unlearning.errors import MetricError


def logits(seed, records=15, classes=4):
    return (
        torch.randn(records, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    )


@settings(max_examples=25, deadline=None)
@given(one=st.integers(0, 50), other=st.integers(0, 50))
def test_it_is_the_square_of_scipys_distance_of_each_record(one, other):
    p, q = logits(one).softmax(dim=1), logits(other).softmax(dim=1)
    expected = [
        jensenshannon(row, reference) ** 2 for row, reference in zip(p.tolist(), q.tolist(), strict=True)
    ]
    measured = divergences(logits(one), logits(other))
    assert measured.tolist() == pytest.approx(expected, abs=1e-12)
    assert jensen_shannon(logits(one), logits(other)).value == pytest.approx(sum(expected) / 15, abs=1e-12)


def test_it_is_symmetric():
    assert torch.equal(divergences(logits(0), logits(1)), divergences(logits(1), logits(0)))


def test_predictions_without_overlap_are_ln_2_apart():
    one, other = torch.tensor([[800.0, 0.0]] * 2), torch.tensor([[0.0, 800.0]] * 2)
    measured = jensen_shannon(one, other)
    assert measured.value == pytest.approx(math.log(2), abs=1e-12)
    assert measured.interval[1] <= math.log(2)


def test_it_is_not_the_published_mistake():
    # By hand, for p = (0.9, 0.1) and q = (0.1, 0.9), m = (0.5, 0.5):
    # right:  KL(p || m) = 0.9 ln 1.8 + 0.1 ln 0.2 = 0.368064, and the same of q.
    # wrong:  KL(m || p) = 0.5 ln (0.5/0.9) + 0.5 ln (0.5/0.1) = 0.510826, halved by the mean over the two classes.
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1]], dtype=torch.float64)
    q = p.flip(1)
    m = (p + q) / 2
    # In torch's terms: kl_div(p.log(), m) + kl_div(q.log(), m), with the mean over records and classes.
    wrong = 0.5 * ((m * (m / p).log()).mean() + (m * (m / q).log()).mean())
    assert wrong.item() == pytest.approx(0.255413, abs=1e-6)
    assert jensen_shannon(p.log(), q.log()).value == pytest.approx(0.368064, abs=1e-6)


def test_one_record_has_no_interval():
    with pytest.raises(MetricError, match="too few"):
        jensen_shannon(torch.zeros(1, 2), torch.zeros(1, 2))
