"""EASE forgets by subtracting histories from exact counts and carrying the change into the inverse.

The model is P = (XᵀX + λI)⁻¹, read as weights between items. Forgetting users, or some of their interactions, changes
XᵀX by a low rank; Woodbury's identity carries that into P in a few passes over it, where inverting takes items³
operations. Learning is the same with the other sign.

Paper: Steck 2019, arXiv 1905.03375, for the model; Woodbury 1950 for the update (formulas in docs/methods.md).
Deviations: none in the model. Counts are whole numbers and the state; P is a reading of them that every update
measures against the histories that remain (`models.recommender.ease.InverseError`), so that no sequence of requests,
however long, drifts: an update that cannot show that every weight is within `tolerance` is replaced by an inversion.

Guarantee: exact. The tables of ids and the counts are bit-identical to those of a model that never learned what was
forgotten, after any number of requests. With `solve="refit"` the inverse is too; with an update, every weight is within
the bound reported. Limits: a user's scores are read from their remaining interactions in the data; 8 · items² bytes of
memory; that a history was ever learned cannot be told from counts for certain: what they can refute is refused.
"""

from dataclasses import replace

import torch

from models.contracts import ForgetSet, Progress
from models.recommender.configuration import too_large
from models.recommender.data import RecommenderData
from models.recommender.ease import (
    EaseRecommender,
    InverseError,
    config_for,
    invert,
    one_each,
    recipe_of,
    updated_inverse,
)
from models.recommender.pair_sums import ForeignPairsError, PairSums
from unlearning.catalog.recommender import EaseConfig
from unlearning.errors import MethodError
from unlearning.methods.recommender.learned import FOREIGN, Task, forgetting, updating


def run(
    model: EaseRecommender,
    data: RecommenderData,
    forget: ForgetSet,
    config: EaseConfig,
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> EaseRecommender:
    """Forget interactions.

    Raises:
        MethodError: A record is not in the data, was not learned by this model, or none would remain.
    """
    return _carry_out(model, forgetting(model, data, forget), config, progress)


def update(
    model: EaseRecommender,
    data: RecommenderData,
    target_data: RecommenderData,
    config: EaseConfig,
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> EaseRecommender:
    """Unlearn the training interactions that `target_data` lacks, and learn those that are new there.

    Raises:
        MethodError: As `run`, or the catalogue has become too large for its matrix.
    """
    return _carry_out(model, updating(model, data, target_data), config, progress)


def costs_less(items: int, rank: int) -> bool:
    """Tell whether an update by so many histories costs less than inverting.

    An update changes every entry once per history, and copies and checks the matrix, which takes the time of some 40
    operations per entry; inverting takes items³.

    >>> costs_less(4489, 1), costs_less(4489, 4000), costs_less(30, 1)
    (True, False, False)
    """
    return (2 * rank + 40) * items**2 < items**3


def _carry_out(
    model: EaseRecommender, task: Task | None, config: EaseConfig, progress: Progress
) -> EaseRecommender:
    if task is None:
        return replace(model)
    recipe = recipe_of(model)
    if refusal := too_large(len(task.change.items), recipe.max_matrix_bytes):
        raise MethodError(f"The catalogue has become too large: {refusal}.")
    progress("changing the counts", 0, 3)
    try:
        counts = task.change.carried(model.counts, one_each)
    except ForeignPairsError:
        raise MethodError(FOREIGN) from None
    inverse = _inverse(model, task, counts, config, progress)
    progress("changing the inverse", 3, 3)
    return EaseRecommender(
        config_for(recipe, task.after), task.after.users, task.after.items, counts, inverse
    )


def _inverse(
    model: EaseRecommender, task: Task, counts: PairSums, config: EaseConfig, progress: Progress
) -> torch.Tensor:
    """Update the inverse if that is asked for and good enough, else compute it from the counts."""
    regularisation = model.config.regularisation
    progress("changing the inverse", 1, 3)
    if config.solve == "update" or (
        config.solve == "auto" and costs_less(len(task.change.items), task.change.rank)
    ):
        inverse = updated_inverse(model.inverse, task.change, regularisation)
        progress("bounding the error", 2, 3)
        error = InverseError.of(task.after.matrix(), regularisation, inverse)
        if error.weights <= config.tolerance:
            return inverse
    progress("inverting anew", 2, 3)
    return invert(counts, regularisation)
