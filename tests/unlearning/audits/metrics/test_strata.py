import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.audits.metrics.strata import strata
from unlearning.errors import MetricError


def test_the_worked_example():
    # Of eight records a quarter is two: 1, 2 at the bottom and 7, 8 at the top.
    ends = strata(torch.tensor([5.0, 1.0, 8.0, 3.0, 2.0, 7.0, 4.0, 6.0]), 0.25)
    assert (ends.bottom.tolist(), ends.top.tolist()) == ([1, 4], [2, 5])
    assert (ends.bottom_cut, ends.top_cut) == (2.0, 7.0)


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(st.integers(0, 8), min_size=4, max_size=40),
    share=st.floats(0.1, 0.5),
    seed=st.integers(0, 9),
)
def test_strata_hold_the_ends_and_do_not_depend_on_order(scores, share, seed):
    values = torch.tensor(scores)
    try:
        ends = strata(values, share)
    except MetricError:
        return
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    shuffled = strata(values[order], share)
    assert sorted(order[shuffled.bottom].tolist()) == ends.bottom.tolist()
    assert sorted(order[shuffled.top].tolist()) == ends.top.tolist()
    bottom, top = set(ends.bottom.tolist()), set(ends.top.tolist())
    assert not bottom & top
    assert min(len(bottom), len(top)) >= int(share * len(scores))
    middle = [scores[i] for i in range(len(scores)) if i not in bottom | top]
    assert all(ends.bottom_cut < score < ends.top_cut for score in middle)


@pytest.mark.parametrize("scores", [[1.0] * 9, [0.0, 0.0, 0.0, 0.0, 1.0]])
def test_scores_that_are_too_much_alike_have_no_strata(scores):
    with pytest.raises(MetricError, match="too many records are alike"):
        strata(torch.tensor(scores), 0.4)


def test_too_few_records_have_no_strata():
    with pytest.raises(MetricError, match=r"3 records have no stratum of 25.00%"):
        strata(torch.arange(3), 0.25)


@pytest.mark.parametrize("share", [0.0, 0.51, -1.0, float("nan")])
def test_shares_that_cannot_be_are_refused(share):
    with pytest.raises(MetricError, match="not possible"):
        strata(torch.arange(9), share)
