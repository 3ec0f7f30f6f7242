"""Full rankings by every model of an audit, and what they are worth to the users.

Ranked are all items that everybody knows. What a user has taken is left out, what was forgotten too ("masked"), so that
every model chooses from the same items; "open" rankings leave out only what remains taken, as after a forgetting a
client sees it. The candidate and the references read the histories that remain, the original those that it was made for.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.recommender.ranking import top_items
from unlearning.audits.metrics.ranking import ndcg_at_k, recall_at_k
from unlearning.audits.reading import reading
from unlearning.audits.recommender.evidence import RecommenderEvidence, score_rows_over

K = 20
_SCORES = 1 << 22


@dataclass(frozen=True)
class Ranked:
    """One model's rankings for the users who want something, one row or entry for each.

    Attributes:
        top: The first K items, forgotten ones masked, shape (users, K).
        recall: Of that list, shape (users,).
        ndcg: Of that list, shape (users,).
        open_recall: With forgotten items not masked, shape (users,).
        open_ndcg: With forgotten items not masked, shape (users,).
    """

    top: Tensor
    recall: Tensor
    ndcg: Tensor
    open_recall: Tensor
    open_ndcg: Tensor


class Rankings:
    """The rankings of one audit, each model's taken at most once."""

    def __init__(self, evidence: RecommenderEvidence) -> None:
        self.evidence = evidence
        self.ground = evidence.ground
        self._kept: dict[str, Ranked] = {}

    @property
    def users(self) -> Tensor:
        """Users who want something, shape (n,)."""
        return self.ground.evaluated

    @property
    def candidate(self) -> Ranked:
        """The candidate's, over what remains."""
        return self._of("candidate", self.evidence.case.candidate)

    @property
    def original(self) -> Ranked:
        """The original's, over what it was made for."""
        return self._of("original", self.evidence.case.parent)

    def retrained(self) -> list[Ranked]:
        """Return those of every retrained reference.

        Raises:
            MissingReferenceError: There are none; the message says why.
            MetricError: A model gives no rankings.
        """
        return [
            self._of(f"retrained {reference.key.seed}", reference.model)
            for reference in self.evidence.references().references
        ]

    def _of(self, name: str, model: Any) -> Ranked:
        if name not in self._kept:
            self._kept[name] = self._rank(model, original=name == "original")
        return self._kept[name]

    def _rank(self, model: Any, *, original: bool) -> Ranked:
        ground = self.ground
        data = ground.data if original else ground.retained
        counts = torch.from_numpy(ground.wanted.sum(axis=1)).to(torch.int64)
        tops, figures = [], []
        for users in torch.split(self.users, max(1, _SCORES // max(1, len(ground.known.items)))):
            rows = users.numpy()
            with reading(model):
                scores = score_rows_over(model, ground, users, data)
            wanted = torch.from_numpy(ground.wanted[rows].toarray() > 0)
            quality = []
            for seen in (ground.taken_before, ground.taken):
                top = top_items(scores, seen[rows], K)
                hits = wanted.gather(1, top)
                quality += [recall_at_k(hits, counts[users]), ndcg_at_k(hits, counts[users])]
                if seen is ground.taken_before:
                    tops.append(top)
            figures.append(torch.stack(quality))
        return Ranked(torch.cat(tops), *torch.cat(figures, dim=1))
