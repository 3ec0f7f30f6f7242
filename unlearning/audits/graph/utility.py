"""Usefulness of a graph network as it is served: accuracy on held-out nodes, or AUC of held-out edges.

The candidate and the references are asked on the graph after the deletion, the original on the graph before it. So a
request that would ruin the model shows in the change from the original even where the references are ruined alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearning.audits.evidence import Records
from unlearning.audits.graph.evidence import GraphEvidence, Read
from unlearning.audits.metrics.accuracy import accuracy, accuracy_change
from unlearning.audits.metrics.edge_auc import auc_difference, held_out_auc
from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.report import Check, Outcome
from unlearning.audits.utility import Utility
from unlearning.errors import MetricError

ACCURACY = "right predictions / nodes; interval by Wilson (1927)"
AUC = "P(score of a held-out edge > score of a pair without an edge) + ½ P(equal); interval by DeLong (1988)"


@dataclass(frozen=True)
class Served:
    """Models as they are served.

    Attributes:
        now: The graph after the deletion.
        before: The graph before it.
    """

    now: GraphEvidence
    before: GraphEvidence

    @property
    def candidate(self) -> Read:
        """The candidate on the graph that is left."""
        return self.now.read("candidate", self.now.case.candidate)

    @property
    def original(self) -> Read:
        """The original on the graph that it was made for."""
        return self.before.read("original", self.before.case.parent)


def utility(served: Served) -> Utility:
    """Say how usefulness is measured, item by item: every model faces the same held-out nodes or pairs."""
    return _of_nodes(served) if served.now.of_nodes else _of_edges(served)


def _of_nodes(served: Served) -> Utility:
    def right(read: Read) -> Tensor:
        return read.outputs[Records.NEVER_SEEN].right.to(torch.int64)

    def all_right() -> Tensor:
        return torch.ones(len(served.now.sets[Records.NEVER_SEEN]), dtype=torch.int64)

    def held_out() -> tuple[Estimate, Estimate]:
        return accuracy(right(served.candidate), all_right()), accuracy(right(served.original), all_right())

    def against_retrained() -> Estimate:
        references = torch.stack([right(read) for read in served.now.retrained_reads()]).to(torch.float64)
        return mean_estimate(
            right(served.candidate).to(torch.float64) - references.mean(dim=0), low=-1.0, high=1.0
        )

    return Utility(
        noun="accuracy",
        formula=ACCURACY,
        change_formula="(won - lost) / n over held-out nodes; interval by Agresti and Min (2005)",
        retrained_formula="mean over held-out nodes of (right - share of the retrained models that are right)",
        n=len(served.now.sets[Records.NEVER_SEEN]),
        held_out=held_out,
        change=lambda: accuracy_change(right(served.original), right(served.candidate), all_right()),
        against_retrained=against_retrained,
    )


def _of_edges(served: Served) -> Utility:
    def scores(read: Read) -> tuple[Tensor, Tensor]:
        return read.outputs[Records.NEVER_SEEN].scores, read.negatives

    def difference(reads: list[Read]) -> Estimate:
        edges, negatives = zip(*(scores(read) for read in reads), strict=True)
        return auc_difference(*scores(served.candidate), torch.stack(edges), torch.stack(negatives))

    return Utility(
        noun="AUC",
        formula=AUC,
        change_formula="difference of the AUCs; paired interval by DeLong (1988)",
        retrained_formula="AUC - mean AUC of the retrained models; paired interval by DeLong (1988)",
        n=len(served.now.sets[Records.NEVER_SEEN]),
        held_out=lambda: (held_out_auc(*scores(served.candidate)), held_out_auc(*scores(served.original))),
        change=lambda: difference([served.original]),
        against_retrained=lambda: difference(served.now.retrained_reads()),
    )


def forgotten_accuracy(served: Served) -> Iterator[Check]:
    """Measure accuracy on the forgotten nodes, or the share of forgotten edges that are predicted, for information."""
    if not len(served.now.sets[Records.FORGOTTEN]):
        return
    name = "accuracy on forgotten records"
    formula = ACCURACY if served.now.of_nodes else "edges with s > 0 / edges; interval by Wilson (1927)"
    try:
        right = [read.outputs[Records.FORGOTTEN].right for read in (served.candidate, served.original)]
        measured, original = (
            accuracy(one.to(torch.int64), torch.ones(len(one), dtype=torch.int64)) for one in right
        )
    except MetricError as error:
        yield Check(
            name=name,
            formula=formula,
            group="forgetting",
            value=None,
            reference_name="original",
            gating=False,
            outcome=Outcome.INCONCLUSIVE,
            reason=str(error),
        )
        return
    yield Check(
        name=name,
        formula=formula,
        group="forgetting",
        value=measured.value,
        reference=original.value,
        reference_name="original",
        interval=measured.interval,
        n=measured.n,
        gating=False,
        outcome=Outcome.PASS,
        reason="For information: a model that never saw a node or an edge may well predict it rightly.",
    )
