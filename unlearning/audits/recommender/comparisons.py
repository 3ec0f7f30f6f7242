"""Figures for information on recommenders, each beside the same figure of the retrained references."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import torch
from torch import Tensor

from unlearning.audits.bounds import two_sided
from unlearning.audits.comparisons import (
    FORGET_QUALITY_P,
    RETAINED_PRIVACY,
    RMIA_AUC,
    Comparison,
    Measured,
)
from unlearning.audits.evidence import Records
from unlearning.audits.forgetting import auc_limits
from unlearning.audits.metrics.activity_gap import activity_gap
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.metrics.pair_membership import mi_bf, mi_ng
from unlearning.audits.metrics.ranking import overlap_at_k
from unlearning.audits.recommender.evidence import RecommenderEvidence
from unlearning.audits.recommender.rankings import K, Ranked, Rankings
from unlearning.errors import MetricError

PairComparison = Comparison[RecommenderEvidence]
PairFigure = Callable[[Tensor, Tensor, Tensor], float]
"""Of a model's scores of forgotten pairs, its scores of negative pairs, and the original's of forgotten ones."""


def comparisons(rankings: Rankings) -> Sequence[PairComparison]:
    """Return the entries of one audit."""
    return (*_of_pairs(), FORGET_QUALITY_P, RMIA_AUC, RETAINED_PRIVACY, *_of_rankings(rankings))


def _of_pairs() -> Iterator[PairComparison]:
    yield Comparison(
        "forget-versus-negative AUC",
        "forgetting",
        "AUC of forgotten pairs (1) against pairs of the same users that nobody took (0); two-sided",
        _forget_auc,
    )
    yield Comparison(
        "MI-BF",
        "membership",
        "mean p of forgotten pairs under the original over that under the new version, p = 1 / (1 + exp(-φ)) (UnlearnRec)",
        _against_retrained(lambda forgotten, _, original: mi_bf(original, forgotten)),
    )
    yield Comparison(
        "MI-NG",
        "membership",
        "mean p of pairs that nobody took over that of forgotten pairs, p = 1 / (1 + exp(-φ)) (UnlearnRec)",
        _against_retrained(lambda forgotten, negatives, _: mi_ng(negatives, forgotten)),
    )


def _of_rankings(rankings: Rankings) -> Iterator[PairComparison]:
    yield Comparison(
        "active/inactive gap",
        "utility",
        f"mean recall@{K} of the most active fifth of users less that of the others",
        _activity_gap(rankings),
    )
    yield Comparison(
        f"top-{K} overlap of unaffected users",
        "distance",
        f"share of the first {K} items that a retrained model recommends too, users without a forgotten interaction; "
        "the reference is the overlap of two retrained models",
        _overlap(rankings),
    )


def _pairs_of(evidence: RecommenderEvidence) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
    """Return each model's scores of forgotten and of negative pairs by its name, and the original's of forgotten ones."""
    negatives = evidence.negatives()
    models = {
        "candidate": (evidence.candidate(Records.FORGOTTEN), evidence.case.candidate),
        "original": (evidence.original(Records.FORGOTTEN), evidence.case.parent),
    }
    references = evidence.references().references
    for reference, outputs in zip(references, evidence.retrained(Records.FORGOTTEN), strict=True):
        models[f"retrained {reference.key.seed}"] = (outputs, reference.model)
    found = {
        name: (outputs.scores, evidence.scores_of(model, negatives).scores)
        for name, (outputs, model) in models.items()
    }
    return found, found["original"][0]


def _forget_auc(evidence: RecommenderEvidence) -> Measured:
    found, _ = _pairs_of(evidence)
    aucs = {name: membership_auc(*scores) for name, scores in found.items()}
    others = [auc.value for name, auc in aucs.items() if name.startswith("retrained")]
    measured = aucs["candidate"]
    forgotten, negatives = found["candidate"]
    return Measured(
        value=measured.value,
        reference=fmean(others),
        n=measured.n,
        interval=measured.interval,
        limits=auc_limits(others, evidence.rate, pairs=len(forgotten) * len(negatives)),
        anchors={"original": aucs["original"].value},
    )


def _against_retrained(figure: PairFigure) -> Callable[[RecommenderEvidence], Measured]:
    def measure(evidence: RecommenderEvidence) -> Measured:
        found, original = _pairs_of(evidence)
        figures = {name: figure(*scores, original) for name, scores in found.items()}
        others = [value for name, value in figures.items() if name.startswith("retrained")]
        return Measured(
            value=figures["candidate"],
            reference=fmean(others),
            n=len(original),
            limits=two_sided(others, evidence.rate),
            anchors={"original": figures["original"]},
        )

    return measure


def _activity_gap(rankings: Rankings) -> Callable[[RecommenderEvidence], Measured]:
    def measure(evidence: RecommenderEvidence) -> Measured:
        activity = torch.from_numpy(rankings.ground.taken.sum(axis=1))[rankings.users]

        def gap(ranked: Ranked) -> float:
            return activity_gap(ranked.recall, activity).value

        measured = activity_gap(rankings.candidate.recall, activity)
        others = [gap(ranked) for ranked in rankings.retrained()]
        return Measured(
            value=measured.value,
            reference=fmean(others),
            n=measured.n,
            interval=measured.interval,
            limits=two_sided(others, evidence.rate),
            anchors={"original": gap(rankings.original)},
        )

    return measure


def _overlap(rankings: Rankings) -> Callable[[RecommenderEvidence], Measured]:
    def measure(evidence: RecommenderEvidence) -> Measured:
        affected = evidence.ground.pairs_of(evidence.ground.forgotten).users
        chosen = ~torch.isin(rankings.users, affected)
        others = [ranked.top[chosen] for ranked in rankings.retrained()]
        if not bool(chosen.any()):
            raise MetricError("Every user with held-out interactions had a forgotten one.")

        def mean_overlap(top: Tensor, among: list[Tensor]) -> float:
            return fmean(float(overlap_at_k(top, other).mean()) for other in among)

        if len(others) < 2:  # noqa: PLR2004 - one model overlaps with no other
            raise MetricError("The overlap of two retrained models needs two of them.")
        own = [mean_overlap(top, others[:place] + others[place + 1 :]) for place, top in enumerate(others)]
        return Measured(
            value=mean_overlap(rankings.candidate.top[chosen], others),
            reference=fmean(own),
            n=int(chosen.sum()),
            limits=two_sided(own, evidence.rate),
            anchors={"original": mean_overlap(rankings.original.top[chosen], others)},
        )

    return measure
