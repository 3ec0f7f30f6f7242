"""Retraining: train anew, as the model was trained, on the graph that remains.

The definition of forgetting, and the last rung of every ladder. Source: Ginart et al. 2019, arXiv 1907.05012, and
Bourtoule et al. 2021, arXiv 1912.03817, who call this the naive way. Guarantee: exact by provenance: new weights, new
messages, and a best epoch picked by held-out nodes or edges that are retained. Limit: the cost of training.
"""

import torch

from models.architectures import get_architecture
from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from unlearning.catalog.graph import RetrainConfig
from unlearning.errors import MethodError
from unlearning.methods.graph.sides import refuse_missing


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: RetrainConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Train on `data` less the forget set.

    Raises:
        MethodError: Something to forget is not in the data, or what remains cannot be trained on.
    """
    refuse_missing(data, forget)
    remaining = data.without(forget.record_ids)
    return update(model, data, remaining, config, generator=generator, progress=progress)


def update(
    model: GraphModel,
    data: GraphData,  # noqa: ARG001 - part of every update's contract; retraining needs only the target
    target_data: GraphData,
    config: RetrainConfig,  # noqa: ARG001 - part of every method's contract; there is nothing to configure
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Train on `target_data`.

    Raises:
        MethodError: It cannot be trained on.
    """
    runtime = get_architecture("graph", model.architecture).runtime()
    try:
        retrained: GraphModel = runtime.retrain(
            model, target_data, seed=generator.initial_seed(), progress=progress
        )
    except ValueError as error:
        raise MethodError(f"Retraining is not possible: {error}.") from error
    return retrained
