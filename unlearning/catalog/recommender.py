"""Torch-free: the methods of the recommender family."""

from typing import Literal

from pydantic import Field

from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec

TARGETS = frozenset({"users", "items", "interactions", "subjects"})


class EaseConfig(MethodConfig):
    """Configuration of `ease`. The formulas have no parameters; these are about rounding and time."""

    solve: Literal["auto", "update", "refit"] = Field(
        "auto",
        description=(
            "`update` corrects the inverse by the low rank of what changed, within a reported bound; `refit` inverts "
            "anew from the exact counts: bit-identical to never having learned. `auto` takes what costs less."
        ),
    )
    tolerance: float = Field(
        1e-10,
        gt=0,
        le=1e-3,
        description=(
            "Largest distance of any weight from retraining's that may be left, above 0 to 1e-3. An update that "
            "cannot show that it stays below is thrown away, and the inverse computed anew."
        ),
    )


class GfcfConfig(MethodConfig):
    """Configuration of `gfcf`: there is nothing to set."""


class RetrainConfig(MethodConfig):
    """Configuration of `retrain`: the model's own recipe is the whole of it."""


def _retrain_cost(cost: CostInput) -> float:
    remaining = cost.records - cost.forget
    return float(cost.architecture["flops_per_record"]) * remaining + float(
        cost.architecture["flops_to_finish"]
    )


def _ease_cost(cost: CostInput) -> float:
    # At worst every interaction is of another user, whose history is then taken away and added again.
    histories = min(2 * cost.forget, 2 * int(cost.architecture["users"]))
    update = float(cost.architecture["flops_per_request"]) + histories * float(
        cost.architecture["flops_per_history"]
    )
    return min(update, _retrain_cost(cost))


def _gfcf_cost(cost: CostInput) -> float:
    return float(cost.architecture["flops_per_record"]) * cost.forget + float(
        cost.architecture["flops_to_finish"]
    )


EASE = MethodSpec(
    family="recommender",
    name="ease",
    title="EASE, updated",
    summary=(
        "Subtracts the forgotten histories from the exact counts of pairs of items and carries the change into their "
        "inverse: the model that fitting on what remains gives, up to a bound that is measured each time."
    ),
    targets=TARGETS,
    guarantee=Guarantee.EXACT,
    architectures=frozenset({"ease"}),
    needs=frozenset({"forget_data", "retained_data", "statistics"}),
    config=EaseConfig,
    paper="https://arxiv.org/abs/1905.03375",
    implementation="unlearning.methods.recommender.ease:run",
    cost=_ease_cost,
    update="unlearning.methods.recommender.ease:update",
)

GFCF = MethodSpec(
    family="recommender",
    name="gfcf",
    title="GF-CF, updated",
    summary=(
        "Takes the forgotten histories out of the linear filter's exact sums and finds the low-pass filter anew: "
        "bit-identical to fitting on what remains."
    ),
    targets=TARGETS,
    guarantee=Guarantee.EXACT,
    architectures=frozenset({"gfcf"}),
    needs=frozenset({"forget_data", "retained_data", "statistics"}),
    config=GfcfConfig,
    paper="https://arxiv.org/abs/2108.07567",
    implementation="unlearning.methods.recommender.gfcf:run",
    cost=_gfcf_cost,
    update="unlearning.methods.recommender.gfcf:update",
)

RETRAIN = MethodSpec(
    family="recommender",
    name="retrain",
    title="Retraining",
    summary="Trains anew, as the model was trained, on the interactions that remain.",
    targets=TARGETS,
    guarantee=Guarantee.EXACT,
    architectures=None,
    needs=frozenset({"retained_data"}),
    config=RetrainConfig,
    paper="https://arxiv.org/abs/1912.03817",
    implementation="unlearning.methods.recommender.retrain:run",
    cost=_retrain_cost,
    update="unlearning.methods.recommender.retrain:update",
    fallback=True,
)

METHODS = (EASE, GFCF, RETRAIN)
