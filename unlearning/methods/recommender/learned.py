"""What a closed form has learned and what it shall have learned, checked before anything is subtracted."""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from models.contracts import ForgetSet
from models.recommender.closed_form import Change
from models.recommender.data import RecommenderData
from models.recommender.ease import EaseRecommender
from models.recommender.gfcf import GfcfRecommender
from unlearning.errors import MethodError

FOREIGN = (
    "At least one interaction to forget was never learned by this model, or was forgotten before: "
    "what would remain are not the sums of any users."
)


@dataclass(frozen=True)
class Task:
    """From one set of training interactions to another.

    Attributes:
        after: What the model shall have learned, with the tables that it shall have (`RecommenderData.learned`).
        change: How the histories differ.
    """

    after: RecommenderData
    change: Change


def forgetting(
    model: EaseRecommender | GfcfRecommender, data: RecommenderData, forget: ForgetSet
) -> Task | None:
    """Return the task of forgetting records, or None where none of them was learned.

    Held-out interactions of the forget set were never learned, so nothing is subtracted for them.

    Raises:
        MethodError: A record is not in the data, the data are not the model's, or nothing would remain.
    """
    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")
    forgotten = data.only(forget.record_ids).training()
    return _task(model, data, data.without(forget.record_ids), users_of(forgotten))


def updating(
    model: EaseRecommender | GfcfRecommender, data: RecommenderData, target: RecommenderData
) -> Task | None:
    """Return the task of bringing a model from `data` to `target`, or None where it has learned that already.

    Raises:
        MethodError: The data are not the model's, or nothing would remain.
    """
    removed, added = data.changes_to(target)
    return _task(model, data, target, users_of(removed) | users_of(added))


def users_of(data: RecommenderData) -> set[str]:
    """Return the users with an interaction here."""
    return {data.users[user] for user in torch.unique(data.user_index).tolist()}


def _task(
    model: EaseRecommender | GfcfRecommender,
    data: RecommenderData,
    target: RecommenderData,
    changed: Collection[str],
) -> Task | None:
    before = data.learned()
    # Sums tell nothing of who is in them; that these are the model's own records is the data set's ledger's to know.
    if (before.users, before.items, len(before)) != (model.users, model.items, model.config.interactions):
        raise MethodError("The training interactions are not those that this model has learned.")
    if not changed:
        return None
    after = target.learned()
    if not len(after):
        raise MethodError("No training interaction would remain: delete the model instead.")
    return Task(after, Change.between(before, after, changed))
