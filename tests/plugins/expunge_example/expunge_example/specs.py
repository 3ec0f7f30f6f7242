"""Torch-free: what this package adds to Expunge."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from models.architectures import Architecture
from models.errors import CheckpointError
from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec


def describe(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner wants to know of a centroid classifier.

    Raises:
        CheckpointError: `config` is not a centroid classifier's.
    """
    match config:
        case {"architecture": "centroids", "classes": [_, *_] as classes, "input_width": int(width)} if (
            width > 0
        ):
            return {
                "family": "classifier",
                "architecture": "centroids",
                "classes": len(classes),
                "input_width": width,
                "flops_per_record": float(width),
                "flops_to_finish": float(width * len(classes)),
            }
    raise CheckpointError("config.json is not a centroid classifier's: it needs classes and input_width.")


CENTROIDS = Architecture(
    family="classifier",
    name="centroids",
    title="Nearest class mean",
    describe=describe,
    runtime_module="expunge_example.centroids",
)


class DropClassConfig(MethodConfig):
    """Configuration of `drop_class`: there is nothing to choose."""


class ScaleDownConfig(MethodConfig):
    """Configuration of `scale_down`."""

    factor: float = Field(
        0.0, ge=0, lt=1, description="What remains of a forgotten class's column of the head."
    )


def _one_pass_over_the_model(sizes: CostInput) -> float:
    return float(sizes.architecture["classes"] * sizes.architecture["input_width"])


DROP_CLASS = MethodSpec(
    family="classifier",
    name="drop_class",
    title="Dropping a class",
    summary="Removes a class's sum and count: the other classes' means never depended on it.",
    targets=frozenset({"classes"}),
    guarantee=Guarantee.EXACT,
    architectures=frozenset({"centroids"}),
    needs=frozenset({"statistics"}),
    config=DropClassConfig,
    paper="none: a property of the nearest-mean rule",
    implementation="expunge_example.drop_class:run",
    cost=_one_pass_over_the_model,
)

SCALE_DOWN = MethodSpec(
    family="classifier",
    name="scale_down",
    title="Scaling down",
    summary="Shrinks the head's columns of forgotten classes: it hides a class, and an audit should say so.",
    targets=frozenset({"classes"}),
    guarantee=Guarantee.EMPIRICAL,
    architectures=frozenset({"analytic"}),
    needs=frozenset(),
    config=ScaleDownConfig,
    paper="none: a baseline that only hides",
    implementation="expunge_example.scale_down:run",
    cost=_one_pass_over_the_model,
)

METHODS = (DROP_CLASS, SCALE_DOWN)
