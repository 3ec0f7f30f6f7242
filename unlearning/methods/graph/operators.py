"""What one deletion operator is trained for: a quadratic in its entries, whatever the size of the neighbourhood.

GNNDelete (arXiv 2302.13406, equations 4 to 6) trains the matrix W of a layer, whose inputs are frozen, by

    L(W) = λ · MSE(M W, T) + (1 - λ) · MSE(K W, O)

with the rows M of the deleted edges' endpoints, T of the random nodes they shall be like, K of the neighbourhood, and O
of what the frozen network makes of it. In terms of sums over rows it is

    L(W) = tr(Wᵀ A W) - 2 tr(Wᵀ B) + c,  A = λ/(m d) MᵀM + (1 - λ)/(n d) KᵀK,  B = λ/(m d) MᵀT + (1 - λ)/(n d) KᵀO

so that once A and B are there, a step costs a product of two d x d matrices instead of a pass over the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Aims:
    """What one layer's operator shall make of the layer's outputs.

    Attributes:
        moved: Which rows are ends of deleted edges, one for each edge: shape (m,).
        targets: T, what they shall become, shape (m, d).
        kept: Which rows are the neighbourhood, none of them an end: shape (n,).
        originals: What every row is on the retained graph without the operator, O among them: shape (t, d).
    """

    moved: Tensor
    targets: Tensor
    kept: Tensor
    originals: Tensor


@dataclass(frozen=True)
class Quadratic:
    """L(W) = tr(Wᵀ A W) - 2 tr(Wᵀ B) + c, all float64.

    Attributes:
        curvature: A, shape (d, d), symmetric.
        pull: B, shape (d, d).
        constant: c.
    """

    curvature: Tensor
    pull: Tensor
    constant: float

    @classmethod
    def of(cls, outputs: Tensor, aims: Aims, balance: float) -> "Quadratic":
        """Sum up the rows; a side without rows has no term.

        A mean over no rows would be NaN, and so would everything learned from it: the ends of the only edge of two
        nodes have no neighbourhood.

        Args:
            outputs: What the layer puts out, shape (t, d).
            aims: What is wanted.
            balance: λ.

        >>> outputs = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
        >>> moved, kept = torch.tensor([0]), torch.tensor([1])
        >>> aims = Aims(moved, torch.zeros(1, 2), kept, torch.ones(2, 2))
        >>> Quadratic.of(outputs, aims, balance=0.25).slope(torch.eye(2).double())[0]  # ¼ · 1 + ¾ · (3 - 1)²
        3.25
        """
        width = outputs.shape[1]
        curvature = torch.zeros(width, width, dtype=torch.float64)
        pull, constant = torch.zeros_like(curvature), 0.0
        for share, inputs, wanted in (
            (balance, outputs[aims.moved].double(), aims.targets.double()),
            (1.0 - balance, outputs[aims.kept].double(), aims.originals[aims.kept].double()),
        ):
            weight = share / max(1, inputs.numel())
            curvature += weight * (inputs.T @ inputs)
            pull += weight * (inputs.T @ wanted)
            constant += weight * float(wanted.square().sum())
        return cls(curvature, pull, constant)

    def slope(self, operator: Tensor) -> tuple[float, Tensor]:
        """Return L and dL/dW = 2 (A W - B) for W of shape (d, d)."""
        bent = self.curvature @ operator
        loss = float((operator * (bent - 2.0 * self.pull)).sum()) + self.constant
        return loss, bent.sub_(self.pull).mul_(2.0)


def residual_slope(
    outputs: Tensor, operator: Tensor, aims: Aims, balance: float
) -> tuple[float, Tensor, Tensor]:
    """Compute L and dL/dW from the rows themselves, where they change from step to step.

    Args:
        outputs: H, what the layer puts out for every node concerned: shape (t, d).
        operator: W, shape (d, d).
        aims: What is wanted.
        balance: λ.

    Returns:
        L, dL/dW = Hᵀ R of shape (d, d) with the weighted residuals R, and H W of shape (t, d).
    """
    made = outputs @ operator
    of_moved = balance / max(1, aims.targets.numel())
    of_kept = (1.0 - balance) / max(1, len(aims.kept) * outputs.shape[1])
    weights = made.new_zeros(len(made), 1)
    weights[aims.kept] = of_kept
    stray, away = made - aims.originals, made[aims.moved] - aims.targets
    loss = (weights * stray.square()).sum() + of_moved * away.square().sum()
    residuals = (2.0 * weights * stray).index_add_(0, aims.moved, 2.0 * of_moved * away)
    return float(loss), outputs.T @ residuals, made


class OperatorDescent:
    """Adam on one operator, which starts as the identity: it then does nothing until it has learned something.

    The published code starts at ones/1000. That matrix has rank 1, which throws away all that embeddings tell apart
    before anything is learned.
    """

    def __init__(self, width: int, learning_rate: float) -> None:
        """Start at the identity of this width, in float64: what is nearly no gradient is to move nearly nothing."""
        self.operator = torch.eye(width, dtype=torch.float64)
        self._optimizer = torch.optim.Adam([self.operator], lr=learning_rate)

    def step(self, gradient: Tensor) -> None:
        """Move against a gradient, shape (d, d).

        Raises:
            ValueError: It is NaN or infinite.
        """
        if not bool(gradient.isfinite().all()):
            raise ValueError("training diverged: the gradient of a deletion operator is no longer a number")
        self.operator.grad = gradient.double()
        self._optimizer.step()

    def minimise(self, quadratic: Quadratic, epochs: int) -> Iterator[float]:
        """Take so many steps on a quadratic, and yield each one's loss, measured before the step."""
        for _ in range(epochs):
            loss, gradient = quadratic.slope(self.operator)
            self.step(gradient)
            yield loss
