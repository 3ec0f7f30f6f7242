"""What reports draw: distributions of scores, and the strata of memorisation. Counts and means, never single records."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unlearning.audits.bounds import two_sided
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.metrics.memorisation import memorisation_proxy
from unlearning.audits.metrics.strata import strata
from unlearning.audits.report import Histogram, Stratum
from unlearning.errors import MetricError, MissingReferenceError

BINS = 40
_OUTER = (
    0.01  # Share of scores on either side that go into the outer bins, lest one outlier flattens the picture.
)


def distributions(evidence: Evidence[Any], *, with_retrained: bool) -> tuple[Histogram, ...]:
    """Count scores of every model on every set; none where the models give none.

    The ends of the bins are whole numbers times a step, so that no end is any record's score.

    Args:
        evidence: Models and records.
        with_retrained: Whether the audit has retrained references; none are trained for a picture.
    """
    try:
        scores = dict(_scores(evidence, with_retrained=with_retrained))
    except MetricError:
        return ()  # The checks say why; a picture has no words for it.
    if not scores:
        return ()
    edges = _edges(torch.cat(list(scores.values())))
    return tuple(
        Histogram(
            score=evidence.score_name,
            records=records.value,
            model=model,
            edges=tuple(edges.tolist()),
            counts=tuple(_counts(values, edges)),
            n=len(values),
        )
        for (records, model), values in scores.items()
    )


def _scores(evidence: Evidence[Any], *, with_retrained: bool) -> Iterator[tuple[tuple[Records, str], Tensor]]:
    for records, data in evidence.sets.items():
        if not len(data):
            continue
        yield (records, "original"), evidence.original(records).scores
        yield (records, "candidate"), evidence.candidate(records).scores
        if with_retrained:
            try:
                yield (records, "retrained"), evidence.retrained_scores(records).flatten()
            except MissingReferenceError:
                with_retrained = False
        if (untrained := evidence.random(records)) is not None:
            yield (records, "random"), untrained.scores


def _edges(scores: Tensor) -> Tensor:
    ends = torch.quantile(_thinned(scores), torch.tensor([_OUTER, 1 - _OUTER], dtype=torch.float64))
    low, high = math.floor(float(ends[0])), math.ceil(float(ends[1]))
    return torch.linspace(low, max(high, low + 1), BINS + 1, dtype=torch.float64)


def _thinned(scores: Tensor) -> Tensor:
    """Return at most 100,000 of them: torch's quantile takes no more than 16 million."""
    return scores[:: max(1, len(scores) // 100_000)]


def _counts(values: Tensor, edges: Tensor) -> list[int]:
    inside = values.clamp(float(edges[0]), float(edges[-1]))
    places = (torch.searchsorted(edges, inside, right=True) - 1).clamp(0, BINS - 1)
    return torch.bincount(places, minlength=BINS).tolist()


def memorisation_strata(evidence: Evidence[Any]) -> tuple[Stratum, ...]:
    """Report the quarters of the forgotten records that the original had memorised most and least.

    Means over a whole set hide a few records that are still remembered; those are in the first stratum.
    """
    try:
        original = evidence.original(Records.FORGOTTEN).scores
        candidate = evidence.candidate(Records.FORGOTTEN).scores
        references = evidence.retrained_scores(Records.FORGOTTEN)  # (models, n)
        memorised = memorisation_proxy(original.sigmoid(), references.sigmoid())
        ends = strata(memorised)
    except (MetricError, MissingReferenceError):
        return ()
    return tuple(
        _stratum(name, chosen, memorised, original, candidate, references, evidence.rate)
        for name, chosen in (
            ("the quarter that was memorised most", ends.top),
            ("the quarter that was memorised least", ends.bottom),
        )
    )


def _stratum(
    name: str,
    chosen: Tensor,
    memorised: Tensor,
    original: Tensor,
    candidate: Tensor,
    retrained: Tensor,
    rate: float,
) -> Stratum:
    means = retrained[:, chosen].mean(dim=1)
    try:
        limits = two_sided(means.tolist(), rate)
    except MetricError:
        limits = None
    return Stratum(
        name=name,
        n=len(chosen),
        # In tenths, for with few records an end of the range is one record's own figure.
        memorisation=(_tenths(memorised[chosen].min()), _tenths(memorised[chosen].max())),
        original=float(original[chosen].mean()),
        candidate=float(candidate[chosen].mean()),
        retrained=float(means.mean()),
        limits=None if limits is None else (limits.low, limits.high),
    )


def _tenths(value: Tensor) -> float:
    return round(float(value), 1) + 0.0  # no minus before a zero
