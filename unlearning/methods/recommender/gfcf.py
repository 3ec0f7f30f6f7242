"""GF-CF forgets by taking histories out of its linear filter's exact sums, and finds the low-pass anew.

A user is in M = Xᵀ D_u⁻¹ X by one summand, x xᵀ over that user's degree, so one who is forgotten is taken out by degree²
subtractions, whatever the catalogue's size. Item degrees scale M only when it is read.

Paper: Shen et al. 2021, arXiv 2108.07567 (section 4.3). Deviations: M is kept before the degrees of items scale it, and
1/degree is rounded to a grid fine enough that all sums are exact (`models.recommender.configuration.weight_bits`, at
most 2^-39 from the paper's weights at a million users). The low-pass filter, the leading eigenvectors, is found anew from
M before the model is handed on: an updated basis would still know what was forgotten.

Guarantee: exact, and bit-identical to fitting on what remains, low-pass included, on one machine and library. Limits: a
user's scores are read from their remaining interactions in the data; that a history was ever learned cannot be told
from sums for certain: what they can refute is refused.
"""

from dataclasses import replace
from functools import partial

import torch

from models.contracts import ForgetSet, Progress
from models.recommender.closed_form import degrees
from models.recommender.configuration import weight_bits
from models.recommender.data import RecommenderData
from models.recommender.gfcf import GfcfRecommender, assemble, recipe_of, weights_of
from models.recommender.pair_sums import ForeignPairsError, PairSums
from unlearning.catalog.recommender import GfcfConfig
from unlearning.errors import MethodError
from unlearning.methods.recommender.learned import FOREIGN, Task, forgetting, updating


def run(
    model: GfcfRecommender,
    data: RecommenderData,
    forget: ForgetSet,
    config: GfcfConfig,  # noqa: ARG001 - part of every method's contract; there is nothing to configure
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> GfcfRecommender:
    """Forget interactions.

    Raises:
        MethodError: A record is not in the data, was not learned by this model, or none would remain.
    """
    return _carry_out(model, forgetting(model, data, forget), progress)


def update(
    model: GfcfRecommender,
    data: RecommenderData,
    target_data: RecommenderData,
    config: GfcfConfig,  # noqa: ARG001 - part of every method's contract; there is nothing to configure
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> GfcfRecommender:
    """Unlearn the training interactions that `target_data` lacks, and learn those that are new there.

    Raises:
        MethodError: As `run`, or there are now more users than sums stay exact for.
    """
    return _carry_out(model, updating(model, data, target_data), progress)


def _carry_out(model: GfcfRecommender, task: Task | None, progress: Progress) -> GfcfRecommender:
    if task is None:
        return replace(model)
    recipe = recipe_of(model)
    if len(task.after.users) > recipe.max_users:
        raise MethodError(
            f"{len(task.after.users)} users are more than the {recipe.max_users} whose sums stay exact."
        )
    progress("changing the sums", 0, 2)
    sums = _sums(model, task)
    progress("finding the low-pass", 1, 2)
    changed = assemble(recipe, task.after, sums)
    progress("finding the low-pass", 2, 2)
    return changed


def _sums(model: GfcfRecommender, task: Task) -> PairSums:
    """Change the sums, or sum afresh where that is less work; either way gives the same bits."""
    weigh = partial(weights_of, bits=weight_bits(model.config.max_users))
    remaining = task.after.matrix()
    changed = sum(int((degrees(part) ** 2).sum()) for part in (task.change.removed, task.change.added))
    if changed >= int((degrees(remaining) ** 2).sum()):
        return PairSums.of(remaining, weigh(remaining))
    try:
        return task.change.carried(model.sums, weigh)
    except ForeignPairsError:
        raise MethodError(FOREIGN) from None
