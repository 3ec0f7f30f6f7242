"""When a recommender's forgetting has gone far enough: when forgotten pairs are ranked as never-seen ones are.

A random forgotten interaction is exchangeable with a held-out one. So the calibration interactions say, without any
retraining, how high a model ranks what a user would take but was never seen to take: above most of what the user has
not taken, as they are likely items, but lower than what it learned. The figure is the chance that a pair's item beats
a random one that its user has not taken, the forget-against-negative area under the curve.

For chosen sets like is compared with like: calibration pairs are weighted so that they have the forgotten pairs' mix
of the users' and the items' numbers of interactions, as active users and popular items are ranked differently.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.negatives import NegativeSampler
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.recommender.removal import Removal

NEGATIVES = 20
"""Items drawn for each pair: the error that this adds is far below that of the pairs themselves."""
LEAST_PAIRS = 8
"""Calibration pairs that make a picture of one kind of forgotten pair."""
_LEVELS = 4
"""Levels of the users' and of the items' numbers of interactions."""
_SPREAD = 2.0
"""Numbers of interactions beyond the forgotten pairs' by more than this factor are not like them."""


@dataclass(frozen=True)
class Ranks:
    """How a model ranks pairs among what their users have not taken.

    Attributes:
        shares: Shape (n,), float64: share of the drawn items that each pair's item beats, ties by half.
        scores: Shape (n,): each pair's score; gradients flow.
        negatives: Shape (n,): the mean score of the drawn items.
    """

    shares: Tensor
    scores: Tensor
    negatives: Tensor


class NeverSeen:
    """Forgotten pairs beside calibration pairs that are like them.

    Attributes:
        weights: Shape (v,), float64, sum 1: the calibration pairs' weights.
    """

    def __init__(self, removal: Removal, generator: torch.Generator) -> None:
        """Weigh the calibration pairs and draw negatives, once for all comparisons.

        Raises:
            MethodUnsuitableError: Too few calibration pairs are like the forgotten ones.
        """
        graph, forgotten, never_seen = removal.graph, removal.forgotten, removal.never_seen
        everything = torch.cat(
            [torch.stack([graph.user_index, graph.item_index]), forgotten, never_seen], dim=1
        )
        sampler = NegativeSampler(InteractionGraph(graph.users, graph.items, everything[0], everything[1]))
        # Who has taken everything has nothing to be compared with.
        never_seen = never_seen[:, sampler.remaining[never_seen[0]] > 0]
        forgotten = forgotten[:, sampler.remaining[forgotten[0]] > 0]
        if not forgotten.shape[1]:
            raise MethodUnsuitableError(
                "Those who forget an interaction have left nothing else out to compare with."
            )
        kept, weights = _alike(graph, forgotten, never_seen)
        self.forgotten = forgotten
        self.never_seen = never_seen[:, kept]
        self.weights = weights[kept]
        self._drawn = [
            sampler.draw(pairs[0].repeat_interleave(NEGATIVES), generator).reshape(-1, NEGATIVES)
            for pairs in (self.forgotten, self.never_seen)
        ]

    def ranks_of_forgotten(self, users: Tensor, items: Tensor) -> Ranks:
        """Rank the forgotten pairs by final embeddings, (users, d) and (items, d)."""
        return _ranks(users, items, self.forgotten, self._drawn[0])

    def ranks_of_never_seen(self, users: Tensor, items: Tensor) -> Ranks:
        """Rank the calibration pairs by final embeddings, (users, d) and (items, d)."""
        return _ranks(users, items, self.never_seen, self._drawn[1])

    def share_of_never_seen(self, users: Tensor, items: Tensor) -> float:
        """Return the calibration pairs' weighted mean share of beaten items: what forgotten pairs should come to."""
        return float(self.ranks_of_never_seen(users, items).shares @ self.weights)

    def targets(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the score that each forgotten pair should come to, shape (f,).

        What is compared are margins, scores less the mean of the drawn negatives'. The forgotten pairs' order is kept:
        the one with the q-th margin aims at the calibration pairs' q-quantile. The negatives' own scores are taken as
        they are now: a target that moved with them could be reached by raising the few that were drawn.
        """
        theirs = self.ranks_of_never_seen(users, items)
        margins = theirs.scores - theirs.negatives
        order = margins.argsort()
        reached = self.weights[order].cumsum(0)
        ours = self.ranks_of_forgotten(users, items)
        rank = (ours.scores - ours.negatives).argsort().argsort()
        quantiles = (rank + 0.5) / max(1, len(rank))
        places = torch.searchsorted(reached, quantiles.to(torch.float64)).clamp_(max=len(order) - 1)
        return margins[order][places] + ours.negatives


def _ranks(users: Tensor, items: Tensor, pairs: Tensor, drawn: Tensor) -> Ranks:
    anchors = users[pairs[0]]  # (n, d)
    scores = (anchors * items[pairs[1]]).sum(dim=1)
    with torch.no_grad():
        others = torch.bmm(items[drawn], anchors[:, :, None])[:, :, 0]  # (n, NEGATIVES)
        own = scores[:, None]
        shares = ((own > others).float() + (own == others).float() / 2).mean(dim=1)
    return Ranks(shares.double(), scores, others.mean(dim=1))


def _alike(graph: InteractionGraph, forgotten: Tensor, never_seen: Tensor) -> tuple[Tensor, Tensor]:
    """Weigh calibration pairs so that they mix as the forgotten ones: a mask and weights of sum 1, both (v,).

    Alike are pairs of the same level of users and of items, or where there are too few of these, of items alone.
    """
    user_levels, their_user_levels = _levels(graph.user_degrees, forgotten[0], never_seen[0])
    item_levels, their_item_levels = _levels(graph.item_degrees, forgotten[1], never_seen[1])
    weights = torch.zeros(never_seen.shape[1], dtype=torch.float64)
    left_out = 0
    for user_level, item_level in sorted(set(zip(user_levels.tolist(), item_levels.tolist(), strict=True))):
        count = int(((user_levels == user_level) & (item_levels == item_level)).sum())
        alike = their_item_levels == item_level
        both = alike & (their_user_levels == user_level)
        if int(both.sum()) >= LEAST_PAIRS:
            alike = both
        if int(alike.sum()) < LEAST_PAIRS:
            left_out += count
            continue
        weights[alike] += count / int(alike.sum())
    if 2 * left_out >= len(user_levels):
        raise MethodUnsuitableError(
            f"No held-out interactions look like {left_out} of the {len(user_levels)} interactions to forget."
        )
    return weights > 0, weights / weights.sum()


def _levels(degrees: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level of each end by its number of interactions, -1 far beyond those of all of ours; shapes stay."""
    known, others = degrees[ours].double(), degrees[theirs].double()
    bounds = torch.quantile(known, torch.arange(1, _LEVELS, dtype=torch.float64) / _LEVELS)
    beyond = (others < known.min() / _SPREAD) | (others > known.max() * _SPREAD)
    return torch.bucketize(known, bounds), torch.bucketize(others, bounds).masked_fill(beyond, -1)
