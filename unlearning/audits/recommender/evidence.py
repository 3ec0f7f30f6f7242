"""Scores of pairs, by every model of an audit.

Every model, the original included, reads histories and the graph from the interactions that remain, so that only
what is in its *numbers* can make a difference. There are two views:

- *pairs* (no name): the score of a user with an item. It can be asked only where both are still known: a user who was
  forgotten whole has no row left in any model.
- *folded in*: the user is put together from the items of their history before the forgetting, the one in question left
  out, as the mean of those items' final embeddings; the score is its inner product with the item. This asks what the
  items still know of each other from a user who is gone. It is taken of models with embeddings.
"""

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.recommender.data import RecommenderData
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.metrics.items import floats
from unlearning.audits.reading import reading
from unlearning.audits.recommender.sets import Ground, Pairs
from unlearning.audits.suites import Case
from unlearning.errors import MetricError

_SCORES = 1 << 22
"""Scores of whole rows held at a time: 32 MiB of float64."""


class View(enum.StrEnum):
    """How a pair is put before a model."""

    PAIRS = ""
    FOLDED_IN = "folded in"


@dataclass(frozen=True)
class PairScores:
    """Scores of one set of pairs by one model, shape (n,), float64."""

    values: Tensor

    @property
    def scores(self) -> Tensor:
        """The scores.

        Raises:
            MetricError: One is not a finite number.
        """
        return floats(self.values, "scores of pairs", at_least=1)


class RecommenderEvidence(Evidence[PairScores]):
    """Pair scores of every model in one view.

    Args:
        case: What is audited.
        ground: What remains, shared by all views.
        view: How pairs are put before the models.
    """

    # Three of forgetting in each of two views, and usefulness against retraining.
    gating_checks: ClassVar[int] = 7
    sets: dict[Records, Pairs]
    score_name = "pair score"
    score_formula = "φ = the model's score of user and item, an inner product for models with embeddings"

    def __init__(self, case: Case, ground: Ground, view: View = View.PAIRS) -> None:
        self.ground = ground
        self._shown = view
        # Histories by which users are put together: what they had before the forgetting, of items still known.
        self._users, self._histories = _histories_before(ground)
        sets = ground.sets(case.seed)
        if view is View.FOLDED_IN:
            sets = {records: self._foldable(records, pairs) for records, pairs in sets.items()}
        super().__init__(case, sets, view=view)

    def observe(self, model: Any, records: Records) -> PairScores:
        """Ask a model for its scores of these pairs.

        Raises:
            MetricError: It gives none, or does not know a user or an item.
        """
        return self.scores_of(model, self.sets[records])

    def negatives(self) -> Pairs:
        """Draw pairs that nobody took, of the users of the forgotten ones; the same for every model."""
        table = self._users if self._shown is View.FOLDED_IN else self.ground.known.users
        everything = _pairs_in(self.ground.data, table, self.ground)
        return self.ground.negatives(self.sets[Records.FORGOTTEN], everything)

    def scores_of(self, model: Any, pairs: Pairs) -> PairScores:
        """Ask a model for its scores of any pairs of this view.

        Raises:
            MetricError: As `observe`.
        """
        with reading(model):
            return PairScores(
                self._folded_in(model, pairs) if self._shown is View.FOLDED_IN else self._direct(model, pairs)
            )

    def _direct(self, model: Any, pairs: Pairs) -> Tensor:
        users, place = torch.unique(pairs.users, return_inverse=True)
        scores = torch.empty(len(pairs), dtype=torch.float64)
        rows_at_once = max(1, _SCORES // max(1, len(self.ground.known.items)))
        for start in range(0, len(users), rows_at_once):
            here = (place >= start) & (place < start + rows_at_once)
            rows = score_rows(model, self.ground, users[start : start + rows_at_once])
            scores[here] = rows[place[here] - start, pairs.items[here]]
        return scores

    def _folded_in(self, model: Any, pairs: Pairs) -> Tensor:
        if not hasattr(model, "propagate"):
            raise MetricError(f"{type(model).__name__} has no embeddings to put a user together from.")
        embeddings = model.propagate(self.ground.retained)[1].to(torch.float64)
        embeddings = embeddings[_columns(model, self.ground)]  # (items, d)
        sums = torch.from_numpy(self._histories @ embeddings.numpy())  # (users, d)
        others, own = self._lengths(pairs)
        item = embeddings[pairs.items]
        mean = (sums[pairs.users] - own.unsqueeze(1) * item) / others.unsqueeze(1)
        scores: Tensor = (mean * item).sum(dim=1)
        return scores

    def _foldable(self, records: Records, pairs: Pairs) -> Pairs:
        """Choose the pairs of users who have at least one other item, by the positions of all users before."""
        if records is Records.FORGOTTEN:
            pairs = _pairs_in(self.ground.forgotten, self._users, self.ground)
        else:
            names = self.ground.known.users
            pairs = Pairs(Ground.places(names, self._users)[pairs.users], pairs.items)
        others, _ = self._lengths(pairs)
        return Pairs(pairs.users[others > 0], pairs.items[others > 0])

    def _lengths(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return how many other items each user has, and 1 where the item itself is among them, both (n,)."""
        taken = self._histories.tocoo()
        size = self._histories.shape[1]
        keys = torch.from_numpy(taken.row.astype(np.int64) * size + taken.col)
        own = torch.isin(pairs.users * size + pairs.items, keys).to(torch.float64)
        lengths = torch.from_numpy(np.diff(self._histories.indptr).astype(np.float64))
        return lengths[pairs.users] - own, own


def score_rows(model: Any, ground: Ground, users: Tensor) -> Tensor:
    """Score all known items for some known users by what remains: shape (n,) -> (n, items), float64.

    Raises:
        MetricError: The model gives no scores, or does not know a user or an item.
    """
    return score_rows_over(model, ground, users, ground.retained)


def score_rows_over(model: Any, ground: Ground, users: Tensor, data: RecommenderData) -> Tensor:
    """As `score_rows`, by the training interactions of other data."""
    if not all(hasattr(model, name) for name in ("users", "items", "scores")):
        raise MetricError(f"{type(model).__name__} is no recommender.")
    places = Ground.places([ground.known.users[user] for user in users.tolist()], model.users)
    if len(places) and int(places.min()) < 0:
        raise MetricError("A model does not know a user who has training interactions left.")
    try:
        scores: Tensor = model.scores(places, data)
    except ValueError as error:
        raise MetricError(f"A model does not fit the data: {error}.") from error
    return scores[:, _columns(model, ground)].to(torch.float64)


def _columns(model: Any, ground: Ground) -> Tensor:
    """Return where the model has each known item."""
    columns = Ground.places(ground.known.items, model.items)
    if len(columns) and int(columns.min()) < 0:
        raise MetricError("A model does not know an item that has training interactions left.")
    return columns


def _histories_before(ground: Ground) -> tuple[tuple[str, ...], Any]:
    """Return all users before the forgetting, and their histories of known items: `csr_array` (users, items)."""
    before = ground.data.learned()
    pairs = _pairs_in(before, before.users, ground)
    shape = (len(before.users), len(ground.known.items))
    histories = csr_array((np.ones(len(pairs)), (pairs.users.numpy(), pairs.items.numpy())), shape)
    histories.sort_indices()
    return before.users, histories


def _pairs_in(data: RecommenderData, users: tuple[str, ...], ground: Ground) -> Pairs:
    """Return the interactions of `data` with known items, users by their positions in `users`."""
    items = Ground.places(data.items, ground.known.items)[data.item_index]
    known = Ground.places(data.users, users)[data.user_index]
    there = (items >= 0) & (known >= 0)
    return Pairs(known[there], items[there])
