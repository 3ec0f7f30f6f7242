"""Training graph networks: steps of Adam over the whole graph, and the best epoch by the validation half.

Epochs come one by one, so that whoever drives the loop decides when to stop:

    for epoch in full_batch_epochs(model, data, recipe, generator=generator):
        if is_good_enough(epoch.model):
            break

Everything is computed on one thread: the same seed then gives the same weights, bit by bit, however many threads the
process has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.contracts import Progress
from models.graph.adjacency import Messages, adjacency_of
from models.graph.configuration import GraphRecipe
from models.graph.data import GraphData
from models.graph.negatives import NegativeSampler
from models.graph.network import GraphModel, Inputs
from models.graph.sparse import SparseMatrix
from models.threads import one_thread

_DIVERGED = "training diverged: its loss is no longer a number; choose a smaller learning rate"


@dataclass(frozen=True)
class Epoch:
    """What one step over the whole graph came to.

    Attributes:
        number: 1 for the first.
        loss: In nats per example, before the step.
        score: On the validation half after the step: accuracy, or AUC of edges against pairs without one. None where
            nothing of the kind is held out.
        model: The network after the step: one object that later epochs change. Take `frozen()` to keep it.
    """

    number: int
    of: int
    loss: float
    score: float | None
    model: GraphModel


@dataclass(frozen=True)
class Objective:
    """What a model is trained for on one graph.

    Attributes:
        loss: Of embeddings, shape (n, d); draws what it needs from the generator. A scalar in nats.
        score: Of embeddings, on the validation half, the higher the better; None where nothing is held out.
    """

    loss: Callable[[GraphModel, Tensor, torch.Generator], Tensor]
    score: Callable[[GraphModel, Tensor], float] | None


def train_to_best(
    model: GraphModel, data: GraphData, *, generator: torch.Generator, progress: Progress
) -> GraphModel:
    """Train by the model's recipe until the score on the validation half has not risen for `patience` epochs.

    Where nothing is held out for validation, every epoch of the recipe is run and the last one kept.

    Returns:
        The best epoch's model, frozen.

    Raises:
        ValueError: There is nothing to learn from, or training diverged.
    """
    recipe = model.config.recipe
    best, best_score, best_number = model.state_dict(), -1.0, 0
    for epoch in full_batch_epochs(model, data, recipe, generator=generator):
        figures = {"training loss": epoch.loss}
        if epoch.score is not None:
            figures["validation score"] = epoch.score
        progress("training", epoch.number, epoch.of, figures)
        if epoch.score is None:
            best = epoch.model.state_dict()
        elif epoch.score > best_score:
            # Copies of the weights alone: copying a whole model takes a twentieth of an epoch on Cora.
            best = {name: tensor.clone() for name, tensor in epoch.model.state_dict().items()}
            best_score, best_number = epoch.score, epoch.number
        elif epoch.number - best_number >= recipe.patience:
            break
    trained = model.frozen()
    trained.load_state_dict(best)
    return trained


def full_batch_epochs(
    model: GraphModel, data: GraphData, recipe: GraphRecipe, *, generator: torch.Generator
) -> Iterator[Epoch]:
    """Train a copy of `model` on the training part of `data`, and yield after each step.

    Args:
        model: Where to start; it is left as it was.
        data: Training edges carry the messages; the calibration half is for the score. The audit half is not looked at.
        recipe: Epochs, step length, decay and dropout.
        generator: Draws dropout and negative samples.

    Raises:
        ValueError: There is nothing to learn from, or the loss is no longer a finite number.
    """
    data = data.for_methods()
    objective = objective_of(model, data, generator)
    messages = messages_of(data)
    inputs = model.inputs(data.features)
    keys = model.keys_of(data)
    trained = model.trainable()
    optimizer = torch.optim.Adam(
        trained.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    for number in range(1, recipe.epochs + 1):
        with one_thread():
            embeddings = _encode_with_dropout(trained, inputs, messages, keys, recipe.dropout, generator)
            loss = objective.loss(trained, embeddings, generator)
            if not loss.isfinite():
                raise ValueError(_DIVERGED)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            score = None
            if objective.score is not None:
                with torch.no_grad():
                    score = objective.score(trained, trained.encode(inputs, messages, keys))
        yield Epoch(number, recipe.epochs, loss.item(), score, trained)


def messages_of(data: GraphData) -> Messages:
    """Prepare the messages of a graph: those along its training edges."""
    return adjacency_of(data).messages()


def objective_of(model: GraphModel, data: GraphData, generator: torch.Generator) -> Objective:
    """Say what the model's task is on this graph.

    Raises:
        ValueError: There is nothing to learn from, or a node's class is none of the model's.
    """
    if model.task == "node_classification":
        return _classification(model, data)
    return _link_prediction(data, generator)


def auc(positive: Tensor, negative: Tensor) -> float:
    """Return the probability that a positive score is above a negative one, ties counting half.

    Args:
        positive: Shape (n,), n ≥ 1.
        negative: Shape (m,), m ≥ 1.

    >>> auc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
    0.875
    """
    ordered = negative.contiguous().sort().values
    below = torch.searchsorted(ordered, positive.contiguous())
    not_above = torch.searchsorted(ordered, positive.contiguous(), right=True)
    return float((below + not_above).double().mean() / (2 * len(negative)))


def _classification(model: GraphModel, data: GraphData) -> Objective:
    labels = data.labels_among(model.classes)
    known, held_out = data.training_nodes(), data.calibration_nodes()
    if not len(known):
        raise ValueError("there are no training nodes with a label")

    def loss(model: GraphModel, embeddings: Tensor, _: torch.Generator) -> Tensor:
        return functional.cross_entropy(model.node_logits(embeddings[known]), labels[known])

    def score(model: GraphModel, embeddings: Tensor) -> float:
        predicted = model.node_logits(embeddings[held_out]).argmax(dim=1)
        return float((predicted == labels[held_out]).double().mean())

    return Objective(loss, score if len(held_out) else None)


def _link_prediction(data: GraphData, generator: torch.Generator) -> Objective:
    known, held_out = data.training_edges(), data.calibration_edges()
    if not known.shape[1]:
        raise ValueError("there are no training edges")
    sampler = NegativeSampler(data.edges, data.nodes, directed=data.directed)
    # The same pairs in every epoch, or the score would rise and fall with the draw.
    apart = sampler.sample(held_out.shape[1], generator)

    def loss(model: GraphModel, embeddings: Tensor, generator: torch.Generator) -> Tensor:
        drawn = sampler.sample(known.shape[1], generator)
        return edge_loss(model, embeddings, known, drawn)

    def score(model: GraphModel, embeddings: Tensor) -> float:
        return auc(model.edge_logits(embeddings, held_out), model.edge_logits(embeddings, apart))

    return Objective(loss, score if held_out.shape[1] else None)


def edge_loss(model: GraphModel, embeddings: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of edges, shape (2, p), against pairs without one, (2, q); in nats."""
    edges = model.edge_logits(embeddings, positive)
    others = model.edge_logits(embeddings, negative)
    total = functional.softplus(-edges).sum() + functional.softplus(others).sum()
    return total / (len(edges) + len(others))


def _encode_with_dropout(
    model: GraphModel,
    inputs: Inputs,
    messages: Messages,
    keys: Tensor | None,
    share: float,
    generator: torch.Generator,
) -> Tensor:
    hidden = inputs
    for layer in range(model.layers):
        dropped = _drop(hidden, share, generator)
        hidden = model.delete(layer, model.convolve(layer, dropped, messages), keys)
    assert isinstance(hidden, Tensor)  # noqa: S101 - there is at least one layer
    return hidden


def _drop(hidden: Inputs, share: float, generator: torch.Generator) -> Inputs:
    """Set a share of the values to 0 and enlarge the others, so that their mean stays (Srivastava et al. 2014)."""
    if share == 0.0:
        return hidden
    if isinstance(hidden, SparseMatrix):
        return hidden.with_values(_drop_from(hidden.entries, share, generator))
    return _drop_from(hidden, share, generator)


def _drop_from(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    kept = torch.rand(values.shape, generator=generator, dtype=values.dtype) >= share
    return values * kept.to(values.dtype).div_(1.0 - share)
