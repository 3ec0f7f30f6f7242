"""The numerical certificate of exact forgetting on EASE and GF-CF.

What the model has learned are whole numbers, so "as if never learned" is told bit by bit: its tables name exactly whom
the remaining interactions name, and its sums are exactly theirs. What is read from the sums, EASE's inverse or GF-CF's
low-pass, is bounded or computed afresh. No membership test is needed: what has never been learned and what was taken out
again lead to the same numbers.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch

from models.recommender.ease import EaseRecommender, InverseError, count_pairs, invert
from models.recommender.gfcf import GfcfRecommender, leading_vectors, weights_of
from models.recommender.pair_sums import PairSums
from unlearning.audits.recommender.sets import Ground
from unlearning.audits.report import Check, Outcome
from unlearning.audits.suites import Case

REFIT_OPERATIONS: Final = 2e9
"""Up to so many operations, some tens of milliseconds, EASE's inverse is computed afresh and compared."""
COVERS: Final = (
    "Exactness covers the whole model, the tables of ids included; recommendations are read from the interactions that a "
    "user has left, which the new snapshot holds."
)


def certificate_checks(case: Case, ground: Ground) -> Iterator[Check]:
    """Compare the candidate's tables, sums and what is read from them with those that the remaining interactions have."""
    candidate = case.candidate
    if not isinstance(candidate, EaseRecommender | GfcfRecommender) or type(candidate) is not type(
        case.parent
    ):
        yield _check(
            "numerical certificate",
            "distance of the tables and sums to those of the remaining interactions",
            value=None,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"None is known for the architecture {candidate.architecture!r}.",
        )
        return
    case.progress("auditing", 0, 3)
    yield _recipe(case)
    yield _tables(candidate, ground)
    if (candidate.users, candidate.items) != (ground.known.users, ground.known.items):
        return  # Numbers over other tables cannot be compared.
    case.progress("auditing", 1, 3)
    if isinstance(candidate, EaseRecommender):
        yield _sums(candidate.counts, count_pairs(ground.known), "counts", "XᵀX", ground)
        yield _weight_bound(case, candidate, ground)
        if len(candidate.items) ** 3 <= REFIT_OPERATIONS:
            yield _weight_distance(case, candidate, ground)
    else:
        yield from _filter_checks(candidate, ground)
    case.progress("auditing", 3, 3)


def _recipe(case: Case) -> Check:
    def fixed(model: Any) -> dict[str, Any]:
        sizes = {"users", "items", "interactions"}
        return {name: value for name, value in model.config.model_dump().items() if name not in sizes}

    same = fixed(case.parent) == fixed(case.candidate)
    return _exact(
        "recipe",
        "settings other than sizes, compared with the original's",
        float(not same),
        "It is unchanged." if same else "It changed, so the numbers no longer mean the same.",
        reference_name="original",
    )


def _tables(candidate: Any, ground: Ground) -> Check:
    """A name in a table is a trace by itself, and a missing one is a user nobody serves."""
    differing = len(set(candidate.users) ^ set(ground.known.users)) + len(
        set(candidate.items) ^ set(ground.known.items)
    )
    in_order = (candidate.users, candidate.items) == (ground.known.users, ground.known.items)
    if differing:
        reason = f"{differing} names are there and should not be, or should be there and are not."
    else:
        reason = "They name exactly whom the remaining interactions name."
    return _exact(
        "tables of ids",
        "users and items that either the model or the remaining training interactions name, but not both",
        float(differing or not in_order),
        reason if in_order or differing else "They are not in the order in which they are kept.",
    )


def _sums(found: PairSums, expected: PairSums, name: str, symbol: str, ground: Ground) -> Check:
    differing = found.differing(expected)
    return _exact(
        name,
        f"differing entries of {symbol}, summed afresh over the remaining interactions and compared bit by bit",
        float(differing),
        f"{differing} of them are not those of the remaining interactions."
        if differing
        else f"They are exactly those of the {len(ground.known)} remaining interactions.",
        n=len(ground.known),
    )


def _weight_bound(case: Case, candidate: EaseRecommender, ground: Ground) -> Check:
    tolerance = float(case.parameters.get("tolerance", 1e-10))
    error = InverseError.of(ground.known.matrix(), candidate.config.regularisation, candidate.inverse)
    within = error.weights <= tolerance
    finite = error.weights < float("inf")
    return _check(
        "bound on the weights' error",
        "max |B - B*| ≤ δ (1 + b) / (min P_jj - δ), δ = ‖I - AP‖₂ / λ by ten random vectors, wrong with probability 1e-10",
        value=error.weights if finite else None,
        outcome=Outcome.PASS if within else Outcome.FAIL,
        reason=(
            "No weight is further than this from the one that fitting on what remains gives."
            if within
            else "The inverse is not that of the remaining interactions' counts, or too far from it."
        ),
        bound=f"≤ {tolerance:g}",
        limits=(None, tolerance),
    )


def _weight_distance(case: Case, candidate: EaseRecommender, ground: Ground) -> Check:
    tolerance = (
        0.0 if case.parameters.get("solve") == "refit" else float(case.parameters.get("tolerance", 1e-10))
    )
    inverse = invert(count_pairs(ground.known), candidate.config.regularisation)
    refit = EaseRecommender(candidate.config, candidate.users, candidate.items, candidate.counts, inverse)
    distance = float((candidate.weights() - refit.weights()).abs().max())
    within = distance <= tolerance
    return _check(
        "distance of the weights",
        "max |B - B_refit|, fitted afresh on the remaining interactions",
        value=distance,
        outcome=Outcome.PASS if within else Outcome.FAIL,
        reason="They are those of a refit." if within else "They differ from those of a refit.",
        bound=f"≤ {tolerance:g}",
        limits=(None, tolerance),
    )


def _filter_checks(candidate: GfcfRecommender, ground: Ground) -> Iterator[Check]:
    histories = ground.known.matrix()
    expected = PairSums.of(histories, weights_of(histories, candidate.config.weight_bits))
    yield _sums(candidate.sums, expected, "sums of the linear filter", "Xᵀ D_u⁻¹ X", ground)
    degrees = ground.known.item_index.bincount(minlength=len(ground.known.items))
    wrong = int((candidate.item_degrees != degrees).sum())
    yield _exact(
        "item degrees",
        "items whose number of users is not that of the remaining interactions",
        float(wrong),
        "All are right." if not wrong else f"{wrong} are wrong.",
        n=len(degrees),
    )
    fresh = leading_vectors(candidate.linear_filter(), candidate.config.factors)
    same = torch.equal(fresh, candidate.vectors)
    yield _exact(
        "low-pass filter",
        "leading eigenvectors of the linear filter, found afresh and compared bit by bit",
        float(not same),
        "They are those of the remaining interactions' filter."
        if same
        else "They differ from the fresh ones.",
    )


def _exact(
    name: str, formula: str, value: float, reason: str, *, n: int | None = None, reference_name: str = "refit"
) -> Check:
    return _check(
        name,
        formula,
        value=value,
        outcome=Outcome.FAIL if value else Outcome.PASS,
        reason=reason,
        n=n,
        bound="= 0",
        limits=(0.0, 0.0),
        reference_name=reference_name,
    )


def _check(
    name: str,
    formula: str,
    *,
    value: float | None,
    outcome: Outcome,
    reason: str,
    n: int | None = None,
    bound: str | None = None,
    limits: tuple[float | None, float | None] | None = None,
    reference_name: str = "refit",
) -> Check:
    return Check(
        name=name,
        formula=formula,
        group="certificate",
        value=value,
        reference=0.0,
        reference_name=reference_name,
        n=n,
        bound=bound,
        limits=limits,
        gating=True,
        outcome=outcome,
        reason=reason,
    )
