"""Analytic Continual Unlearning as published (arXiv 2505.12239): the inverse R is the state, corrected request by request.

It is the slow, obvious statement of what `unlearning.methods.classifier.acu` computes, and it drifts: every correction
rounds, and the next builds on it. Kept to compare with, never to serve.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Recursion:
    """R = (XᵀX + γI)⁻¹, shape (d, d), and the head W, shape (d, classes)."""

    inverse: Tensor
    head: Tensor

    @classmethod
    def start(cls, feature_dim: int, classes: int, gamma: float, dtype: torch.dtype = torch.float64) -> Self:
        """R₀ = I/γ, W₀ = 0."""
        return cls(
            torch.eye(feature_dim, dtype=dtype) / gamma, torch.zeros(feature_dim, classes, dtype=dtype)
        )

    def learn(self, rows: Tensor, targets: Tensor) -> Self:
        """K = (I + XRXᵀ)⁻¹, R ← R - RXᵀKXR, then W ← W + RXᵀ(Y - XW). Shapes (n, d) and (n, classes)."""
        gain = self.inverse @ rows.T  # (d, n)
        inner = torch.eye(len(rows), dtype=rows.dtype) + rows @ gain
        inverse = self.inverse - gain @ torch.linalg.solve(inner, gain.T)
        return type(self)(inverse, self.head + inverse @ rows.T @ (targets - rows @ self.head))

    def unlearn(self, rows: Tensor, targets: Tensor) -> Self:
        """S = I - XRXᵀ, R ← R + RXᵀS⁻¹XR, then W ← W - RXᵀ(Y - XW). Shapes (n, d) and (n, classes)."""
        gain = self.inverse @ rows.T  # (d, n)
        inner = torch.eye(len(rows), dtype=rows.dtype) - rows @ gain
        inverse = self.inverse + gain @ torch.linalg.solve(inner, gain.T)
        return type(self)(inverse, self.head - inverse @ rows.T @ (targets - rows @ self.head))
