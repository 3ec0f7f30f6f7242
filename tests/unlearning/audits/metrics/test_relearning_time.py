import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.audits.metrics.relearning_time import relearning_time, steps_to_reach
from unlearning.errors import MetricError

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(curve=shares, target=st.floats(0, 1))
def test_the_first_step_at_the_target_counts(curve, target):
    if max(curve) < target:
        with pytest.raises(MetricError, match="did not reach"):
            steps_to_reach(curve, target)
    else:
        step = steps_to_reach(curve, target)
        assert curve[step] >= target
        assert all(share < target for share in curve[:step])


def test_the_worked_example():
    # The audited model is back at 0.9 after 3 steps, the retrained ones after 6 and 4: 3 / 5, from 3/6 to 3/4.
    curve = [0.2, 0.5, 0.8, 0.9]
    references = [[0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.95], [0.1, 0.3, 0.5, 0.7, 1.0]]
    time = relearning_time(curve, references, 0.9)
    assert (time.value, time.interval, time.n) == (0.6, (0.5, 0.75), 2)
    assert (time.steps, time.reference_steps) == (3, (6, 4))


def test_a_model_that_never_forgot_takes_no_time():
    assert relearning_time([1.0, 1.0], [[0.0, 1.0]], 1.0).value == 0


def test_never_getting_there_is_not_a_number():
    with pytest.raises(MetricError, match=r"audited model did not reach 0.9 within 2 steps"):
        relearning_time([0.1, 0.2, 0.3], [[0.1, 0.95]], 0.9)
    with pytest.raises(MetricError, match=r"retrained model did not reach 0.9 within 1 steps"):
        relearning_time([0.1, 0.95], [[0.1, 0.95], [0.1, 0.2]], 0.9)


def test_a_set_that_a_retrained_model_knows_anyway_has_no_power():
    with pytest.raises(MetricError, match="nothing was memorised"):
        relearning_time([0.9], [[0.1, 0.9], [0.9, 0.9]], 0.9)


@pytest.mark.parametrize(
    ("curve", "references", "target"),
    [
        ([], [[0.1, 0.9]], 0.9),
        ([0.1, 0.9], [], 0.9),
        ([0.1, 0.9], [[]], 0.9),
        ([0.1, math.nan, 0.9], [[0.1, 0.9]], 0.9),
        ([0.1, 0.9], [[0.1, math.inf]], 0.9),
        ([10.0, 90.0], [[0.1, 0.9]], 0.9),
        ([0.1, 0.9], [[0.1, 0.9]], math.nan),
        ([0.1, 0.9], [[0.1, 0.9]], 90.0),
    ],
)
def test_curves_that_are_none_are_refused(curve, references, target):
    with pytest.raises(MetricError):
        relearning_time(curve, references, target)
