"""Moving the ends of forgotten pairs until these are ranked as never-seen pairs are, while all else keeps its scores.

    target:  mean over forgotten pairs of (s - s*)², s* what gives the pair the margin over drawn negatives that the
             calibration pair of the same quantile has
    drift:   mean over all pairs of users and items of (s - s₀)², s₀ the score before, on the retained graph, plus the
             same mean over retained and calibration pairs: what users have taken, or would; both over the share
             of the interactions that are forgotten, as the former is a mean over a few and these are over all

The target is two-sided: a pair that is pushed far below never-seen ones costs as much as one that stays above. The
drift over all pairs takes no sampling: with final embeddings U = U₀ + A and V = V₀ + B, the change of all scores is
A Vᵀ + U₀ Bᵀ, whose squared norm needs nothing but d x d products. Every architecture of the family propagates
linearly, so that a change of initial embeddings is propagated alone and added.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.recommender.influence import Request
from models.recommender.neural import objective
from models.recommender.objectives import Objective
from unlearning.methods.recommender.never_seen import NeverSeen, Ranks
from unlearning.methods.recommender.removal import Removal

_KEPT = 4096
"""Retained pairs, and calibration pairs, whose drift is measured in a step; more would cost more than all else."""


@dataclass(frozen=True)
class Step:
    """What one change of the embeddings comes to.

    Attributes:
        loss: What is minimised, a scalar.
        share: Mean share of negatives that forgotten pairs beat.
        final: Final embeddings of users and items.
    """

    loss: Tensor
    share: float
    final: tuple[Tensor, Tensor]


class Editing:
    """The loss of changes to the embeddings of a request's users and items.

    Attributes:
        request: The forgotten pairs whose ends are moved.
        before: Final embeddings before any change, on the retained graph.
        excess: Shape (f,): how far each forgotten pair's score is above its target, before any change.
        share: Mean share of negatives that never-seen pairs beat: where forgotten ones should come to.
    """

    def __init__(
        self, removal: Removal, drift_weight: float, retained_weight: float, generator: torch.Generator
    ) -> None:
        """Propagate over the retained graph, and take targets from the calibration pairs.

        Raises:
            MethodUnsuitableError: No calibration pairs look like the forgotten ones.
        """
        self._removal = removal
        self._objective: Objective = objective(removal.model.config.recipe, removal.graph)
        with torch.no_grad():
            self.before = self._objective.embed(removal.model.user_factors, removal.model.item_factors)
        self._never_seen = NeverSeen(removal, generator)
        # Those whose users have left nothing else out cannot be compared, and are not moved.
        forgotten = self._never_seen.forgotten
        self.request = Request.of(forgotten)
        share = forgotten.shape[1] / (forgotten.shape[1] + len(removal.graph))
        self._weights = drift_weight / share, retained_weight / share
        self._targets = self._never_seen.targets(*self.before)
        self.excess = self._never_seen.ranks_of_forgotten(*self.before).scores - self._targets
        self.share = self._never_seen.share_of_never_seen(*self.before)
        drawn = torch.randint(len(removal.graph), (_KEPT,), generator=generator)
        others = torch.randperm(removal.never_seen.shape[1], generator=generator)[:_KEPT]
        self._kept = (
            torch.cat([removal.graph.user_index[drawn], removal.never_seen[0, others]]),
            torch.cat([removal.graph.item_index[drawn], removal.never_seen[1, others]]),
        )

    def step(self, users: Tensor, items: Tensor) -> Step:
        """Return the loss of changes of the request's users and items, shapes (a, d) and (b, d); gradients flow."""
        change = self._propagated(users, items)
        final = self.before[0] + change[0], self.before[1] + change[1]
        ranks: Ranks = self._never_seen.ranks_of_forgotten(*final)
        target = (ranks.scores - self._targets).square().mean()
        everywhere = drift(self.before, change)
        kept = pair_drift(self.before, final, self._kept)
        loss = target + self._weights[0] * everywhere + self._weights[1] * kept
        return Step(loss, float(ranks.shares.mean()), final)

    def _propagated(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate changes of the request's users and items over the retained graph: to all users and items."""
        model, request = self._removal.model, self.request
        return self._objective.embed(
            torch.zeros_like(model.user_factors).index_copy(0, request.users, users),
            torch.zeros_like(model.item_factors).index_copy(0, request.items, items),
        )


def drift(before: tuple[Tensor, Tensor], change: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared change of all scores: ‖A Vᵀ + U₀ Bᵀ‖² / (n m), V = V₀ + B.

    Args:
        before: U₀ and V₀, final embeddings, shapes (n, d) and (m, d).
        change: A and B, of the same shapes.

    Returns:
        A scalar.

    >>> one = torch.ones(1, 1)
    >>> drift((one, one), (2 * one, one)).item()  # from 1 * 1 to 3 * 2
    25.0
    """
    after = before[1] + change[1]
    total = (
        ((change[0].T @ change[0]) * (after.T @ after)).sum()
        + 2 * ((change[0].T @ before[0]) * (after.T @ change[1])).sum()
        + ((before[0].T @ before[0]) * (change[1].T @ change[1])).sum()
    )
    return total / (len(before[0]) * len(after))


def pair_drift(
    before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], pairs: tuple[Tensor, Tensor]
) -> Tensor:
    """Return the mean squared change of the scores of some pairs, two index vectors (n,).

    >>> one = torch.ones(2, 1)
    >>> pair_drift((one, one), (3 * one, 2 * one), (torch.tensor([0, 1]), torch.tensor([1, 1]))).item()
    25.0
    """
    users, items = pairs
    old = (before[0][users] * before[1][items]).sum(dim=1)
    new = (after[0][users] * after[1][items]).sum(dim=1)
    return (new - old).square().mean()
