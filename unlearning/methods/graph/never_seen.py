"""Never-seen nodes and edges as target and stopping rule of a forgetting on a graph, without any retraining.

After true forgetting a model answers to a forgotten edge as to one that was held out, and to a forgotten node as to
one whose label it never saw. The calibration half of what is held out, as far as it is retained, shows how that is;
`likeness` carries it over to the forgotten items, which need not be like held-out ones in everything else. A class of
nodes that is forgotten whole has no likes under its own name: its nodes are compared with held-out nodes of other
classes under that name, for which nothing speaks either.

Scores are edge logits, and for nodes the logit margin of the label. It is enough when forgotten items stand as far
below retained ones as never-seen items like them do: AUC(retained vs forgotten) ≥ AUC(retained vs never seen).
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
from unlearning.methods.graph.likeness import edge_facts, expected_scores, node_facts
from unlearning.methods.graph.sides import Sides
from unlearning.methods.graph.student import Scene

LEAST_HELD_OUT = 8
"""Held-out items that make a picture of one kind of forgotten item."""

_NODE_CLASS = "node:"


@dataclass(frozen=True)
class Scores:
    """Scores that one model gives to items of one kind, larger where it is surer.

    Attributes:
        forgotten: Shape (f,), f ≥ 1.
        never_seen: What the forgotten items would be scored, had they been held out: shape (f,).
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
class EdgeLikes:
    """Forgotten edges, and held-out ones like them.

    Attributes:
        forgotten: Shape (2, f).
        held_out: Shape (2, v).
        forgotten_facts: Shape (f, k).
        held_out_facts: Shape (v, k).
    """

    forgotten: Tensor
    held_out: Tensor
    forgotten_facts: Tensor
    held_out_facts: Tensor

    def expected(self, own: Tensor, held_out: Tensor) -> Tensor:
        """Return the logits that forgotten edges would have, had they been held out: shape (f,).

        Args:
            own: Logits of the forgotten edges, shape (f,): they decide the order of what the facts leave open.
            held_out: Logits of the held-out edges, shape (v,).
        """
        return expected_scores(self.held_out_facts, held_out, self.forgotten_facts, own).to(own.dtype)


@dataclass(frozen=True)
class NodeLikes:
    """Forgotten nodes of one kind, and held-out ones like them.

    Attributes:
        chosen: Shape (f,): places in `Sides.forgotten_nodes`.
        forgotten: Shape (f,): the same nodes, on the stage.
        labels: Shape (f,).
        held_out: Shape (v,), on the stage.
        held_out_labels: Shape (v,): the class under which each held-out node is looked at.
        forgotten_facts: Shape (f, k).
        held_out_facts: Shape (v, k).
    """

    chosen: Tensor
    forgotten: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor
    forgotten_facts: Tensor
    held_out_facts: Tensor

    def margins(self, logits: Tensor) -> Tensor:
        """Return the logit margins of the forgotten nodes' labels: shape (n, classes) -> (f,), float64."""
        return logit_margins(logits[self.forgotten], self.labels)

    def expected(self, own: Tensor, logits: Tensor) -> Tensor:
        """Return the margins that forgotten nodes would have, had they been held out: shape (f,), float64.

        Args:
            own: Margins of the forgotten nodes, shape (f,): they decide the order of what the facts leave open.
            logits: Of all nodes of the stage, shape (n, classes).
        """
        known = logit_margins(logits[self.held_out], self.held_out_labels)
        return expected_scores(self.held_out_facts, known, self.forgotten_facts, own)


@dataclass(frozen=True)
class NeverSeen:
    """Held-out items that are like the forgotten ones.

    Attributes:
        sides: Whose forgotten items.
        edges: None where no edges are forgotten.
        nodes: One entry for each kind of forgotten node.
    """

    sides: Sides
    edges: EdgeLikes | None
    nodes: tuple[NodeLikes, ...]

    @classmethod
    def prepare(
        cls, model: GraphModel, sides: Sides, scene: Scene, forget: ForgetSet, generator: torch.Generator
    ) -> "NeverSeen":
        """Find held-out items that are like the forgotten ones.

        Raises:
            MethodUnsuitableError: Too few items are held out.
        """
        edges = None
        if sides.forgotten_edges.shape[1]:
            held_out = sides.retained.calibration_edges()
            _require(held_out.shape[1], "edges")
            pairs = [sides.forgotten_edges, held_out]
            edges = EdgeLikes(*pairs, *edge_facts(scene.inputs, scene.messages, pairs, generator))
        return cls(sides, edges, tuple(_node_likes(model, sides, scene, forget)))

    @property
    def empty(self) -> bool:
        """Whether nothing is forgotten that held-out items could be like."""
        return self.edges is None and not self.nodes

    def scores(self, model: GraphModel, embeddings: Tensor) -> Iterator[tuple[str, Scores]]:
        """Score the items, kind by kind.

        Args:
            model: Only its head is used.
            embeddings: Of the stage's nodes, shape (n, d).

        Raises:
            MetricError: They lead to logits that are not finite numbers.
        """
        sides = self.sides
        if self.edges is not None:
            own, held_out, retained = (
                model.edge_logits(embeddings, pairs)
                for pairs in (self.edges.forgotten, self.edges.held_out, sides.retained_edges)
            )
            yield "edges", Scores(own, self.edges.expected(own, held_out), retained)
        if self.nodes:
            logits = model.node_logits(embeddings)
            retained = logit_margins(logits[sides.retained_nodes], sides.labels[sides.retained_nodes])
            for likes in self.nodes:
                margins = likes.margins(logits)
                yield "nodes", Scores(margins, likes.expected(margins, logits), retained)


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
    scene: Scene,
    forget: ForgetSet,
    generator: torch.Generator,
) -> StoppingRule:
    """Return the rule for a method whose only target is the picture of the never seen.

    Args:
        mode: `paper` gives a rule that never stops.
        model: The original.
        sides: What is forgotten.
        scene: Their stage.
        forget: Names the classes that are forgotten whole.
        generator: Of `edge_facts`.

    Raises:
        MethodUnsuitableError: There is no picture for this forget set, or the original passes for a model that has
            never seen it already.
    """
    if mode == "paper":
        return StoppingRule(None)
    rule = StoppingRule(NeverSeen.prepare(model, sides, scene, forget, generator))
    if not rule.checks:
        raise MethodUnsuitableError(
            "The model learned no label and no edge of what is to be forgotten, so no held-out items are like it; "
            "calibration paper runs the fixed schedule all the same."
        )
    if rule.is_enough(model, scene.embed(model)):
        raise MethodUnsuitableError(
            "With the messages gone, what is to be forgotten looks to the model like the never seen already, so "
            "validation data give no target; calibration paper runs the fixed schedule all the same."
        )
    return rule


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


def _node_likes(model: GraphModel, sides: Sides, scene: Scene, forget: ForgetSet) -> Iterator[NodeLikes]:
    forgotten = sides.forgotten_nodes
    gone, held_out = sides.labels[forgotten], sides.retained.calibration_nodes()
    whole = whole_classes(model, forget)
    ordinary = ~torch.isin(gone, torch.tensor(whole, dtype=torch.int64))
    kinds: list[tuple[Tensor, Tensor, Tensor]] = []
    if ordinary.any():
        _require(len(held_out), "nodes")
        kinds.append((ordinary.nonzero()[:, 0], held_out, sides.labels[held_out]))
    for label in whole:
        chosen = (gone == label).nonzero()[:, 0]
        others = held_out[sides.labels[held_out] != label]
        if len(chosen):
            _require(len(others), "nodes of other classes")
            kinds.append((chosen, others, torch.full_like(others, label)))
    for chosen, likes, labels in kinds:
        nodes = forgotten[chosen]
        groups = [(nodes, sides.labels[nodes]), (likes, labels)]
        facts = node_facts(scene.messages, sides.labels, sides.retained_nodes, groups)
        yield NodeLikes(chosen, *groups[0], *groups[1], *facts)


def _require(count: int, what: str) -> None:
    if count < LEAST_HELD_OUT:
        raise MethodUnsuitableError(
            f"{count} held-out {what} for calibration are too few to show what the never seen looks like."
        )


def _auc(upper: Tensor, lower: Tensor) -> float:
    """P(upper > lower) + ½ P(upper = lower)."""
    ordered = lower.sort().values
    below = torch.searchsorted(ordered, upper) + torch.searchsorted(ordered, upper, right=True)
    return float(below.double().mean()) / (2 * len(lower))
