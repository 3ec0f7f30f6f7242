"""GNNDelete: matrices behind the layers of a frozen network that make deleted edges look like pairs that never met.

After each layer l, the nodes within l hops of what is deleted have their outputs h multiplied by a matrix, the deletion
operator: h W. It is trained so that the ends of deleted edges become like the ends of random pairs without an edge, while
the rest of the neighbourhood stays as it is: λ · MSE(ends, random ends) + (1 - λ) · MSE(rest, rest as it was)
(`operators`). Everything else of the network stays as it is, and so does every node further away.

Paper: Cheng et al., "GNNDelete: A General Strategy for Unlearning in Graph Neural Networks" (ICLR 2023), arXiv
2302.13406, sections 4.1 to 4.3; layer by layer, the node-embedding form of its published code
(github.com/mims-harvard/GNNDelete at d5a79da). Deviations: operators start as the identity, there at ones/1000;
messages pass along the retained graph while they are trained, as they do afterwards, there along deleted edges, too; an
operator stands behind its layer's activation, there before; a layer's loss moves that layer's operator alone, there the
second one's gradient also gathers in the first one's; a deleted node is gone, so only its neighbours are moved; a node
that loses features is moved itself, there its neighbours are. With `calibration="validation"` (the default) training
stops when deleted edges look like never-seen ones (`never_seen`); with `"paper"` it runs its epochs. Small requests are
trained layer after layer (`order`), which makes an epoch's cost independent of the neighbourhood.

Guarantee: empirical, and none for the weights: they are those that learned the forgotten data, and whoever has the
checkpoint can leave the operators out. Limits: each request adds its operators for good, so that many requests make
many matrices; beyond `most_requests` it declines. A whole schedule forgets too much: on Cora it left a single deleted
edge above a third of the pairs that never met, where dropping the edge left it above nearly nine tenths of them. Of a
deleted node only the neighbours are moved, who answer worse for it, while the node, shown again, is answered nearly as
before: `gif` serves nodes better (docs/decisions/0012-graph-influence.md). Where too little is held out, or nothing was
memorised, the calibrated form declines.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.contracts import ForgetSet, Progress
from models.graph.adjacency import Adjacency, adjacency_of, messages_along
from models.graph.data import Elements, GraphData
from models.graph.deletion import Deletion, node_keys
from models.graph.network import GraphModel
from models.graph.refresh import LayerCache, RowChanges
from models.graph.spread import Rereading
from unlearning.catalog.graph import LOCAL_SHARE, GnnDeleteConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.graph.never_seen import begin_calibration
from unlearning.methods.graph.operators import Aims, OperatorDescent, Quadratic, residual_slope
from unlearning.methods.graph.sides import Sides, as_method_errors, refuse_missing
from unlearning.methods.graph.student import Scene
from unlearning.methods.graph.surroundings import Retained, ends_of, strangers

CHECK_EVERY = 2
"""Epochs between two looks at whether it is enough; each is a pass over the graph."""


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: GnnDeleteConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Train deletion operators for what is forgotten.

    Raises:
        MethodError: Something to forget is not in the data, or the data do not fit the model.
        MethodUnsuitableError: The model has had too many requests, or calibration has no target here.
    """
    refuse_missing(data, forget)
    refuse_more(model, config)
    with as_method_errors():
        elements, graph, keys = data.elements(forget.record_ids), adjacency_of(data), model.keys_of(data)
        local = config.scope == "local" or (
            config.scope == "auto" and is_small(graph, elements, model.layers)
        )
        if local:
            cache = LayerCache(model, data.features, graph, keys)
            retained = Retained.nearby(cache, elements, cache.refreshed(elements))
        else:
            retained = Retained.afresh(model, data.features, graph, elements, keys)
        training = OperatorTraining(model, retained, keys, config, generator)
        if local or config.calibration == "paper" or not training.works:
            training.run(
                in_turn=config.order == "in_turn" or (config.order == "auto" and local), progress=progress
            )
        else:
            _train_until_never_seen(training, model, data, forget, elements, config, generator, progress)
        return with_operators(model, _names(data), elements, training)


def delete_locally(
    cache: LayerCache,
    keys: Tensor,
    elements: Elements,
    config: GnnDeleteConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Forget in a cache that is kept between requests: the work is the neighbourhood's, whatever the graph's size.

    Args:
        cache: Of the model on the graph as it is; it is brought up to the result.
        keys: Of all nodes (`models.graph.deletion.node_keys`), shape (n,).
        elements: What is deleted, nodes where they are in the cache.
        config: Its scope is taken for local.
        generator: Draws the random nodes.
        progress: Receives each step's loss.

    Raises:
        MethodUnsuitableError: The model has had too many requests.
    """
    model = cache.model
    refuse_more(model, config)
    refresh = cache.refreshed(elements)
    retained = Retained.nearby(cache, elements, refresh)
    training = OperatorTraining(
        model, retained, None if model.deletion_operators is None else keys, config, generator
    )
    training.run(in_turn=config.order != "together", progress=progress)
    deleted = with_operators(model, lambda nodes: keys[nodes], elements, training)
    cache.apply(refresh)
    cache.adopt(deleted, keys, training.arrivals())
    return deleted


def refuse_more(model: GraphModel, config: GnnDeleteConfig) -> None:
    """Refuse to put one more set of operators on a model that has many.

    Raises:
        MethodUnsuitableError: It has `most_requests` already.
    """
    if len(model.deletion_operators or ()) >= config.most_requests:
        raise MethodUnsuitableError(
            f"The model carries the operators of {config.most_requests} requests already; retraining leaves them behind."
        )


def is_small(graph: Adjacency, elements: Elements, layers: int) -> bool:
    """Tell whether so few nodes are within reach of a deletion that they are best worked on by themselves."""
    ends = ends_of(graph, elements)
    return len(graph.without(elements).reached(ends, layers)[-1]) <= LOCAL_SHARE * graph.nodes


def with_operators(
    model: GraphModel, names: Callable[[Tensor], Tensor], elements: Elements, training: "OperatorTraining"
) -> GraphModel:
    """Return the model with what was trained, if anything was, and with no operator for a node that is deleted.

    Args:
        model: Its own operators stay.
        names: Returns the keys of nodes, shape (k,) -> (k,).
        elements: What is deleted.
        training: As far as it has come.
    """
    model = model.naming_none_of(names(elements.nodes))
    deletions = [operators for operators in model.deletion_operators or () if isinstance(operators, Deletion)]
    if training.works:
        keys = [names(work.nodes).sort().values for work in training.works]
        deletions.append(Deletion([operator.float() for operator in training.operators], keys))
    return model.with_deletions(deletions)


@dataclass(frozen=True)
class LayerWork:
    """What one layer's operator has to do, and all that the frozen layer needs for it.

    Attributes:
        layer: Which one, from 0.
        nodes: Whom the operator concerns, ascending: shape (t,).
        rereading: What arrives at the nodes as the operators of the layer before change its outputs; None for the first
            layer, whose inputs no operator changes.
        keys: Of `nodes`, if deletion operators of earlier requests ask, shape (t,).
        aims: What the operator is to make of the outputs for `nodes`.
    """

    layer: int
    nodes: Tensor
    rereading: Rereading | None
    keys: Tensor | None
    aims: Aims

    def arrived(self, previous: Tensor) -> Tensor:
        """Return what arrives at the nodes when operators changed the layer before: shape (t', d_in) -> (t, d)."""
        assert self.rereading is not None  # noqa: S101 - nothing stands before the first layer
        return self.rereading.arrived(previous)

    def outputs(self, model: GraphModel, previous: Tensor | None) -> Tensor:
        """Return what the layer puts out, the operators of earlier requests applied: shape (t, d)."""
        if previous is None:
            return self.aims.originals
        return model.delete(self.layer, model.finish(self.layer, self.arrived(previous)), self.keys)


class OperatorTraining:
    """The operators of one request, and what they are trained on. Nothing of the network takes gradients.

    Attributes:
        works: One for each layer; none where nothing that stays has lost anything.
    """

    def __init__(
        self,
        model: GraphModel,
        retained: Retained,
        keys: Tensor | None,
        config: GnnDeleteConfig,
        generator: torch.Generator,
    ) -> None:
        """Look up everything that stays the same while operators are trained.

        Args:
            model: The network, operators of earlier requests included.
            retained: Its outputs on the retained graph.
            keys: Of all nodes, if those operators ask.
            config: Balance, epochs and step length.
            generator: Draws the random nodes.
        """
        self._model, self._config = model, config
        self.works = _works(model, retained, keys, generator)
        self._descents = [
            OperatorDescent(work.aims.originals.shape[1], config.learning_rate) for work in self.works
        ]

    @property
    def operators(self) -> list[Tensor]:
        """The operators as they are now: float64, shape (d, d) each."""
        return [descent.operator for descent in self._descents]

    def run(self, *, in_turn: bool, progress: Progress) -> None:
        """Train all epochs, one layer after the other where `in_turn`, or all layers together."""
        losses = self.in_turn() if in_turn else self.together()
        steps = self._config.epochs * (len(self.works) if in_turn else 1)
        for step, loss in enumerate(losses, start=1):
            progress("training operators", step, steps, {"deletion loss": loss})

    def in_turn(self) -> Iterator[float]:
        """Train one operator to the end before the next, and yield the loss before each step.

        What a layer puts out then stays as it is meanwhile, so that its rows are summed up once.
        """
        previous: Tensor | None = None
        for work, descent in zip(self.works, self._descents, strict=True):
            outputs = work.outputs(self._model, previous)
            quadratic = Quadratic.of(outputs, work.aims, self._config.balance)
            yield from descent.minimise(quadratic, self._config.epochs)
            previous = outputs @ descent.operator.to(outputs.dtype)

    def together(self) -> Iterator[float]:
        """Move all operators in every epoch, as published, and yield the sum of their losses before the step.

        Each layer reads what the one before makes just then.
        """
        if not self.works:
            return
        balance = self._config.balance
        # No operator changes what the first layer puts out.
        first = Quadratic.of(self.works[0].aims.originals, self.works[0].aims, balance)
        for _ in range(self._config.epochs):
            lead = self._descents[0]
            total, slope = first.slope(lead.operator)
            gradients = [slope]
            previous = self.works[0].aims.originals @ lead.operator.to(self.works[0].aims.originals.dtype)
            for work, descent in zip(self.works[1:], self._descents[1:], strict=True):
                outputs = work.outputs(self._model, previous)
                loss, gradient, previous = residual_slope(
                    outputs, descent.operator.to(outputs.dtype), work.aims, balance
                )
                total += loss
                gradients.append(gradient)
            for descent, gradient in zip(self._descents, gradients, strict=True):
                descent.step(gradient)
            yield total

    def arrivals(self) -> tuple[RowChanges, ...]:
        """Return what arrives in every layer but the first at the nodes whose inputs the operators change."""
        changes: list[RowChanges] = []
        previous: Tensor | None = None
        for work, descent in zip(self.works, self._descents, strict=True):
            if previous is not None:
                changes.append(RowChanges(work.nodes, work.arrived(previous)))
            outputs = work.outputs(self._model, previous)
            previous = outputs @ descent.operator.to(outputs.dtype)
        return tuple(changes)


def _works(
    model: GraphModel, retained: Retained, keys: Tensor | None, generator: torch.Generator
) -> list[LayerWork]:
    """Prepare every layer; none where nothing that stays has lost anything."""
    ends = retained.ends
    if not len(ends):
        return []
    drawn = strangers(retained.graph, retained.gone, len(ends), generator)
    within = retained.graph.reached(ends, model.layers)
    works: list[LayerWork] = []
    for layer in range(model.layers):
        nodes = within[layer + 1]
        kept = ~torch.isin(nodes, ends)
        aims = Aims(
            moved=torch.searchsorted(nodes, ends),
            targets=retained.outputs(layer, drawn),
            kept=kept.nonzero()[:, 0],
            originals=retained.outputs(layer, nodes),
        )
        rereading = _rereading(model, layer, retained, works[-1].nodes, nodes) if works else None
        works.append(LayerWork(layer, nodes, rereading, None if keys is None else keys[nodes], aims))
    return works


def _rereading(model: GraphModel, layer: int, retained: Retained, senders: Tensor, rows: Tensor) -> Rereading:
    return Rereading(
        model,
        layer,
        retained.graph,
        senders=senders,
        rows=rows,
        inputs=lambda nodes: retained.outputs(layer - 1, nodes),
        arrived=lambda nodes: retained.arrived(layer, nodes),
    )


def _train_until_never_seen(
    training: OperatorTraining,
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    elements: Elements,
    config: GnnDeleteConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Train until forgotten items look never seen, or to the last epoch.

    Raises:
        MethodUnsuitableError: Calibration has no target here.
    """
    sides = Sides.of(model, data, forget)
    scene = Scene(
        model.inputs(sides.stage.features),
        messages_along(sides.stage.message_edges, len(sides.stage.features)),
        sides.stage.keys(),
    )
    rule = begin_calibration("validation", model, sides, scene, forget, generator)
    for epoch, loss in enumerate(training.together(), start=1):
        enough = epoch % CHECK_EVERY == 0 and rule.is_enough(
            model, scene.embed(with_operators(model, _names(data), elements, training))
        )
        progress(
            "training operators",
            config.epochs if enough else epoch,
            config.epochs,
            {"deletion loss": loss, **rule.figures},
        )
        if enough:
            return


def _names(data: GraphData) -> Callable[[Tensor], Tensor]:
    """Return what computes the keys of some nodes, shape (k,) -> (k,)."""
    return lambda nodes: node_keys(data.node_ids[node] for node in nodes.tolist())
