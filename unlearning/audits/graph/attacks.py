"""Shadow models of a graph: each learns half of the labels, or half of the edges, on the one graph that there is.

A half of the nodes would be another graph. So a shadow model of a node classifier sees every node and every edge, and half of
the labels; one of a link predictor sees every node, and half of the edges.
"""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.contracts import ForgetSet
from models.graph.configuration import Task
from models.graph.data import GraphData
from models.graph.elements import edge_record, node_record
from models.graph.network import GraphModel
from unlearning.audits.evidence import Records
from unlearning.audits.graph.evidence import GraphEvidence
from unlearning.audits.graph.items import Items, never_seen_of
from unlearning.audits.references import Shadow
from unlearning.errors import MethodError


@dataclass(frozen=True)
class ShadowPool:
    """Training examples and never-seen ones of one graph, all of which a shadow model may learn.

    Attributes:
        data: The graph before the deletion.
        task: The models'.
        items: The examples: node positions, or pairs.
    """

    data: GraphData
    task: Task
    items: Items

    @property
    def ids(self) -> Sequence[str]:
        """The examples' record ids."""
        return record_ids(self.data, self.task, self.items)

    def only(self, ids: Collection[str]) -> GraphData:
        """Return the graph in which these examples are for training and the others are not there."""
        chosen = torch.tensor([name in ids for name in self.ids], dtype=torch.bool)
        if self.task == "node_classification":
            return self._labelled(self.items.places[chosen], self.items.places[~chosen])
        keys = self.items.places[0] * self.data.nodes + self.items.places[1]
        learned = torch.isin(self.data.edge_keys, keys[chosen])
        kept = ~torch.isin(self.data.edge_keys, keys[~chosen])
        return dataclasses.replace(
            self.data,
            edges=self.data.edges[:, kept],
            held_out_edges=(self.data.held_out_edges & ~learned)[kept],
            relations=self.data.relations[kept],
        )

    def _labelled(self, learned: Tensor, hidden: Tensor) -> GraphData:
        labels, held_out = self.data.labels.clone(), self.data.held_out_nodes.clone()
        labels[hidden] = -1  # no label
        held_out[learned] = False
        return dataclasses.replace(self.data, labels=labels, held_out_nodes=held_out)


def record_ids(data: GraphData, task: Task, items: Items) -> tuple[str, ...]:
    """Return the record ids of nodes or pairs."""
    names = data.node_ids
    if task == "node_classification":
        return tuple(node_record(names[place]) for place in items.places.tolist())
    return tuple(
        edge_record(names[one], names[other], directed=data.directed)
        for one, other in items.places.T.tolist()
    )


def shadow_pool(parent: GraphModel, data: GraphData, forget: ForgetSet) -> ShadowPool:
    """Return the examples that shadow models learn halves of: all that was learned, and the never-seen ones.

    The same for every forget set that names nothing held out and no whole class, so that shadow models serve many.
    """
    learned = data.training_nodes() if parent.task == "node_classification" else data.training_edges()
    places = torch.cat([learned, never_seen_of(data, forget, parent.task).places], dim=-1)
    return ShadowPool(data, parent.task, Items(places))


class AttackedItems:
    """Forgotten and never-seen nodes or edges of one audit (`deep.Attacked`).

    Args:
        evidence: Says in which view every model is asked.
    """

    def __init__(self, evidence: GraphEvidence) -> None:
        self._evidence = evidence
        self._case = evidence.case
        sets = evidence.sets
        names = [
            record_ids(self._case.data, evidence.task, sets[records])
            for records in (Records.FORGOTTEN, Records.NEVER_SEEN)
        ]
        self.ids: Sequence[str] = (*names[0], *names[1])
        self.is_forgotten = torch.arange(len(self.ids)) < len(names[0])

    def pool(self) -> ShadowPool:
        """Return what shadow models learn halves of."""
        return shadow_pool(self._case.parent, self._case.data, self._case.forget)

    def scores(self, model: Any) -> Tensor:
        """Return φ of these items under a model, shape (n,), float64.

        Raises:
            MetricError: As `GraphEvidence.observe`.
        """
        read = self._evidence.pass_over(model)
        return torch.cat(
            [read.outputs[records].scores for records in (Records.FORGOTTEN, Records.NEVER_SEEN)]
        )

    def unlearn(self, shadow: Shadow) -> Any:
        """Let the method under audit delete from a shadow model's graph what the request names and is there.

        Raises:
            MethodError: How the candidate was made is not known.
        """
        case = self._case
        if not case.method.implementation:
            raise MethodError(
                "How this version was made is not known, so it cannot be done to shadow models."
            )
        visible = self.pool().only(shadow.trained_on).for_methods()
        hidden = set(visible.missing(case.forget.record_ids))
        asked = tuple(name for name in case.forget.record_ids if name not in hidden)
        return case.method.load()(
            shadow.reference.model,
            visible,
            ForgetSet(asked, case.forget.classes),
            case.method.configure(dict(case.parameters)),
            generator=torch.Generator().manual_seed(case.seed),
            progress=case.progress,
        )
