"""Torch-free: the methods of recommenders that are trained by gradient descent; `recommender` has the closed forms'."""

from typing import Annotated, Literal

from pydantic import Field

from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec

NETWORKS = frozenset({"lightgcn", "simgcl", "ultragcn", "lightgcl"})
TARGETS = frozenset({"users", "items", "interactions", "subjects"})

Steps = Annotated[int, Field(ge=1, le=1_000_000)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Objective = Annotated[
    Literal["validation", "paper"],
    Field(
        description=(
            "`validation`: forgotten pairs come to the margins of held-out pairs that are like them, and all other "
            "scores stay. `paper`: the published loss, which pushes forgotten pairs to minus infinity."
        )
    ),
]


class FinetuneConfig(MethodConfig):
    """Configuration of `finetune`. The papers give no schedule that carries over; chosen on Last.fm."""

    calibration: Literal["validation", "paper"] = Field(
        "validation",
        description=(
            "`validation`: stop after the first epoch in which forgotten pairs are ranked no higher than held-out "
            "ones. `paper`: run all epochs."
        ),
    )
    epochs: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Passes over what remains, at most; 1 to 100,000. Chosen on Last.fm.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Step length of Adam, above 0 to 10; without a number that of training.",
    )


class UnlearnRecConfig(MethodConfig):
    """Configuration of `unlearnrec`. Weights of the published loss as in the paper, all else chosen on Last.fm."""

    objective: Objective = "validation"
    encoder: Literal["stored", "none"] = Field(
        "stored",
        description=(
            "`stored`: begin with what the pre-trained Influence Encoder proposes. `none`: descend the same loss from "
            "no change at all."
        ),
    )
    steps: Steps = Field(40, description="Steps of fine-tuning, at most; 1 to 1,000,000. Chosen on Last.fm.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description=(
            "Step length of Adam, above 0 to 10. Without a number the published 1e-3 for `paper`, and 0.03, chosen on "
            "Last.fm, for `validation`."
        ),
    )
    tolerance: float = Field(
        0.002,
        ge=0,
        le=1,
        description=(
            "`validation` only: distance of the forgotten pairs' mean rank to that of never-seen ones at which "
            "fine-tuning ends, 0 to 1."
        ),
    )
    drift_weight: Weight = Field(
        0.1,
        description="`validation` only: of the squared change of all scores, 0 to 1e6. Chosen on Last.fm.",
    )
    retained_weight: Weight = Field(
        0.05,
        description=(
            "`validation` only: the same for retained and calibration pairs alone, 0 to 1e6. Chosen on Last.fm."
        ),
    )
    forget_weight: Weight = Field(0.5, description="`paper` only: w_u, 0 to 1e6; published: 0.2 to 1.")
    alignment_weight: Weight = Field(
        0.01, description="`paper` only: w_a, 0 to 1e6; published: 0.005 to 0.02."
    )
    contrast_weight: Weight = Field(1e-3, description="`paper` only: w_c, 0 to 1e6; published: 1e-3.")

    @property
    def rate(self) -> float:
        """The step length, as the objective has it where none was chosen."""
        own = 1e-3 if self.objective == "paper" else 0.03
        return own if self.learning_rate is None else self.learning_rate


class PretrainConfig(MethodConfig):
    """Configuration of the Influence Encoder's pre-training. The published loss's weights are the paper's."""

    objective: Objective = "validation"
    layers: int = Field(3, ge=1, le=16, description="Steps of message passing over a request; the paper's 3.")
    steps: Steps = Field(500, description="Steps, 1 to 1,000,000. Chosen on Last.fm.")
    steps_per_request: int = Field(
        5, ge=1, le=1000, description="Steps after which a new request is drawn, 1 to 1,000."
    )
    least_share: float = Field(
        0.005, gt=0, le=0.5, description="Least share of the interactions in a request, above 0 to 0.5."
    )
    most_share: float = Field(
        0.06, gt=0, le=0.5, description="Greatest share of the interactions in a request, above 0 to 0.5."
    )
    learning_rate: LearningRate = Field(0.01, description="Step length of Adam at the start, above 0 to 10.")
    drift_weight: Weight = Field(0.1, description="As of `unlearnrec`.")
    retained_weight: Weight = Field(0.05, description="As of `unlearnrec`.")
    forget_weight: Weight = Field(0.5, description="As of `unlearnrec`.")
    alignment_weight: Weight = Field(0.01, description="As of `unlearnrec`.")
    contrast_weight: Weight = Field(1e-3, description="As of `unlearnrec`.")


def _default(config: type[MethodConfig], field: str) -> int:
    """Return a configuration's own number: costs are estimated before anybody chooses parameters."""
    return int(config.model_fields[field].default)


def _finetune_cost(cost: CostInput) -> float:
    remaining = cost.records - cost.forget
    epochs = _default(FinetuneConfig, "epochs")
    return float(cost.architecture["flops_per_epoch_record"]) * remaining * epochs


def _unlearnrec_cost(cost: CostInput) -> float:
    width, layers = int(cost.architecture["width"]), int(cost.architecture["layers"])
    # A step propagates the whole graph once and back, and squares both tables of embeddings.
    propagation = 8.0 * width * layers * (cost.records - cost.forget)
    drift = 12.0 * float(cost.architecture["parameters"]) * width
    return _default(UnlearnRecConfig, "steps") * (propagation + drift)


FINETUNE = MethodSpec(
    family="recommender",
    name="finetune",
    title="Dropping edges and fine-tuning",
    summary="Drops the forgotten edges and goes on training on what remains: a warm start, which keeps some trace.",
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=NETWORKS,
    needs=frozenset({"forget_data", "retained_data"}),
    config=FinetuneConfig,
    paper="https://arxiv.org/abs/2505.22649",
    implementation="unlearning.methods.recommender.finetune:run",
    cost=_finetune_cost,
)

UNLEARNREC = MethodSpec(
    family="recommender",
    name="unlearnrec",
    title="UnlearnRec",
    summary=(
        "Lets a pre-trained encoder propose how the embeddings change without the forgotten interactions, and refines "
        "that until these are ranked like never-seen ones."
    ),
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=NETWORKS,
    needs=frozenset({"forget_data", "retained_data"}),
    config=UnlearnRecConfig,
    paper="https://arxiv.org/abs/2505.22649",
    implementation="unlearning.methods.recommender.unlearnrec:run",
    cost=_unlearnrec_cost,
)

METHODS = (FINETUNE, UNLEARNREC)
