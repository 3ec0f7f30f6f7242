"""Torch-free: the methods of the classifier family."""

from typing import Literal

from pydantic import Field

from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec

_TARGETS = frozenset({"records", "subjects", "classes"})


class AcuConfig(MethodConfig):
    """Configuration of `acu`. The paper has no parameters beyond the model's own."""

    solve: Literal["fresh", "update"] = Field(
        "fresh",
        description=(
            "`fresh` solves the head anew from the exact statistics: bit-identical to a refit. `update` corrects "
            "it by the low rank of what changed, within a reported bound: faster at large feature dimensions."
        ),
    )
    max_rank: int = Field(
        256,
        ge=1,
        le=65_536,
        description="`update` only: changed records after which the factor is computed anew.",
    )
    refinements: int = Field(
        2,
        ge=0,
        le=10,
        description="`update` only: corrections tried against the statistics before solving anew.",
    )


class RetrainConfig(MethodConfig):
    """Configuration of `retrain`: the model's own recipe is the whole of it."""


def _learning_cost(cost: CostInput, records: int) -> float:
    """Operations of learning `records` records and finishing the model, as its architecture describes them."""
    per_record = float(cost.architecture["flops_per_record"])
    return per_record * records + float(cost.architecture["flops_to_finish"])


def _acu_cost(cost: CostInput) -> float:
    return _learning_cost(cost, cost.forget)


def _retrain_cost(cost: CostInput) -> float:
    return _learning_cost(cost, cost.records - cost.forget)


ACU = MethodSpec(
    family="classifier",
    name="acu",
    title="Analytic Continual Unlearning",
    summary=(
        "Subtracts the forgotten records' statistics from a ridge head's exact sums and solves the head anew: "
        "the result is the one that fitting on the remaining records gives."
    ),
    targets=_TARGETS,
    guarantee=Guarantee.EXACT,
    architectures=frozenset({"analytic"}),
    needs=frozenset({"forget_data", "statistics"}),
    config=AcuConfig,
    paper="https://arxiv.org/abs/2505.12239",
    implementation="unlearning.methods.classifier.acu:run",
    cost=_acu_cost,
    update="unlearning.methods.classifier.acu:update",
)

RETRAIN = MethodSpec(
    family="classifier",
    name="retrain",
    title="Retraining",
    summary="Trains anew, as the model was trained, on the records that remain.",
    targets=_TARGETS,
    guarantee=Guarantee.EXACT,
    architectures=None,
    needs=frozenset({"retained_data"}),
    config=RetrainConfig,
    paper="https://arxiv.org/abs/1912.03817",
    implementation="unlearning.methods.classifier.retrain:run",
    cost=_retrain_cost,
    update="unlearning.methods.classifier.retrain:update",
    fallback=True,
)

METHODS = (ACU, RETRAIN)
