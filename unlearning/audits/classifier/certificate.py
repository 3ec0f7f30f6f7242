"""The numerical certificate of exact forgetting on the analytic architecture.

The statistics are those of the remaining records, bit by bit, and the head is their solution. No membership test is
needed: what has never been learned and what was taken out again lead to the same numbers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.classifier.analytic import AnalyticClassifier, rows_per_chunk
from models.classifier.data import ClassifierData
from models.classifier.ridge import (
    HeadError,
    NotPositiveDefiniteError,
    backward_limit,
    solve_head,
)
from models.classifier.statistics import Statistics, one_hot
from unlearning.audits.metrics.head_distance import relative_distance
from unlearning.audits.metrics.statistics_equality import ERROR_PROBABILITY, differing_entries, gram_is_of
from unlearning.audits.report import Check, Outcome
from unlearning.audits.suites import Case

REFIT_OPERATIONS = 2e9
"""Up to so many operations, some tens of milliseconds, statistics are summed afresh instead of checked at random."""


def certificate_checks(case: Case) -> Iterator[Check]:
    """Compare the candidate's statistics and head with those that the remaining records have."""
    if not isinstance(case.candidate, AnalyticClassifier):
        yield Check(
            name="numerical certificate",
            formula="distance of the statistics and the head to those of the remaining records",
            value=None,
            group="certificate",
            gating=True,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"None is known for the architecture {case.candidate.architecture!r}.",
        )
        return
    case.progress("auditing", 0, 3)
    frozen = _frozen_parts(case.parent, case.candidate)
    yield frozen
    if frozen.outcome is Outcome.FAIL:
        return  # Nothing else about the candidate can be compared.
    retained = case.data.training().without(case.forget.record_ids)
    yield _statistics(case.parent, case.candidate, retained)
    case.progress("auditing", 1, 3)
    yield _head_error(case.candidate)
    if case.parameters.get("solve") == "fresh":
        yield _fresh_head(case)
    if case.forget.classes:
        yield _forgotten_classes(case)
    case.progress("auditing", 2, 3)


def _frozen_parts(parent: AnalyticClassifier, candidate: AnalyticClassifier) -> Check:
    same = (
        parent.config == candidate.config
        and torch.equal(parent.features.projection, candidate.features.projection)
        and all(
            torch.equal(old.weight, new.weight) and torch.equal(old.bias, new.bias)
            for old, new in zip(parent.features.backbone, candidate.features.backbone, strict=True)
        )
    )
    return Check(
        name="frozen parts",
        formula="configuration, random projection and backbone, compared bit by bit with the original's",
        value=0.0 if same else 1.0,
        reference=0.0,
        reference_name="original",
        bound="= 0",
        group="certificate",
        gating=True,
        outcome=_outcome(passed=same),
        reason="They are unchanged." if same else "They changed, so the statistics no longer mean the same.",
    )


def _statistics(parent: AnalyticClassifier, candidate: AnalyticClassifier, retained: ClassifierData) -> Check:
    config = parent.config
    cheap = len(retained) * config.feature_dim**2 <= REFIT_OPERATIONS
    differing = (
        _differing_from_refit(parent, candidate.statistics, retained)
        if cheap
        else _differing_at_random(parent, candidate.statistics, retained)
    )
    how = (
        "summed afresh over the remaining records and compared bit by bit"
        if cheap
        else f"C and counts summed afresh, G by a random check modulo 2^64 that errs with probability ≤ {ERROR_PROBABILITY:.0e}"
    )
    if candidate.statistics.records != len(retained):
        reason = f"They sum over {candidate.statistics.records} records, but {len(retained)} remain."
    elif differing:
        reason = f"{differing} of their entries are not the remaining records'."
    else:
        reason = f"They are exactly those of the {len(retained)} remaining records."
    return Check(
        name="statistics",
        formula=f"differing entries of G = XᵀX, C = XᵀY and the class counts, {how}",
        value=float(differing),
        reference=0.0,
        reference_name="refit",
        n=len(retained),
        bound="= 0",
        group="certificate",
        gating=True,
        outcome=_outcome(passed=differing == 0),
        reason=reason,
    )


def _differing_from_refit(
    parent: AnalyticClassifier, statistics: Statistics, retained: ClassifierData
) -> int:
    expected = Statistics.zeros(parent.config.feature_dim, len(parent.config.classes))
    for features, labels in _feature_chunks(parent, retained):
        expected.add_(features, labels)
    return differing_entries(statistics, expected)


def _differing_at_random(parent: AnalyticClassifier, statistics: Statistics, retained: ClassifierData) -> int:
    """Count differing entries of C and the counts exactly; a wrong G counts as one."""
    config = parent.config
    cross, counts = torch.zeros_like(statistics.cross), torch.zeros_like(statistics.counts)

    def rows() -> Iterator[Tensor]:
        for features, labels in _feature_chunks(parent, retained):
            cross.addmm_(features.T, one_hot(labels, len(config.classes)))
            counts.add_(torch.bincount(labels, minlength=len(config.classes)))
            yield features

    gram_is_right = gram_is_of(statistics.gram, rows(), config.feature_bits)
    return (
        int(not gram_is_right)
        + int((statistics.cross != cross).sum().item())
        + int((statistics.counts != counts).sum().item())
    )


def _feature_chunks(model: AnalyticClassifier, data: ClassifierData) -> Iterator[tuple[Tensor, Tensor]]:
    labels = model.labels_of(data)
    chunk = rows_per_chunk(model.config.feature_dim)
    for start in range(0, len(data), chunk):
        yield model.features(data.features[start : start + chunk]), labels[start : start + chunk]


def _head_error(candidate: AnalyticClassifier) -> Check:
    error = HeadError.of(candidate.statistics, candidate.config.gamma, candidate.head)
    limit = backward_limit(candidate.config.feature_dim)
    solved = error.backward <= limit
    return Check(
        name="head error",
        formula="‖(G + γI)W - C‖_F / (γ ‖W‖_F), which bounds ‖W - W*‖_F / ‖W‖_F",
        value=error.bound,
        reference=0.0,
        reference_name="exact solution",
        bound=f"‖(G + γI)W - C‖_F ≤ {limit:.2g} · tr(G + γI) ‖W‖_F, as for a stable solve",
        group="certificate",
        gating=True,
        outcome=_outcome(passed=solved),
        reason=(
            f"The head solves its statistics' equations up to rounding ({error.backward:.2g} of {limit:.2g} allowed)."
            if solved
            else f"The head does not solve its statistics' equations: {error.backward:.2g}, {limit:.2g} allowed."
        ),
    )


def _fresh_head(case: Case) -> Check:
    """Compare with the head that a refit gives: solved from equal statistics, it must have equal bits."""
    candidate = case.candidate
    unchanged = candidate.statistics.equal(case.parent.statistics)
    try:
        reference = (
            case.parent.head if unchanged else solve_head(candidate.statistics, candidate.config.gamma)
        )
        distance = relative_distance(candidate.head, reference)
    except NotPositiveDefiniteError as error:
        distance, reason = None, f"The statistics have no solution: {error}."
    else:
        reason = "It is bit-identical." if distance == 0.0 else "It differs."
    return Check(
        name="head distance",
        formula="‖W - W_ref‖_F / ‖W_ref‖_F",
        value=distance,
        reference=0.0,
        reference_name="original" if unchanged else "refit",
        bound="= 0",
        group="certificate",
        gating=True,
        outcome=_outcome(passed=distance == 0.0),
        reason=reason,
    )


def _forgotten_classes(case: Case) -> Check:
    candidate = case.candidate
    columns = [candidate.config.classes.index(name) for name in case.forget.classes]
    largest = float(candidate.head[:, columns].abs().max())
    records = int(candidate.statistics.counts[columns].sum().item())
    gone = largest == 0.0 and records == 0
    return Check(
        name="forgotten classes",
        formula="largest magnitude in the forgotten classes' columns of the head",
        value=largest,
        reference=0.0,
        reference_name="refit",
        bound="= 0, and no record counted",
        group="certificate",
        gating=True,
        outcome=_outcome(passed=gone),
        reason="They can never be predicted." if gone else f"{records} of their records are still counted.",
    )


def _outcome(*, passed: bool) -> Outcome:
    return Outcome.PASS if passed else Outcome.FAIL
