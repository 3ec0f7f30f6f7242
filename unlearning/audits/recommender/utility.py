"""Usefulness of a recommender: recall@20 by full ranking on the audit half, and on what was forgotten."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from models.recommender.ranking import top_items
from unlearning.audits.evidence import Records
from unlearning.audits.metrics.estimate import Estimate, mean_estimate
from unlearning.audits.metrics.ranking import recall_at_k
from unlearning.audits.reading import reading
from unlearning.audits.recommender.evidence import score_rows
from unlearning.audits.recommender.rankings import K, Ranked, Rankings
from unlearning.audits.report import Check, Outcome
from unlearning.audits.utility import Utility
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MetricError, MissingReferenceError

RECALL = "mean over users of hits among the first 20 / held-out items, all items ranked, taken and forgotten ones masked"
NDCG = "the same list's discounted gain over the best one's"
PAIRED = "mean over users of the difference; Student's interval"


def utility(rankings: Rankings) -> Utility:
    """Say how usefulness is measured, user by user: every model ranks the same items for the same users."""

    def against_retrained() -> Estimate:
        references = torch.stack([ranked.recall for ranked in rankings.retrained()])
        return _mean(rankings.candidate.recall - references.mean(dim=0), low=-1.0)

    return Utility(
        noun=f"recall@{K}",
        formula=RECALL,
        change_formula=PAIRED,
        retrained_formula=f"{PAIRED}, to the mean of the retrained models",
        n=len(rankings.users),
        held_out=lambda: (_mean(rankings.candidate.recall), _mean(rankings.original.recall)),
        change=lambda: _mean(rankings.candidate.recall - rankings.original.recall, low=-1.0),
        against_retrained=against_retrained,
    )


def other_rankings(rankings: Rankings) -> Iterator[Check]:
    """Report NDCG, and both figures with forgotten items not masked, for information."""
    if not len(rankings.users):
        return
    yield from (
        _reported(rankings, f"NDCG@{K}", NDCG, lambda ranked: ranked.ndcg),
        _reported(
            rankings,
            f"recall@{K}, open",
            "forgotten items may be recommended",
            lambda ranked: ranked.open_recall,
        ),
        _reported(
            rankings, f"NDCG@{K}, open", "forgotten items may be recommended", lambda ranked: ranked.open_ndcg
        ),
    )


def forgotten_recall(rankings: Rankings) -> Iterator[Check]:
    """Measure how many forgotten items stand among the first 20 that their users may be recommended, for information."""
    evidence = rankings.evidence
    pairs = evidence.sets[Records.FORGOTTEN]
    if not len(pairs):
        return
    name, formula = (
        f"recall@{K} of forgotten interactions",
        "mean over users of forgotten items among the first 20 / forgotten items, only what remains taken masked",
    )
    try:
        measured, before = (
            _mean(_found_again(rankings, model)) for model in (evidence.case.candidate, evidence.case.parent)
        )
    except MetricError as error:
        yield Check(
            name=name,
            formula=formula,
            group="forgetting",
            value=None,
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
        reference=before.value,
        reference_name="original",
        interval=measured.interval,
        n=measured.n,
        gating=False,
        outcome=Outcome.PASS,
        reason="For information: what somebody took may well be what suits them, learned or not.",
    )


def _reported(rankings: Rankings, name: str, formula: str, read: Callable[[Ranked], Tensor]) -> Check:
    try:
        measured, before = _mean(read(rankings.candidate)), _mean(read(rankings.original))
    except MetricError as error:
        return Check(
            name=name,
            formula=formula,
            group="utility",
            value=None,
            gating=False,
            outcome=Outcome.INCONCLUSIVE,
            reason=str(error),
        )
    return Check(
        name=name,
        formula=formula,
        group="utility",
        value=measured.value,
        reference=before.value,
        reference_name="original",
        anchors=_retrained_anchor(rankings, read),
        interval=measured.interval,
        n=measured.n,
        gating=False,
        outcome=Outcome.PASS,
        reason="Measured on held-out interactions that no method has seen.",
    )


def _retrained_anchor(rankings: Rankings, read: Callable[[Ranked], Tensor]) -> dict[str, float]:
    if rankings.evidence.case.method.guarantee is Guarantee.EXACT:
        return {}  # Nothing is retrained only to be shown beside a figure that does not decide.
    try:
        models = rankings.retrained()
    except MissingReferenceError:
        return {}
    return {"retrained": float(torch.stack([read(ranked) for ranked in models]).mean())}


def _found_again(rankings: Rankings, model: object) -> Tensor:
    ground, pairs = rankings.ground, rankings.evidence.sets[Records.FORGOTTEN]
    users, place = torch.unique(pairs.users, return_inverse=True)
    with reading(model):
        scores = score_rows(model, ground, users)
    wanted = torch.zeros(scores.shape, dtype=torch.bool)
    wanted[place, pairs.items] = True
    top = top_items(scores, ground.taken[users.numpy()], K)
    return recall_at_k(wanted.gather(1, top), wanted.sum(dim=1))


def _mean(values: Tensor, *, low: float = 0.0) -> Estimate:
    return mean_estimate(values, low=low, high=1.0)
