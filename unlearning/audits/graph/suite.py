"""The graph family's audit: what decides and what informs is in `unlearning.audits.suite`.

Approximate methods are judged in two views of the deleted nodes and edges (`evidence`), each with three two-sided checks
against models retrained on what remains. Usefulness is two-sided against those too, and bounded below against the
original: a graph can lose nodes that hold it together, and then retraining is ruined like everything else.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from models.graph.network import GraphModel
from unlearning.audits.comparisons import informing_checks
from unlearning.audits.graph.attacks import AttackedItems, shadow_pool
from unlearning.audits.graph.comparisons import comparisons
from unlearning.audits.graph.evidence import GraphEvidence, View
from unlearning.audits.graph.utility import Served, forgotten_accuracy, utility
from unlearning.audits.report import Audit, Check
from unlearning.audits.suite import Parts, run_audit
from unlearning.audits.suites import Case
from unlearning.audits.utility import utility_checks

__all__ = ["audit", "shadow_pool"]


def audit(case: Case) -> Audit:
    """Measure one candidate against the original and what remains of the graph, and judge it."""
    now, before = GraphEvidence(case, View.AS_IT_STANDS), GraphEvidence(case, View.REPLAYED)
    served = Served(now, before)

    def utilities(*, gating: bool, against_retrained: bool) -> Iterable[Check]:
        return utility_checks(
            utility(served),
            case.policy.utility_margin,
            gating=gating,
            against_retrained=against_retrained,
            two_sided=True,
            original_gates=True,
        )

    parts = Parts(
        utility=utilities,
        forgotten=lambda: forgotten_accuracy(served),
        informing=lambda: informing_checks(now, comparisons(served)),
        attacked=lambda: AttackedItems(before),
        covers=[*_coverage(case)],
    )
    return run_audit([now, before], parts)


def _coverage(case: Case) -> Iterator[str]:
    """Say what a published graph without the deleted records leaves open: what the weights know."""
    if not case.forget.record_ids or case.method.fallback:
        return
    yield "The deleted records are not in the published graph."
    if _same_weights(case.parent, case.candidate):
        yield (
            "The weights are the original's, bit by bit: whatever they have learned from the deleted records is still "
            "in them."
        )


def _same_weights(parent: GraphModel, candidate: Any) -> bool:
    if not isinstance(candidate, GraphModel):
        return False
    before, after = parent.state_dict(), candidate.state_dict()
    return before.keys() == after.keys() and all(
        torch.equal(one, after[name]) for name, one in before.items()
    )
