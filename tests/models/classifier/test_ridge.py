import pytest
import torch

from models.classifier.ridge import (
    HeadError,
    NotPositiveDefiniteError,
    StaleFactor,
    backward_limit,
    correct_head,
    residual,
    rounding_hides_gamma,
    solve_head,
    solve_lower,
    solve_lower_transposed,
)
from models.classifier.statistics import Statistics, one_hot

GAMMA = 0.1


def make(rows: torch.Tensor, labels: torch.Tensor, classes: int = 3) -> Statistics:
    statistics = Statistics.zeros(rows.shape[1], classes)
    statistics.add_(rows, labels)
    return statistics


@pytest.fixture
def rows() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2**10, (40, 8), generator=generator).to(torch.float64) * 2.0**-9


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(40) % 2


def test_the_head_of_one_record_is_the_one_worked_by_hand():
    # G + γI = [[4 + 1]], C = [2, 0]: W = [0.4, 0].
    statistics = make(torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([0]), classes=2)
    torch.testing.assert_close(solve_head(statistics, 1.0), torch.tensor([[0.4, 0.0]], dtype=torch.float64))


def test_a_class_without_records_has_exactly_zeros(rows, labels):
    head = solve_head(make(rows, labels), GAMMA)
    assert head[:, 2].tolist() == [0.0] * 8
    assert (head[:, :2] != 0).all()


def test_statistics_that_no_records_have_are_not_solved(rows, labels):
    statistics = make(rows, labels)
    statistics.add_(3 * rows[:1], labels[:1], sign=-1)
    with pytest.raises(NotPositiveDefiniteError):
        solve_head(statistics, 1e-9)


def test_the_bound_holds_and_grows_with_the_error(rows, labels):
    statistics = make(rows, labels)
    exact = solve_head(statistics, GAMMA)
    assert HeadError.of(statistics, GAMMA, exact).backward <= backward_limit(8)
    wrong = exact + 1e-6
    error = HeadError.of(statistics, GAMMA, wrong)
    assert error.bound >= float((wrong - exact).norm() / wrong.norm())
    assert error.backward > backward_limit(8)


def test_a_head_of_nan_or_zeros_is_never_within_the_limit(rows, labels):
    statistics = make(rows, labels)
    for value in (float("nan"), 0.0):
        error = HeadError.of(statistics, GAMMA, torch.full((8, 3), value, dtype=torch.float64))
        assert not error.backward <= backward_limit(8)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 12, 14])
@pytest.mark.parametrize("columns", [0, 1, 3])
def test_blocks_solve_a_triangular_system_as_the_library_does(size, columns, monkeypatch):
    monkeypatch.setattr("models.classifier.ridge._BLOCK", 4)
    generator = torch.Generator().manual_seed(size)
    dense = torch.randn(size, size, dtype=torch.float64, generator=generator)
    lower = torch.linalg.cholesky(dense @ dense.T + torch.eye(size, dtype=torch.float64))
    right = torch.randn(size, columns, dtype=torch.float64, generator=generator)
    before = right.clone()
    torch.testing.assert_close(
        solve_lower(lower, right), torch.linalg.solve_triangular(lower, right, upper=False)
    )
    torch.testing.assert_close(
        solve_lower_transposed(lower, right), torch.linalg.solve_triangular(lower.T, right, upper=True)
    )
    assert torch.equal(right, before)


def test_a_stale_factor_answers_for_the_changed_matrix(rows, labels):
    factor = StaleFactor.of(make(rows[:30], labels[:30]), GAMMA)
    factor = factor.changed(rows[:4], -1).changed(rows[30:], 1).changed(rows[10:12], -1)
    kept = torch.cat([rows[4:10], rows[12:]])
    dense = kept.T @ kept + GAMMA * torch.eye(8, dtype=torch.float64)
    right = rows[:8, :3]
    torch.testing.assert_close(factor.solve(right), torch.linalg.solve(dense, right), rtol=1e-9, atol=1e-9)
    weights = one_hot(labels[10:12], 3)
    torch.testing.assert_close(
        factor.solve_last_changes(2, weights),
        torch.linalg.solve(dense, rows[10:12].T @ weights),
        rtol=1e-9,
        atol=1e-9,
    )
    assert factor.rank == 16


def test_a_stale_factor_refuses_a_sample_that_was_not_there(rows, labels):
    factor = StaleFactor.of(make(rows, labels), GAMMA)
    with pytest.raises(NotPositiveDefiniteError):
        factor.changed(rows[:1] * 10, -1)


def test_a_stale_factor_refuses_a_sample_that_was_removed_already():
    # One record per direction: nothing else supports it once it is gone.
    rows = torch.eye(4, dtype=torch.float64) * 3
    factor = StaleFactor.of(make(rows, torch.zeros(4, dtype=torch.int64)), GAMMA).changed(rows[:1], -1)
    with pytest.raises(NotPositiveDefiniteError):
        factor.changed(rows[:1], -1)


def test_refinement_repairs_a_wrong_head_against_the_statistics(rows, labels):
    statistics = make(rows, labels)
    factor = StaleFactor.of(statistics, GAMMA)
    head, error = correct_head(statistics, factor, torch.ones(8, 3, dtype=torch.float64), refinements=3)
    torch.testing.assert_close(head, solve_head(statistics, GAMMA), rtol=1e-10, atol=1e-12)
    assert error.backward <= backward_limit(8)
    assert head[:, 2].tolist() == [0.0] * 8


def test_without_refinements_the_error_is_told(rows, labels):
    statistics = make(rows, labels)
    factor = StaleFactor.of(statistics, GAMMA)
    _, error = correct_head(statistics, factor, torch.ones(8, 3, dtype=torch.float64), refinements=0)
    assert error.backward > backward_limit(8)


def test_the_residual_of_the_zero_head_is_the_right_hand_side(rows, labels):
    statistics = make(rows, labels)
    zeros = torch.zeros(8, 3, dtype=torch.float64)
    assert torch.equal(residual(statistics, GAMMA, zeros), statistics.cross)


def test_a_gamma_below_rounding_is_recognised(rows, labels):
    statistics = make(rows, labels)
    assert rounding_hides_gamma(statistics, 1e-16)
    assert not rounding_hides_gamma(statistics, 1e-6)
