"""Solving (G + γI) W = C: afresh, bit for bit reproducible, or by correcting an older factor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.classifier.statistics import Statistics

FLOAT64_EPSILON = 2.0**-53


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
    return head.masked_fill_((statistics.counts == 0).unsqueeze(0), 0.0)


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

    @classmethod
    def of(cls, statistics: Statistics, gamma: float) -> "StaleFactor":
        """Factorise: the one expensive step, about d³/3 operations.

        Raises:
            NotPositiveDefiniteError: As `factorise`.
        """
        lower = factorise(statistics, gamma)
        return cls(gamma, lower, lower.new_zeros(len(lower), 0), lower.new_zeros(0))

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
        solved = torch.linalg.solve_triangular(self.lower, features.T, upper=False)  # (d, n)
        if sign < 0:
            self._refuse_foreign(solved)
        return StaleFactor(
            self.gamma,
            self.lower,
            torch.cat([self.changes, solved], dim=1) if self.rank else solved,
            torch.cat([self.signs, self.signs.new_full((len(features),), sign)]),
        )

    def _refuse_foreign(self, solved: Tensor) -> None:
        """Removing X leaves a positive definite matrix exactly if I - X A⁻¹ Xᵀ is one, and that is only (n, n)."""
        remaining = torch.eye(solved.shape[1], dtype=torch.float64) - solved.T @ self._inner(solved)
        if torch.linalg.cholesky_ex(remaining).info.item():
            raise NotPositiveDefiniteError("the largest eigenvalue of X R Xᵀ is not below 1")

    def _inner(self, columns: Tensor) -> Tensor:
        """Apply (I + Z D Zᵀ)⁻¹ by Woodbury's identity: v - Z (D + ZᵀZ)⁻¹ Zᵀ v."""
        if not self.rank:
            return columns
        small = self.changes.T @ self.changes + self.signs.diag()  # (m, m)
        inner: Tensor = columns - self.changes @ torch.linalg.solve(small, self.changes.T @ columns)
        return inner

    def solve(self, right: Tensor) -> Tensor:
        """Solve A X = `right`: shape (d, c) -> (d, c)."""
        return self._finish(torch.linalg.solve_triangular(self.lower, right, upper=False))

    def solve_last_changes(self, count: int, weights: Tensor) -> Tensor:
        """Solve A X = Xᵀ B for the last `count` changes' rows X, whose triangular solve is already in Z.

        Args:
            count: How many changes.
            weights: B, shape (count, c).

        Returns:
            Shape (d, c).
        """
        return self._finish(self.changes[:, self.rank - count :] @ weights)

    def _finish(self, half_solved: Tensor) -> Tensor:
        # Solving from the right, XᵀL = Vᵀ, walks L the way it lies in memory.
        solved: Tensor = torch.linalg.solve_triangular(
            self.lower, self._inner(half_solved).T, upper=False, left=False
        )
        return solved.T


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
