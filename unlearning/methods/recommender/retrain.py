"""Retraining: train anew, as the model was trained, on the interactions that remain.

The definition of forgetting, and the last rung of every ladder. Source: Ginart et al. 2019, arXiv 1907.05012, and
Bourtoule et al. 2021, arXiv 1912.03817, who call this the naive way. Guarantee: exact by provenance; the new model
knows the names of those alone whom its interactions name. Limit: the cost of training.
"""

from typing import Any

import torch

from models.architectures import get_architecture
from models.contracts import ForgetSet, Progress
from models.recommender.data import RecommenderData
from unlearning.catalog.recommender import RetrainConfig
from unlearning.errors import MethodError


def run(
    model: Any,
    data: RecommenderData,
    forget: ForgetSet,
    config: RetrainConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> Any:
    """Train on `data` less the forget set.

    Raises:
        MethodError: A record is not in the data, or what remains cannot be trained on.
    """
    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")
    remaining = data.without(forget.record_ids)
    return update(model, data, remaining, config, generator=generator, progress=progress)


def update(
    model: Any,
    data: RecommenderData,  # noqa: ARG001 - part of every update's contract; retraining needs only the target
    target_data: RecommenderData,
    config: RetrainConfig,  # noqa: ARG001 - part of every method's contract; there is nothing to configure
    *,
    generator: torch.Generator,
    progress: Progress,
) -> Any:
    """Train on `target_data`.

    Raises:
        MethodError: It cannot be trained on.
    """
    runtime = get_architecture("recommender", model.architecture).runtime()
    try:
        return runtime.retrain(model, target_data, seed=generator.initial_seed(), progress=progress)
    except ValueError as error:
        raise MethodError(f"Retraining is not possible: {error}.") from error
