"""Analytic Continual Unlearning: a ridge head forgets records by subtracting their statistics.

The head solves (G + γI) W = C with G = XᵀX and C = XᵀY over frozen features X. Forgetting records X_f subtracts
X_fᵀX_f and X_fᵀY_f and solves again; learning adds. What remains is the head of fitting on the remaining records.

Paper: Analytic Continual Unlearning, arXiv 2505.12239. Deviations: the paper keeps R = (G + γI)⁻¹ and corrects it
recursively, which drifts with every request (`tests/reference/acu_recursion.py`, docs/benchmarks/acu.md). Here the
sums themselves are the state, exact in float64 on a dyadic grid (docs/decisions/0002-exact-statistics.md).

Guarantee: exact for the head. With `solve="fresh"` it is bit-identical to a fit on what remains; with
`solve="update"` the statistics still are, and the head is within the a-posteriori bound of
`models.classifier.ridge.HeadError`. Limits: a frozen backbone keeps what it was fitted on. That a sample was ever
learned cannot be told from sums for certain: what sums can refute is refused, the rest is the data set's ledger's
to know.
"""

from typing import NoReturn

import torch
from torch import Tensor

from models.classifier.analytic import AnalyticClassifier
from models.classifier.data import ClassifierData
from models.classifier.ridge import (
    NotPositiveDefiniteError,
    StaleFactor,
    backward_limit,
    correct_head,
    rounding_hides_gamma,
    solve_head,
)
from models.classifier.statistics import Statistics, one_hot
from models.contracts import ForgetSet, Progress
from unlearning.catalog.classifier import AcuConfig
from unlearning.errors import MethodError

_FOREIGN = (
    "At least one record to forget was never learned by this model, or was forgotten before: "
    "what would remain are not the statistics of any records."
)


def run(
    model: AnalyticClassifier,
    data: ClassifierData,
    forget: ForgetSet,
    config: AcuConfig,
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> AnalyticClassifier:
    """Forget records.

    Held-out records of the forget set were never learned, so nothing is subtracted for them.

    Raises:
        MethodError: A record is not in the data, was not learned by this model, or none would remain.
    """
    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")
    forgotten = data.only(forget.record_ids).training()
    return change(model, forgotten, data.only(()), config, progress=progress)


def update(
    model: AnalyticClassifier,
    data: ClassifierData,
    target_data: ClassifierData,
    config: AcuConfig,
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> AnalyticClassifier:
    """Unlearn the training records that `target_data` lacks, and learn those that are new there.

    Raises:
        MethodError: As `run`, or a new record is of a class that the model does not know, or is one too many.
    """
    removed, added = data.changes_to(target_data)
    return change(model, removed, added, config, progress=progress)


def change(
    model: AnalyticClassifier,
    removed: ClassifierData,
    added: ClassifierData,
    config: AcuConfig,
    *,
    progress: Progress,
) -> AnalyticClassifier:
    """Unlearn `removed` and learn `added`, whatever data set they belong to.

    Raises:
        MethodError: As `update`.
    """
    if not len(removed) and not len(added):
        return model.with_head(model.statistics, model.head, model.factor)
    progress("computing features", 0, 3)
    removed_rows = _rows(model, removed)
    added_rows = _rows(model, added)
    progress("changing the statistics", 1, 3)
    statistics = model.statistics.clone()
    statistics.add_(*removed_rows, sign=-1)
    # Before anything is added: what is new must not make up for records that were never there.
    _refuse_foreign(statistics)
    statistics.add_(*added_rows)
    _refuse_size(statistics.records, model.config.max_records)
    progress("solving the head", 2, 3)
    try:
        changed = (
            _solve_by_update(model, statistics, removed_rows, added_rows, config)
            if config.solve == "update"
            else _solve_afresh(model, statistics)
        )
    except NotPositiveDefiniteError:
        _explain_failure(model, statistics)
    progress("solving the head", 3, 3)
    return changed


def _solve_afresh(model: AnalyticClassifier, statistics: Statistics) -> AnalyticClassifier:
    # The factorisation is the foreign-sample check too: G' + γI is positive definite exactly if the largest
    # eigenvalue of X_f R X_fᵀ is below 1.
    return model.with_head(statistics, solve_head(statistics, model.config.gamma))


def _solve_by_update(
    model: AnalyticClassifier,
    statistics: Statistics,
    removed: tuple[Tensor, Tensor],
    added: tuple[Tensor, Tensor],
    config: AcuConfig,
) -> AnalyticClassifier:
    """Correct the head by the low rank of the change: A'(W' - W) = X_aᵀ(Y_a - X_a W) - X_fᵀ(Y_f - X_f W).

    The removed rows' triangular solve serves the foreign-sample check and the correction alike. The exact
    statistics then refine the head, and a head that stays worse than a fresh solve's is solved afresh.
    """
    factor = model.factor or StaleFactor.of(model.statistics, model.config.gamma)
    changes = len(removed[0]) + len(added[0])
    if factor.rank + changes <= config.max_rank:
        factor, weights = _change_factor(factor, model.head, removed, added)
        guess = model.head + factor.solve_last_changes(changes, weights)
        head, error = correct_head(statistics, factor, guess, config.refinements)
        if error.backward <= backward_limit(model.config.feature_dim):
            return model.with_head(statistics, head, factor)
    return model.with_head(
        statistics, solve_head(statistics, model.config.gamma), StaleFactor.of(statistics, model.config.gamma)
    )


def _change_factor(
    factor: StaleFactor, head: Tensor, removed: tuple[Tensor, Tensor], added: tuple[Tensor, Tensor]
) -> tuple[StaleFactor, Tensor]:
    """Carry a change into the factor; return it with the signed errors of the old head, shape (changes, classes)."""
    weights: list[Tensor] = []
    for (features, labels), sign in ((removed, -1), (added, 1)):
        if len(features):
            factor = factor.changed(features, sign)
            weights.append((one_hot(labels, head.shape[1]) - features @ head) * sign)
    return factor, torch.cat(weights)


def _rows(model: AnalyticClassifier, data: ClassifierData) -> tuple[Tensor, Tensor]:
    """Return features, shape (n, d), and labels, shape (n,)."""
    try:
        model.features.check_inputs(data.features)
        return model.features(data.features), model.labels_of(data)
    except ValueError as error:
        raise MethodError(f"The records do not fit the model: {error}.") from None


def _refuse_foreign(statistics: Statistics) -> None:
    """Refuse sums that no set of records has. They are exact, so this never refuses by rounding.

    Raises:
        MethodError: A count is negative; or features, which never are, sum to less than zero, or to more than
            zero over no records.
    """
    if (statistics.counts < 0).any():
        raise MethodError("More records of a class are to be forgotten than the model has learned.")
    negative = (statistics.gram.diagonal() < 0).any() or (statistics.cross < 0).any()
    left_over = statistics.cross[:, statistics.counts == 0].any()
    if negative or left_over:
        raise MethodError(_FOREIGN)


def _refuse_size(records: int, max_records: int) -> None:
    if records == 0:
        raise MethodError("No training record would remain: delete the model instead.")
    if records > max_records:
        raise MethodError(
            f"{records} records are more than the {max_records} whose sums stay exact; "
            "train a model with a larger max_records."
        )


def _explain_failure(model: AnalyticClassifier, statistics: Statistics) -> NoReturn:
    if rounding_hides_gamma(statistics, model.config.gamma):
        raise MethodError(
            f"The ridge penalty {model.config.gamma:g} is lost in rounding, so the head cannot be solved."
        ) from None
    raise MethodError(_FOREIGN) from None
