"""Solving (G + γI) W = C: afresh, bit for bit reproducible, or by correcting an older factor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.classifier.statistics import Statistics

FLOAT64_EPSILON = 2.0**-53

_BLOCK = 256
"""Columns of a triangular factor that are solved at a time."""


class NotPositiveDefiniteError(ArithmeticError):
    """G + γI is not positive definite: its records cannot all be real, or γ is lost in rounding."""


def solve_head(statistics: Statistics, gamma: float) -> Tensor:
    """Solve for the head from scratch.

    Equal statistics give bit-identical heads on one machine, library and number of threads: the computation is
    the same one. Columns of classes without records are exactly zero.

    Returns:
        W, shape (d, classes).

    Raises:
        NotPositiveDefiniteError: The factorisation failed.
    """
    return _without_empty_classes(
        torch.cholesky_solve(statistics.cross, factorise(statistics, gamma)), statistics
    )


def factorise(statistics: Statistics, gamma: float) -> Tensor:
    """Return the lower Cholesky factor of G + γI, shape (d, d).

    Raises:
        NotPositiveDefiniteError: There is none.
    """
    ridge = statistics.gram.lower()
    ridge.diagonal().add_(gamma)
    factor: Tensor
    factor, failed_at = torch.linalg.cholesky_ex(ridge)
    if failed_at.item():
        raise NotPositiveDefiniteError(f"G + {gamma:g} I is not positive definite")
    return factor


def residual(statistics: Statistics, gamma: float, head: Tensor) -> Tensor:
    """Return C - (G + γI) W, shape (d, classes)."""
    return statistics.cross - statistics.gram.times(head) - gamma * head


@dataclass(frozen=True)
class HeadError:
    """How far a head may be from the solution, by its residual alone.

    Attributes:
        bound: ‖(G + γI)W - C‖_F / γ, relative to ‖W‖_F. Since γ is a lower bound on the eigenvalues of G + γI, it
            bounds ‖W - W*‖_F / ‖W‖_F; it is loose at small γ.
        backward: ‖(G + γI)W - C‖_F / (‖G + γI‖ ‖W‖_F) with the norm bounded by the trace: W solves a system
            that differs from the given one by no more than this share.
    """

    bound: float
    backward: float

    @classmethod
    def of(
        cls, statistics: Statistics, gamma: float, head: Tensor, left: Tensor | None = None
    ) -> "HeadError":
        """Measure a head; `left` is its residual where that is known already."""
        left = residual(statistics, gamma, head) if left is None else left
        size, head_norm = float(left.norm()), float(head.norm())
        if head_norm == 0.0:
            return cls(0.0, 0.0) if size == 0.0 else cls(math.inf, math.inf)
        return cls(size / gamma / head_norm, size / head_norm / _norm_bound(statistics, gamma))


def backward_limit(feature_dim: int) -> float:
    """Return the backward error that a stable solve in float64 stays below (Higham 2002, Theorem 10.4): d·u.

    >>> backward_limit(512) == 512 * 2.0**-53
    True
    """
    return feature_dim * FLOAT64_EPSILON


def rounding_hides_gamma(statistics: Statistics, gamma: float) -> bool:
    """Tell whether γ is so small that a factorisation may fail by rounding, whatever the records."""
    size = len(statistics.cross)
    return gamma <= backward_limit(size) * _norm_bound(statistics, gamma)


def _norm_bound(statistics: Statistics, gamma: float) -> float:
    """Bound the largest eigenvalue of G + γI by its trace: eigenvalues of G are not negative."""
    return float(statistics.gram.diagonal().sum()) + gamma


def _without_empty_classes(head: Tensor, statistics: Statistics) -> Tensor:
    # Row by row, as a checkpoint keeps it: a product's last bits depend on how its factors lie in memory, and a
    # model that was saved and loaded must score as it did before.
    return head.contiguous().masked_fill_((statistics.counts == 0).unsqueeze(0), 0.0)


@dataclass(frozen=True)
class StaleFactor:
    """The Cholesky factor of an older G + γI, and what has been added and removed since.

    It answers for A = L(I + Z D Zᵀ)Lᵀ, where column i of L Z is the feature row of the i-th change and D holds 1
    where it was added, -1 where it was removed. It is a cache: statistics decide what is right, so a solution
    from it is checked against them, and it is never saved, for it still knows what was forgotten.
    """

    gamma: float
    lower: Tensor
    """L, shape (d, d)."""
    changes: Tensor
    """Z = L⁻¹[x₁ … x_m], shape (d, m)."""
    signs: Tensor
    """D's diagonal, shape (m,)."""
    products: Tensor
    """ZᵀZ, shape (m, m)."""

    @classmethod
    def of(cls, statistics: Statistics, gamma: float) -> "StaleFactor":
        """Factorise: the one expensive step, about d³/3 operations.

        Raises:
            NotPositiveDefiniteError: As `factorise`.
        """
        lower = factorise(statistics, gamma)
        empty = lower.new_zeros
        return cls(gamma, lower, empty(len(lower), 0), empty(0), empty(0, 0))

    @property
    def rank(self) -> int:
        """How many changes it carries."""
        return len(self.signs)

    def changed(self, features: Tensor, sign: int) -> "StaleFactor":
        """Add (sign 1) or remove (sign -1) records: one triangular solve for all of them.

        Args:
            features: Shape (n, d).
            sign: 1 or -1.

        Raises:
            NotPositiveDefiniteError: λ_max(X A⁻¹ Xᵀ) ≥ 1 for removed records X: at least one was not in A.
        """
        solved = solve_lower(self.lower, features.T)  # (d, n)
        across = self.changes.T @ solved  # (m, n)
        within = solved.T @ solved  # (n, n)
        if sign < 0:
            _refuse_foreign(within - across.T @ self._solve_small(across))
        return StaleFactor(
            self.gamma,
            self.lower,
            torch.cat([self.changes, solved], dim=1) if self.rank else solved,
            torch.cat([self.signs, self.signs.new_full((len(features),), sign)]),
            torch.cat([torch.cat([self.products, across], dim=1), torch.cat([across.T, within], dim=1)]),
        )

    def solve(self, right: Tensor) -> Tensor:
        """Solve A X = `right`: shape (d, c) -> (d, c)."""
        half_solved = solve_lower(self.lower, right)
        # Woodbury's identity: (I + Z D Zᵀ)⁻¹ v = v - Z (D + ZᵀZ)⁻¹ Zᵀ v
        inner = half_solved - self.changes @ self._solve_small(self.changes.T @ half_solved)
        return solve_lower_transposed(self.lower, inner)

    def solve_last_changes(self, count: int, weights: Tensor) -> Tensor:
        """Solve A X = Xᵀ B for the last `count` changes' rows X, whose triangular solve is already in Z.

        Args:
            count: How many changes.
            weights: B, shape (count, c).

        Returns:
            Shape (d, c).
        """
        # Woodbury's identity again, with v = Z B: all that is long is one product with Z.
        inner = -self._solve_small(self.products[:, self.rank - count :] @ weights)  # (m, c)
        inner[self.rank - count :] += weights
        return solve_lower_transposed(self.lower, self.changes @ inner)

    def _solve_small(self, right: Tensor) -> Tensor:
        """Apply (D + ZᵀZ)⁻¹: shape (m, c) -> (m, c)."""
        solved: Tensor = torch.linalg.solve(self.products + self.signs.diag(), right)
        return solved


def _refuse_foreign(removed: Tensor) -> None:
    """Removing X leaves a positive definite matrix exactly if I - X A⁻¹ Xᵀ is one; `removed` is X A⁻¹ Xᵀ, (n, n)."""
    remaining = torch.eye(len(removed), dtype=torch.float64) - removed
    if torch.linalg.cholesky_ex(remaining).info.item():
        raise NotPositiveDefiniteError("the largest eigenvalue of X R Xᵀ is not below 1")


def solve_lower(lower: Tensor, right: Tensor) -> Tensor:
    """Solve L X = `right` block by block: shape (d, c) -> (d, c).

    A library's triangular solve of a few columns takes up to four times as long as reading L does; in blocks, all
    but the diagonal is matrix products, which run at the memory's speed. The order is that of the columns of L,
    which is how a Cholesky factor lies in memory.
    """
    rows = right.T.clone(memory_format=torch.contiguous_format)  # (c, d)
    for start in range(0, len(lower), _BLOCK):
        stop = min(start + _BLOCK, len(lower))
        block = torch.linalg.solve_triangular(
            lower[start:stop, start:stop].T, rows[:, start:stop], upper=True, left=False
        )
        rows[:, start:stop] = block
        rows[:, stop:].addmm_(block, lower[stop:, start:stop].T, alpha=-1)
    return rows.T


def solve_lower_transposed(lower: Tensor, right: Tensor) -> Tensor:
    """Solve Lᵀ X = `right` block by block, as `solve_lower` does: shape (d, c) -> (d, c)."""
    rows = right.T.clone(memory_format=torch.contiguous_format)  # (c, d)
    for start in reversed(range(0, len(lower), _BLOCK)):
        stop = min(start + _BLOCK, len(lower))
        block = rows[:, start:stop].addmm_(rows[:, stop:], lower[stop:, start:stop], alpha=-1)
        rows[:, start:stop] = torch.linalg.solve_triangular(
            lower[start:stop, start:stop], block, upper=False, left=False
        )
    return rows.T


def correct_head(
    statistics: Statistics, factor: StaleFactor, guess: Tensor, refinements: int
) -> tuple[Tensor, HeadError]:
    """Refine a head against the exact statistics: W ← W + A⁻¹ (C - (G + γI) W), with A⁻¹ from a stale factor.

    Stops as soon as the head is as good as a fresh solve's.

    Returns:
        The head and its error.
    """
    head = _without_empty_classes(guess, statistics)
    limit = backward_limit(len(head))
    left = residual(statistics, factor.gamma, head)
    error = HeadError.of(statistics, factor.gamma, head, left)
    for _ in range(refinements):
        if error.backward <= limit:
            break
        head = _without_empty_classes(head + factor.solve(left), statistics)
        left = residual(statistics, factor.gamma, head)
        error = HeadError.of(statistics, factor.gamma, head, left)
    return head, error
