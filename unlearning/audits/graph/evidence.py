"""What a graph's audit looks at: logits of nodes, or of edges, in two views of the same graph.

A deleted node or edge can be put before a model in two ways:

- *as it stands*: the graph after the deletion. Of a deleted edge both ends are still there, less the message between
  them; a deleted node is shown by its own features alone, as a stranger to the graph would be.
- *replayed*: the graph before the deletion. What was deleted is put back where it was, as somebody who has kept it could
  do with a downloaded checkpoint.

In either view every model, the original and the references included, is given the very same graph, so that only what
is in the *weights* (and deletion operators) can make a difference. The graph itself needs no audit of this kind: the new
snapshot has not got the deleted records. So what the original gives in the view as it stands is `drop_edges`: its weights
on the graph that is left, and a method that changes no weights is as good as the untouched original in both views.

Usefulness is that of what is served: the candidate and the references on the graph after the deletion, the original on
the graph before it.
"""

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.graph.adjacency import Messages, messages_along
from models.graph.data import GraphData
from models.graph.elements import FEATURE
from models.graph.network import GraphModel, Inputs
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.graph.items import Deletion, Items, negatives_of, sets_of
from unlearning.audits.metrics.items import floats
from unlearning.audits.outputs import Outputs
from unlearning.audits.reading import reading
from unlearning.audits.suites import Case
from unlearning.errors import MetricError

PRESENT = ("no edge", "edge")
"""The two classes that an edge's logit tells apart."""


class View(enum.StrEnum):
    """How deleted nodes and edges are put before a model."""

    AS_IT_STANDS = "as it stands"
    REPLAYED = "replayed"


@dataclass(frozen=True)
class Read:
    """What is kept of one forward pass of one model in one view.

    Attributes:
        outputs: On each set of items.
        negatives: Logits of pairs without an edge, shape (m,), float64; empty for node classification.
        predictions: Every node's class, by its place among the classes in alphabetical order, shape (n,); for link
            prediction, empty.
    """

    outputs: dict[Records, Outputs]
    negatives: Tensor
    predictions: Tensor


class GraphEvidence(Evidence[Outputs]):
    """Logits of every model in one view; one forward pass over the graph for each model.

    Args:
        case: What is audited.
        view: How deleted nodes and edges are put before the models.
    """

    # Three of forgetting in each view, and usefulness against retraining.
    gating_checks: ClassVar[int] = 7
    sets: dict[Records, Items]

    def __init__(self, case: Case, view: View) -> None:
        """Choose the items.

        Raises:
            MetricError: The original is no graph network.
        """
        if not isinstance(case.parent, GraphModel):
            raise MetricError(f"{type(case.parent).__name__} is no graph network.")
        self.task = case.parent.task
        super().__init__(case, sets_of(case.data, case.forget, self.task, case.seed), view=view)
        self.of_nodes = self.task == "node_classification"
        self.score_name = "margin" if self.of_nodes else "log-odds"
        self.score_formula = (
            "φ = log p_y - log Σ_{k≠y} p_k, less the never-seen nodes' mean and in units of their spread"
            if self.of_nodes
            else "φ = log p - log (1 - p) = ⟨h_u, h_v⟩, p the probability of the edge"
        )
        self._shown = view
        self._reads: dict[str, Read] = {}

    def observe(self, model: Any, records: Records) -> Outputs:
        """Ask a model for its logits on these items.

        Raises:
            MetricError: It is no graph network of the original's task, classes and width, or its outputs are not numbers.
        """
        return self.pass_over(model).outputs[records]

    def gauged(self, scores: Tensor, never_seen: Tensor) -> Tensor:
        """Measure margins of nodes from the never-seen nodes' mean, in the never-seen nodes' spread; see `Evidence.gauged`.

        When training stops is a matter of chance, and so is how confident a node classifier is throughout: bare margins of
        forgotten nodes vary several times as much from one retrained model to the next as they do among never-seen nodes'.
        Logits of edges have no such freedom, for training holds them against pairs without an edge.
        """
        if not self.of_nodes:
            return scores
        spread = floats(never_seen, "margins of never-seen nodes", at_least=2).std()
        if not spread > 0:
            raise MetricError(
                "All never-seen nodes have the same margin, so no scale can be taken from them."
            )
        return (scores - never_seen.mean()) / spread

    def kept(self, name: str, model: Any, records: Records) -> Outputs:
        """Return a model's outputs; see `Evidence.kept`."""
        return self.read(name, model).outputs[records]

    def read(self, name: str, model: Any) -> Read:
        """Return everything that one forward pass gave, taken at most once.

        Args:
            name: What it is kept under: `original`, `candidate`, `random`, or `retrained` and a seed.
            model: The model.

        Raises:
            MetricError: As `observe`.
        """
        if name not in self._reads:
            self._reads[name] = self.pass_over(model)
        return self._reads[name]

    def retrained_reads(self) -> list[Read]:
        """Return what was read of every retrained reference.

        Raises:
            MissingReferenceError: There are none; the message says why.
            MetricError: As `observe`.
        """
        return [
            self.read(f"retrained {reference.key.seed}", reference.model)
            for reference in self.references().references
        ]

    @cached_property
    def gone(self) -> Deletion:
        """What was deleted."""
        return Deletion.of(self.case.data, self.case.forget)

    @cached_property
    def negatives(self) -> Items:
        """Pairs without an edge; none for node classification.

        Raises:
            MetricError: Every pair of nodes has an edge.
        """
        if self.of_nodes:
            return Items(torch.empty(2, 0, dtype=torch.int64))
        try:
            return negatives_of(self.case.data, self.case.forget)
        except ValueError as error:
            raise MetricError(f"There are no pairs without an edge to compare with: {error}.") from error

    @cached_property
    def _graph(self) -> tuple[Inputs, Messages]:
        """Features and messages of this view, in the positions that nodes had before the deletion."""
        data: GraphData = self.case.data
        if self._shown is View.REPLAYED:
            return self.case.parent.inputs(data.features), messages_along(data.message_edges(), data.nodes)
        bare = data.without([name for name in self.case.forget.record_ids if name.startswith(FEATURE)])
        edges = data.edges[:, ~data.held_out_edges & ~self.gone.edges]
        both = edges if data.directed else torch.cat([edges, edges.flip(0)], dim=1)
        return self.case.parent.inputs(bare.features), messages_along(both, data.nodes)

    def pass_over(self, model: Any) -> Read:
        """Ask a model for everything that checks need of it, in one pass over the graph; nothing is kept.

        Raises:
            MetricError: As `observe`.
        """
        original = self.case.parent
        if not isinstance(model, GraphModel) or model.task != self.task:
            raise MetricError(f"{type(model).__name__} is no graph network of the original's task.")
        if sorted(model.classes) != sorted(original.classes) or model.config.width != original.config.width:
            raise MetricError("The models do not read the same features or know the same classes.")
        features, messages = self._graph
        with reading(model):
            embeddings = model.encode(features, messages, model.keys_of(self.case.data))
            return self._of_nodes(model, embeddings) if self.of_nodes else self._of_edges(model, embeddings)

    def _of_nodes(self, model: GraphModel, embeddings: Tensor) -> Read:
        classes = tuple(sorted(model.classes))
        columns = [model.classes.index(name) for name in classes]
        logits = model.node_logits(embeddings)[:, columns].to(torch.float64)
        labels = self._labels(classes)
        outputs = {
            records: Outputs(classes, logits[items.places], labels[items.places])
            for records, items in self.sets.items()
        }
        return Read(outputs, torch.empty(0, dtype=torch.float64), logits.argmax(dim=1))

    def _labels(self, classes: tuple[str, ...]) -> Tensor:
        try:
            labels: Tensor = self.case.data.labels_among(classes)
        except ValueError as error:
            raise MetricError(f"The models' classes are not the data's: {error}.") from error
        return labels

    def _of_edges(self, model: GraphModel, embeddings: Tensor) -> Read:
        def logits(items: Items) -> Tensor:
            return model.edge_logits(embeddings, items.places).to(torch.float64)

        outputs = {records: _presence(logits(items)) for records, items in self.sets.items()}
        return Read(outputs, logits(self.negatives), torch.empty(0, dtype=torch.int64))


def _presence(logits: Tensor) -> Outputs:
    """Say in two logits what an edge's one logit says of its being there, shape (k,)."""
    both = torch.stack([torch.zeros_like(logits), logits], dim=1)  # (k, 2)
    return Outputs(PRESENT, both, torch.ones(len(logits), dtype=torch.int64))
