"""Gradient descent on a recommender's initial embeddings, by whatever objective its architecture has.

Epochs come one by one, so that whoever drives the loop decides when to stop. Everything is computed on one thread:
the same seed then gives the same embeddings, bit by bit, however many threads the process has.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.neural_configuration import NeuralSettings
from models.recommender.objectives import Objective
from models.recommender.ranking import ranking_quality
from models.threads import one_thread

_DIVERGED = "training diverged: its loss is no longer a number; choose a smaller learning rate"
CUTOFF = 20
"""K of the recall that stops training."""


@dataclass(frozen=True)
class Factors:
    """Initial embeddings.

    Attributes:
        users: Shape (users, d), float32.
        items: Shape (items, d), float32.
    """

    users: Tensor
    items: Tensor


@dataclass(frozen=True)
class Epoch:
    """What one pass over the interactions came to.

    Attributes:
        number: 1 for the first.
        loss: Mean loss of its steps, each weighted by its interactions.
        factors: The embeddings after it: the loop's own, which it goes on to change.
    """

    number: int
    loss: float
    factors: Factors


@dataclass(frozen=True)
class Fitted:
    """The outcome of a training.

    Attributes:
        factors: Those of the best epoch.
        best_epoch: Its number.
        recall: Its recall@20 on the calibration interactions, or None without any.
    """

    factors: Factors
    best_epoch: int
    recall: float | None


def descend(
    objective: Objective,
    graph: InteractionGraph,
    start: Factors,
    settings: NeuralSettings,
    *,
    generator: torch.Generator,
) -> Iterator[Epoch]:
    """Train a copy of `start` by Adam, for ever, and yield after each epoch.

    Raises:
        ValueError: No interaction can be learned, or the loss is no longer a finite number.
    """
    edges = learnable(graph)
    if not len(edges):
        raise ValueError("there are no training interactions of users who have left anything out")
    users, items = (tensor.detach().clone().requires_grad_() for tensor in (start.users, start.items))
    optimizer = torch.optim.Adam([users, items], lr=settings.learning_rate, fused=True)
    number = 0
    while True:
        number += 1
        total = 0.0
        with one_thread():
            order = edges[torch.randperm(len(edges), generator=generator)]
            for batch in torch.split(order, settings.batch_size):
                pairs = graph.user_index[batch], graph.item_index[batch]
                loss = objective.loss(users, items, pairs, generator)
                if not loss.isfinite():
                    raise ValueError(_DIVERGED)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item() * len(batch)
        yield Epoch(number, total / len(edges), Factors(users.detach(), items.detach()))


def fit(
    objective: Objective,
    graph: InteractionGraph,
    wanted: Any,
    start: Factors,
    settings: NeuralSettings,
    *,
    generator: torch.Generator,
    progress: Any,
) -> Fitted:
    """Train until the calibration interactions have not been ranked better for `patience` epochs.

    Args:
        objective: What to minimise.
        graph: The training interactions.
        wanted: `csr_array` (users, items) of calibration interactions; without any, every epoch is run.
        start: Where to start; left as it is.
        settings: Epochs, batches, steps, patience.
        generator: Draws the order, the negatives and the noise.
        progress: As `models.contracts.Progress`.

    Raises:
        ValueError: As `descend`.
    """
    best: Fitted | None = None
    recall: float | None = None
    for epoch in descend(objective, graph, start, settings, generator=generator):
        figures = {"training loss": epoch.loss}
        last = epoch.number == settings.epochs
        if wanted.nnz and (last or epoch.number % settings.evaluate_every == 0):
            recall = recall_of(objective, graph, epoch.factors, wanted)
            figures[f"recall@{CUTOFF}"] = recall
        if not wanted.nnz:
            best = Fitted(epoch.factors, epoch.number, None)
        elif recall is not None and (best is None or best.recall is None or recall > best.recall):
            best = Fitted(_copied(epoch.factors), epoch.number, recall)
        stale = best is not None and wanted.nnz and epoch.number - best.best_epoch >= settings.patience
        progress("training", settings.epochs if stale else epoch.number, settings.epochs, figures)
        if best is not None and (last or stale):
            return best
    raise AssertionError("the descent ends only when it is told to")


def recall_of(objective: Objective, graph: InteractionGraph, factors: Factors, wanted: Any) -> float:
    """Return recall@20 of the wanted interactions, all items ranked and training ones left out."""
    with torch.no_grad(), one_thread():
        users, items = objective.embed(factors.users, factors.items)
        return ranking_quality(lambda rows: users[rows] @ items.T, graph.matrix, wanted, k=CUTOFF).recall


def learnable(graph: InteractionGraph) -> Tensor:
    """Return the edges of users who have left an item out, shape (n,): those of others cannot be ranked before any."""
    return (graph.user_degrees[graph.user_index] < graph.items).nonzero().flatten()


def draw_factors(
    users: int, items: int, width: int, architecture: str, generator: torch.Generator
) -> Factors:
    """Draw first embeddings as the papers do.

    LightGCN's and SimGCL's are normal with deviation 0.1 (LightGCN's authors' code), UltraGCN's with 1e-4 (theirs),
    LightGCL's uniform after Glorot and Bengio 2010, each table by its own size.
    """
    deviation = {"lightgcn": 0.1, "simgcl": 0.1, "ultragcn": 1e-4}.get(architecture)
    drawn = [_draw(rows, width, deviation, generator) for rows in (users, items)]
    return Factors(*drawn)


def _draw(rows: int, width: int, deviation: float | None, generator: torch.Generator) -> Tensor:
    if deviation is not None:
        return torch.randn(rows, width, generator=generator) * deviation
    bound = math.sqrt(6.0 / (rows + width))
    return (torch.rand(rows, width, generator=generator) * 2 - 1) * bound


def _copied(factors: Factors) -> Factors:
    return Factors(factors.users.clone(), factors.items.clone())
