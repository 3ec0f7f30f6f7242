"""Never-seen nodes and edges as target and stopping rule of a forgetting on a graph, without any retraining.

After true forgetting a model answers to a forgotten edge as to one that was held out, and to a forgotten node as to
one whose label it never saw. The calibration half of what is held out, as far as it is retained, shows how that is. A
class of nodes that is forgotten whole has no such likes under its own name: its nodes are compared with held-out nodes
of other classes under that name, for which nothing speaks either.

Scores are edge logits, and for nodes the logit margin of the label. It is enough when forgotten items stand as far
below retained ones as never-seen items do: AUC(retained vs forgotten) ≥ AUC(retained vs never seen).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.contracts import ForgetSet
from models.graph.network import GraphModel
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.graph.sides import Sides

LEAST_HELD_OUT = 8
"""Held-out items that make a picture of one kind of forgotten item."""

_NODE_CLASS = "node:"


@dataclass(frozen=True)
class Scores:
    """Scores that one model gives to items of one kind, larger where it is surer.

    Attributes:
        forgotten: Shape (f,), f ≥ 1.
        never_seen: Shape (v,), v ≥ 1.
        retained: Shape (r,), r ≥ 1.
    """

    forgotten: Tensor
    never_seen: Tensor
    retained: Tensor

    @property
    def auc_forgotten(self) -> float:
        """AUC of retained (1) against forgotten (0) items: of edges this is Ed."""
        return _auc(self.retained, self.forgotten)

    @property
    def auc_never_seen(self) -> float:
        """AUC of retained (1) against never-seen (0) items: what the other one would be, had nothing been learned."""
        return _auc(self.retained, self.never_seen)

    @property
    def remembered(self) -> bool:
        """Whether forgotten items still look more like retained ones than never-seen items do."""
        return self.auc_forgotten < self.auc_never_seen


@dataclass(frozen=True)
class Likes:
    """Forgotten nodes of one kind, and held-out ones like them.

    Attributes:
        chosen: Shape (f,): places in `Sides.forgotten_nodes`.
        nodes: Shape (v,): held-out nodes on the stage.
        labels: Shape (v,): the class under which each is looked at.
    """

    chosen: Tensor
    nodes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class NeverSeen:
    """Held-out items that are like the forgotten ones.

    Attributes:
        sides: Whose forgotten items.
        edges: Shape (2, v): held-out edges; empty where no edges are forgotten.
        nodes: One entry for each kind of forgotten node.
    """

    sides: Sides
    edges: Tensor
    nodes: tuple[Likes, ...]

    @classmethod
    def prepare(cls, model: GraphModel, sides: Sides, forget: ForgetSet) -> "NeverSeen":
        """Find held-out items that are like the forgotten ones.

        Raises:
            MethodUnsuitableError: Too few items are held out.
        """
        edges = sides.forgotten_edges[:, :0]
        if sides.forgotten_edges.shape[1]:
            edges = sides.retained.calibration_edges()
            _require(edges.shape[1], "edges")
        return cls(sides, edges, tuple(_likes(model, sides, forget)))

    @property
    def empty(self) -> bool:
        """Whether nothing is forgotten that held-out items could be like."""
        return not self.nodes and not self.edges.shape[1]

    def scores(self, model: GraphModel, embeddings: Tensor) -> Iterator[tuple[str, Scores]]:
        """Score the items, kind by kind.

        Args:
            model: Only its head is used.
            embeddings: Of the stage's nodes, shape (n, d).

        Raises:
            MetricError: They lead to logits that are not finite numbers.
        """
        sides = self.sides
        if self.edges.shape[1]:
            forgotten, never_seen, retained = (
                model.edge_logits(embeddings, pairs)
                for pairs in (sides.forgotten_edges, self.edges, sides.retained_edges)
            )
            yield "edges", Scores(forgotten, never_seen, retained)
        if self.nodes:
            logits = model.node_logits(embeddings)
            retained = _margins(logits, sides.retained_nodes, sides.labels[sides.retained_nodes])
            for likes in self.nodes:
                nodes = sides.forgotten_nodes[likes.chosen]
                yield (
                    "nodes",
                    Scores(
                        _margins(logits, nodes, sides.labels[nodes]),
                        _margins(logits, likes.nodes, likes.labels),
                        retained,
                    ),
                )


class StoppingRule:
    """Tells when a forgetting has gone far enough.

    Attributes:
        never_seen: None where the fixed schedule decides.
        figures: Of the last candidate, for progress.
    """

    def __init__(self, never_seen: NeverSeen | None) -> None:
        """Keep the picture of the never seen; an empty one tells nothing."""
        self.never_seen = None if never_seen is None or never_seen.empty else never_seen
        self.figures: dict[str, float] = {}

    @property
    def checks(self) -> bool:
        """Whether there is anything to tell by."""
        return self.never_seen is not None

    @torch.no_grad()
    def is_enough(self, model: GraphModel, embeddings: Tensor) -> bool:
        """Tell whether the forgotten items look never seen, and keep the figures. Never, without a picture.

        Args:
            model: Only its head is used.
            embeddings: What it makes of the stage's nodes, shape (n, d).
        """
        if self.never_seen is None:
            return False
        self.figures, enough = {}, True
        for kind, scores in self.never_seen.scores(model, embeddings):
            self.figures[f"AUC retained vs forgotten {kind}"] = scores.auc_forgotten
            self.figures[f"AUC retained vs never-seen {kind}"] = scores.auc_never_seen
            enough = enough and not scores.remembered
        return enough


def begin_calibration(
    mode: Literal["validation", "paper"],
    model: GraphModel,
    sides: Sides,
    forget: ForgetSet,
    embeddings: Tensor,
) -> StoppingRule:
    """Return the rule for a method whose only target is the picture of the never seen.

    Args:
        mode: `paper` gives a rule that never stops.
        model: The original.
        sides: What is forgotten.
        forget: Names the classes that are forgotten whole.
        embeddings: Of the stage's nodes by the original, shape (n, d).

    Raises:
        MethodUnsuitableError: There is no picture for this forget set, or the original passes for a model that has
            never seen it already.
    """
    if mode == "paper":
        return StoppingRule(None)
    rule = StoppingRule(NeverSeen.prepare(model, sides, forget))
    if not rule.checks:
        raise MethodUnsuitableError(
            "The model learned no label and no edge of what is to be forgotten, so no held-out items are like it; "
            "calibration paper runs the fixed schedule all the same."
        )
    if rule.is_enough(model, embeddings):
        raise MethodUnsuitableError(
            "With the messages gone, what is to be forgotten looks to the model like the never seen already, so "
            "validation data give no target; calibration paper runs the fixed schedule all the same."
        )
    return rule


def matched(scores: Tensor, never_seen: Tensor) -> Tensor:
    """Return the score that each forgotten item should come to: the q-th of f aims at the never-seen q-quantile.

    The forgotten items keep their order, so that nothing is asked of the weights but a shift of the distribution.

    Args:
        scores: Of the forgotten items, shape (f,).
        never_seen: Shape (v,), v ≥ 1.

    Returns:
        Shape (f,).

    >>> matched(torch.tensor([9.0, 7.0]), torch.tensor([0.0, 1.0, 2.0, 3.0]))  # the quantiles ¾ and ¼
    tensor([2.2500, 0.7500])
    """
    quantiles = (scores.argsort().argsort() + 0.5) / max(1, len(scores))
    return torch.quantile(never_seen, quantiles.to(never_seen.dtype))


def shifted_margins(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Return the logits with the label's one moved so that the margin is as wished; the others keep their relations.

    The margin is φ = z_y - logsumexp_{k≠y} z_k, so the new z_y is φ + logsumexp_{k≠y} z_k.

    Args:
        logits: Shape (n, classes).
        labels: Shape (n,).
        margins: Shape (n,).

    >>> shifted_margins(torch.tensor([[5.0, 1.0]]), torch.tensor([0]), torch.tensor([-2.0]))
    tensor([[-1.,  1.]])
    """
    others = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)
    return logits.scatter(1, labels[:, None], (margins.to(logits.dtype) + others)[:, None])


def whole_classes(model: GraphModel, forget: ForgetSet) -> list[int]:
    """Return the labels, in the model's numbering, of node classes that are forgotten whole."""
    names = {name.removeprefix(_NODE_CLASS) for name in forget.classes if name.startswith(_NODE_CLASS)}
    return [label for label, name in enumerate(model.classes) if name in names]


def _likes(model: GraphModel, sides: Sides, forget: ForgetSet) -> Iterator[Likes]:
    gone = sides.labels[sides.forgotten_nodes]
    held_out = sides.retained.calibration_nodes()
    whole = whole_classes(model, forget)
    ordinary = ~torch.isin(gone, torch.tensor(whole, dtype=torch.int64))
    if ordinary.any():
        _require(len(held_out), "nodes")
        yield Likes(ordinary.nonzero()[:, 0], held_out, sides.labels[held_out])
    for label in whole:
        chosen = (gone == label).nonzero()[:, 0]
        others = held_out[sides.labels[held_out] != label]
        if len(chosen):
            _require(len(others), "nodes of other classes")
            yield Likes(chosen, others, torch.full_like(others, label))


def _require(count: int, what: str) -> None:
    if count < LEAST_HELD_OUT:
        raise MethodUnsuitableError(
            f"{count} held-out {what} for calibration are too few to show what the never seen looks like."
        )


def _margins(logits: Tensor, nodes: Tensor, labels: Tensor) -> Tensor:
    return logit_margins(logits[nodes], labels) if len(nodes) else logits.new_zeros(0, dtype=torch.float64)


def _auc(upper: Tensor, lower: Tensor) -> float:
    """P(upper > lower) + ½ P(upper = lower)."""
    ordered = lower.sort().values
    below = torch.searchsorted(ordered, upper) + torch.searchsorted(ordered, upper, right=True)
    return float(below.double().mean()) / (2 * len(lower))
