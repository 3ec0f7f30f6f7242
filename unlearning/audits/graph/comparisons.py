"""Figures for information on graphs: Et and Ed, presence, flipped predictions, distances, usefulness by class.

Figures of what is served are taken on the graph after the deletion; the original is an anchor as it was served, on the
graph before it.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import torch
from torch import Tensor

from models.graph.network import GraphModel
from unlearning.audits.bounds import Limits, two_sided, upper
from unlearning.audits.comparisons import (
    FORGET_QUALITY_P,
    RETAINED_PRIVACY,
    RMIA_AUC,
    Comparison,
    Measured,
    against_retrained,
    forget_quality_p,
)
from unlearning.audits.evidence import Records
from unlearning.audits.forgetting import auc_limits
from unlearning.audits.graph.evidence import GraphEvidence, Read, View
from unlearning.audits.graph.utility import Served
from unlearning.audits.metrics.accuracy import accuracy
from unlearning.audits.metrics.activation_distance import activation_distance
from unlearning.audits.metrics.cross_entropy import cross_entropies
from unlearning.audits.metrics.edge_auc import deleted_auc, held_out_auc
from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.metrics.flipped import flipped
from unlearning.audits.metrics.jensen_shannon import jensen_shannon
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.metrics.presence_ratio import presence_ratio
from unlearning.audits.metrics.weight_distance import weight_distance
from unlearning.errors import MetricError

MOST_CLASSES = 20
"""Classes whose usefulness is reported, those with the most held-out items first."""
LEAST_OF_CLASS = 5
"""Held-out items of a class below which nothing is said of it."""

GraphComparison = Comparison[GraphEvidence]


def comparisons(served: Served) -> Sequence[GraphComparison]:
    """Return the entries of one audit."""
    own = _of_nodes(served) if served.now.of_nodes else _of_edges(served)
    return (*own, *_of_both(served), *_by_class(served))


def _of_edges(served: Served) -> Iterator[GraphComparison]:
    edges = {
        "Et": (
            "utility",
            "AUC of held-out edges against pairs without an edge (GNNDelete)",
            lambda read: held_out_auc(read.outputs[Records.NEVER_SEEN].scores, read.negatives),
        ),
        "Ed": (
            "forgetting",
            "AUC of retained (1) against deleted edges (0) (GNNDelete); higher is not better",
            lambda read: deleted_auc(
                read.outputs[Records.RETAINED].scores, read.outputs[Records.FORGOTTEN].scores
            ),
        ),
        "deleted edges against pairs without an edge": (
            "forgetting",
            "AUC of deleted edges (1) against pairs without an edge (0)",
            lambda read: membership_auc(read.outputs[Records.FORGOTTEN].scores, read.negatives),
        ),
    }
    for name, (group, formula, measure) in edges.items():
        yield Comparison(name, group, formula, _share(served, measure))
    yield Comparison(
        "presence-probability ratio",
        "membership",
        "mean probability of deleted edges under the original over that under the new version, each as served (GNNDelete)",
        lambda _: _presence_ratio(served),
    )


def _of_nodes(served: Served) -> Iterator[GraphComparison]:
    for view, evidence in ((View.AS_IT_STANDS, served.now), (View.REPLAYED, served.before)):
        yield Comparison(
            f"cross-entropy on forgotten records, {view}",
            "forgetting",
            "mean of -log p_y over forgotten nodes, in nats",
            _cross_entropy(evidence),
        )


def _of_both(served: Served) -> Iterator[GraphComparison]:
    yield FORGET_QUALITY_P
    yield Comparison(
        f"{FORGET_QUALITY_P.name}, {View.REPLAYED}",
        FORGET_QUALITY_P.group,
        FORGET_QUALITY_P.formula,
        lambda _: forget_quality_p(served.before),
    )
    yield RMIA_AUC
    yield Comparison(
        "activation distance",
        "distance",
        "mean over forgotten records and retrained models of ‖p - p of the retrained model‖₂",
        _distance(Records.FORGOTTEN, activation_distance),
    )
    for name, records in (
        ("Jensen-Shannon divergence", Records.FORGOTTEN),
        ("Jensen-Shannon divergence, never seen", Records.NEVER_SEEN),
    ):
        formula = f"mean over {records} records and retrained models, in nats"
        yield Comparison(name, "distance", formula, _distance(records, jensen_shannon))
    yield Comparison(
        "flipped predictions",
        "distance",
        "share of other nodes, or of retained, held-out and absent edges, that a retrained model decides otherwise; its mean",
        lambda _: _flipped(served),
    )
    yield Comparison(
        "weight distance",
        "distance",
        "mean over retrained models of ‖θ - θ_retrained‖₂ / ‖θ_retrained‖₂, deletion operators left out",
        lambda _: _weights(served),
    )
    yield RETAINED_PRIVACY


def _by_class(served: Served) -> Iterator[GraphComparison]:
    """Usefulness of each class of nodes, or of each class of edges where there are any."""
    names, classes = _classes(served.now)
    counts = torch.bincount(classes, minlength=len(names)) if len(names) else torch.zeros(0)
    for place in counts.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist():
        if counts[place] < LEAST_OF_CLASS:
            continue
        chosen = (classes == place).nonzero().flatten()
        yield Comparison(
            f"{'accuracy' if served.now.of_nodes else 'AUC'} of the class {names[place]}",
            "utility",
            "right predictions / held-out nodes of the class; interval by Wilson (1927)"
            if served.now.of_nodes
            else "AUC of held-out edges of the class against pairs without an edge",
            _share(served, _class_utility(served.now, chosen)),
        )


def _classes(evidence: GraphEvidence) -> tuple[Sequence[str], Tensor]:
    """Return the names of classes and the class of each never-seen item, shape (n,)."""
    data, items = evidence.case.data, evidence.sets[Records.NEVER_SEEN]
    if evidence.of_nodes:
        return data.classes, data.labels[items.places]
    keys, order = data.edge_keys.sort()
    wanted = items.places[0] * data.nodes + items.places[1]
    return data.edge_classes, data.relations[order[torch.searchsorted(keys, wanted)]]


def _class_utility(evidence: GraphEvidence, chosen: Tensor) -> Callable[[Read], Estimate]:
    def of_nodes(read: Read) -> Estimate:
        right = read.outputs[Records.NEVER_SEEN].right[chosen].to(torch.int64)
        return accuracy(right, torch.ones_like(right))

    def of_edges(read: Read) -> Estimate:
        return held_out_auc(read.outputs[Records.NEVER_SEEN].scores[chosen], read.negatives)

    return of_nodes if evidence.of_nodes else of_edges


def _share(served: Served, measure: Callable[[Read], Estimate]) -> Callable[[GraphEvidence], Measured]:
    """Compare an AUC or an accuracy of what is served with the retrained models', on both sides."""

    def compare(evidence: GraphEvidence) -> Measured:
        measured = measure(served.candidate)
        others = [measure(read).value for read in evidence.retrained_reads()]
        limits = auc_limits(others, evidence.rate, pairs=measured.n)
        return _with_gap(
            measured.value,
            fmean(others),
            measured.n,
            limits,
            interval=measured.interval,
            anchors={
                "original": measure(served.original).value,
                "original's weights": measure(served.now.read("original", served.now.case.parent)).value,
            },
        )

    return compare


def _with_gap(
    value: float,
    reference: float,
    n: int,
    limits: Limits,
    *,
    interval: tuple[float, float] | None = None,
    anchors: dict[str, float],
) -> Measured:
    """Put the gap to the retrained models' mean into words: it is what is compared between methods."""
    would = "could well have" if limits.hold(value) else "would hardly have"
    return Measured(
        value=value,
        reference=reference,
        n=n,
        interval=interval,
        limits=limits,
        anchors=anchors,
        reason=f"{value - reference:+.4f} from the retrained models' mean; a retrained model {would} given this figure.",
    )


def _presence_ratio(served: Served) -> Measured:
    before = served.original.outputs[Records.FORGOTTEN].scores

    def ratio(read: Read) -> float:
        return presence_ratio(before, read.outputs[Records.FORGOTTEN].scores)

    others = [ratio(read) for read in served.now.retrained_reads()]
    return _with_gap(
        ratio(served.candidate),
        fmean(others),
        len(before),
        two_sided(others, served.now.rate),
        anchors={
            "original": 1.0,
            "original's weights": ratio(served.now.read("original", served.now.case.parent)),
        },
    )


def _cross_entropy(evidence: GraphEvidence) -> Callable[[GraphEvidence], Measured]:
    def measure(_: GraphEvidence) -> Measured:
        def loss(read: Read) -> Estimate:
            outputs = read.outputs[Records.FORGOTTEN]
            return mean_estimate(cross_entropies(outputs.logits, outputs.labels), low=0.0)

        case = evidence.case
        measured = loss(evidence.read("candidate", case.candidate))
        others = [loss(read).value for read in evidence.retrained_reads()]
        return _with_gap(
            measured.value,
            fmean(others),
            measured.n,
            two_sided(others, evidence.rate),
            interval=measured.interval,
            anchors={"original": loss(evidence.read("original", case.parent)).value},
        )

    return measure


def _distance(
    records: Records, distance: Callable[[Tensor, Tensor], Estimate]
) -> Callable[[GraphEvidence], Measured]:
    def measure(evidence: GraphEvidence) -> Measured:
        return against_retrained(
            evidence, records, lambda ours, theirs: distance(ours.logits, theirs.logits).value
        )

    return measure


def _flipped(served: Served) -> Measured:
    others = [_decisions(served.now, read) for read in served.now.retrained_reads()]

    def mean_share(decisions: Tensor, among: list[Tensor]) -> float:
        return fmean(flipped(decisions, other).value for other in among)

    own = [mean_share(one, others[:place] + others[place + 1 :]) for place, one in enumerate(others)]
    return Measured(
        value=mean_share(_decisions(served.now, served.candidate), others),
        reference=fmean(own),
        n=len(others[0]),
        limits=upper(own, served.now.rate),
        anchors={"original": mean_share(_decisions(served.now, served.original), others)},
    )


def _decisions(evidence: GraphEvidence, read: Read) -> Tensor:
    """Return what a model decides of everything but the forgotten records, shape (n,), integers."""
    if evidence.of_nodes:
        others = torch.ones(evidence.case.data.nodes, dtype=torch.bool)
        others[evidence.sets[Records.FORGOTTEN].places] = False
        return read.predictions[others & ~evidence.gone.nodes]
    known = [read.outputs[records].scores for records in (Records.RETAINED, Records.NEVER_SEEN)]
    return (torch.cat([*known, read.negatives]) > 0).to(torch.int64)


def _weights(served: Served) -> Measured:
    case = served.now.case
    others = [_named_weights(model) for model in served.now.references().models]

    def mean_distance(weights: dict[str, Tensor], among: list[dict[str, Tensor]]) -> float:
        return fmean(weight_distance(weights, other).value for other in among)

    own = [mean_distance(one, others[:place] + others[place + 1 :]) for place, one in enumerate(others)]
    return Measured(
        value=mean_distance(_named_weights(case.candidate), others),
        reference=fmean(own),
        n=sum(one.numel() for one in others[0].values()),
        limits=upper(own, served.now.rate),
        anchors={"original": mean_distance(_named_weights(case.parent), others)},
    )


def _named_weights(model: object) -> dict[str, Tensor]:
    if not isinstance(model, GraphModel):
        raise MetricError(f"{type(model).__name__} is no graph network.")
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("deletion_operators.")
    }
