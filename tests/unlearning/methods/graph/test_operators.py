import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.methods.graph.operators import Aims, OperatorDescent, Quadratic, residual_slope


def draw(seed, moved, kept, width=4):
    """Draw outputs and aims; ends may stand there more than once."""
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, min(moved, 3) + kept)
    outputs = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    aims = Aims(
        moved=torch.randint(max(1, rows - kept), (moved,), generator=generator),
        targets=torch.randn(moved, width, generator=generator, dtype=torch.float64),
        kept=torch.arange(rows - kept, rows) if kept else torch.empty(0, dtype=torch.int64),
        originals=torch.randn(rows, width, generator=generator, dtype=torch.float64),
    )
    return outputs, aims, torch.randn(width, width, generator=generator, dtype=torch.float64)


def plain_loss(outputs, operator, aims, balance):
    """λ · MSE(M W, T) + (1 - λ) · MSE(K W, O), as the paper writes it."""
    made = outputs @ operator
    total = 0.0 * operator.sum()
    if len(aims.moved):
        total = total + balance * (made[aims.moved] - aims.targets).square().mean()
    if len(aims.kept):
        total = total + (1 - balance) * (made[aims.kept] - aims.originals[aims.kept]).square().mean()
    return total


@given(seed=st.integers(0, 10_000), moved=st.integers(0, 5), kept=st.integers(0, 6), balance=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_both_ways_of_computing_the_loss_are_the_plain_one_and_its_derivative(seed, moved, kept, balance):
    outputs, aims, operator = draw(seed, moved, kept)
    variable = operator.clone().requires_grad_()
    total = plain_loss(outputs, variable, aims, balance)
    (slope,) = torch.autograd.grad(total, variable)
    quadratic = Quadratic.of(outputs, aims, balance)
    summed, gradient = quadratic.slope(operator)
    assert summed == pytest.approx(total.item(), abs=1e-10)
    assert torch.allclose(gradient, slope, atol=1e-10)
    loss, gradient, made = residual_slope(outputs, operator, aims, balance)
    assert loss == pytest.approx(total.item(), abs=1e-10)
    assert torch.allclose(gradient, slope, atol=1e-10)
    assert torch.equal(made, outputs @ operator)


def test_ends_without_a_neighbourhood_have_a_loss_that_is_a_number():
    """The mean over an empty neighbourhood is NaN, and the published loss with it."""
    outputs, aims, operator = draw(0, moved=2, kept=0)
    assert Quadratic.of(outputs, aims, 0.5).slope(operator)[1].isfinite().all()
    assert residual_slope(outputs, operator, aims, 0.5)[1].isfinite().all()


def test_an_operator_starts_where_it_changes_nothing():
    """Published: ones/1000, of rank 1, which maps every embedding onto one line before anything is learned."""
    outputs = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = OperatorDescent(5, 1e-3).operator
    assert torch.equal(outputs @ start, outputs)
    assert torch.linalg.matrix_rank(start) == 5
    assert torch.linalg.matrix_rank(outputs @ (torch.ones(5, 5, dtype=torch.float64) / 1000)) == 1


def test_adam_lowers_a_quadratic_to_its_least_value():
    outputs, aims, _ = draw(3, moved=3, kept=6)
    quadratic = Quadratic.of(outputs, aims, 0.5)
    descent = OperatorDescent(4, 0.05)
    losses = list(descent.minimise(quadratic, 2000))
    best = torch.linalg.solve(quadratic.curvature, quadratic.pull)
    assert losses[0] == pytest.approx(quadratic.slope(torch.eye(4, dtype=torch.float64))[0])
    assert losses[-1] == pytest.approx(quadratic.slope(best)[0], abs=1e-6)


def test_a_gradient_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="no longer a number"):
        OperatorDescent(2, 1e-3).step(torch.full((2, 2), torch.nan))
