"""What reports draw: distributions of margins, and the strata of memorisation. Counts and means, never single records."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from unlearning.audits.bounds import two_sided
from unlearning.audits.evidence import Evidence, Records
from unlearning.audits.metrics.memorisation import memorisation_proxy
from unlearning.audits.metrics.strata import strata
from unlearning.audits.report import Histogram, Stratum
from unlearning.errors import MetricError, MissingReferenceError

BINS = 40
_OUTER = 0.01  # Share of margins on either side that go into the outer bins, lest one outlier flattens the picture.


def distributions(evidence: Evidence, *, with_retrained: bool) -> tuple[Histogram, ...]:
    """Count margins of every model on every set; none where the models offer no logits.

    The ends of the bins are whole numbers times a step, so that no end is any record's score.

    Args:
        evidence: Models and records.
        with_retrained: Whether the audit has retrained references; none are trained for a picture.
    """
    try:
        scores = dict(_margins(evidence, with_retrained=with_retrained))
    except MetricError:
        return ()  # The checks say why; a picture has no words for it.
    if not scores:
        return ()
    edges = _edges(torch.cat(list(scores.values())))
    return tuple(
        Histogram(
            score="margin",
            records=records.value,
            model=model,
            edges=tuple(edges.tolist()),
            counts=tuple(_counts(values, edges)),
            n=len(values),
        )
        for (records, model), values in scores.items()
    )


def _margins(evidence: Evidence, *, with_retrained: bool) -> Iterator[tuple[tuple[Records, str], Tensor]]:
    for records, data in evidence.sets.items():
        if not len(data):
            continue
        yield (records, "original"), evidence.original(records).margins
        yield (records, "candidate"), evidence.candidate(records).margins
        if with_retrained:
            try:
                yield (records, "retrained"), evidence.retrained_margins(records).flatten()
            except MissingReferenceError:
                with_retrained = False
        if (untrained := evidence.random(records)) is not None:
            yield (records, "random"), untrained.margins


def _edges(margins: Tensor) -> Tensor:
    ends = torch.quantile(_thinned(margins), torch.tensor([_OUTER, 1 - _OUTER], dtype=torch.float64))
    low, high = math.floor(float(ends[0])), math.ceil(float(ends[1]))
    return torch.linspace(low, max(high, low + 1), BINS + 1, dtype=torch.float64)


def _thinned(margins: Tensor) -> Tensor:
    """Return at most 100,000 of them: torch's quantile takes no more than 16 million."""
    return margins[:: max(1, len(margins) // 100_000)]


def _counts(values: Tensor, edges: Tensor) -> list[int]:
    inside = values.clamp(float(edges[0]), float(edges[-1]))
    places = (torch.searchsorted(edges, inside, right=True) - 1).clamp(0, BINS - 1)
    return torch.bincount(places, minlength=BINS).tolist()


def memorisation_strata(evidence: Evidence, rate: float) -> tuple[Stratum, ...]:
    """Report the quarters of the forgotten records that the original had memorised most and least.

    Means over a whole set hide a few records that are still remembered; those are in the first stratum.

    Args:
        evidence: Models and records.
        rate: Chance that a retrained model's mean falls outside the limits that are given.
    """
    try:
        references = evidence.retrained(Records.FORGOTTEN)
        original = evidence.original(Records.FORGOTTEN)
        candidate = evidence.candidate(Records.FORGOTTEN).margins
        margins = torch.stack([outputs.margins for outputs in references])  # (models, n)
        scores = memorisation_proxy(
            original.probabilities, torch.stack([outputs.probabilities for outputs in references])
        )
        ends = strata(scores)
    except (MetricError, MissingReferenceError):
        return ()
    return tuple(
        _stratum(name, chosen, scores, original.margins, candidate, margins, rate)
        for name, chosen in (
            ("the quarter that was memorised most", ends.top),
            ("the quarter that was memorised least", ends.bottom),
        )
    )


def _stratum(
    name: str,
    chosen: Tensor,
    scores: Tensor,
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
        memorisation=(_tenths(scores[chosen].min()), _tenths(scores[chosen].max())),
        original=float(original[chosen].mean()),
        candidate=float(candidate[chosen].mean()),
        retrained=float(means.mean()),
        limits=None if limits is None else (limits.low, limits.high),
    )


def _tenths(value: Tensor) -> float:
    return round(float(value), 1) + 0.0  # no minus before a zero
