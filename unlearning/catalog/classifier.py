"""Torch-free: the methods of the classifier family."""

from typing import Annotated, Literal

from pydantic import Field

from models.classifier.network_configuration import SgdSettings
from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec

_TARGETS = frozenset({"records", "subjects", "classes"})
_NETWORKS = frozenset({"mlp", "cnn"})

Calibration = Annotated[
    Literal["validation", "none"],
    Field(
        description=(
            "`validation`: held-out records that look like the forgotten ones are target and stopping rule "
            "(unlearning/calibration.py). `none`: the paper's fixed schedule."
        )
    ),
]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
BatchSize = Annotated[int, Field(ge=1, le=1 << 20)]
LearningRate = Annotated[float, Field(gt=0, le=100)]


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


class DescentConfig(MethodConfig):
    """Base of the methods that move weights step by step: what their optimizer takes."""

    calibration: Calibration = "validation"
    epochs: Epochs
    batch_size: BatchSize = Field(64, description="Records of either side per step, 1 to 2^20.")
    learning_rate: LearningRate
    momentum: float = Field(0.9, ge=0, lt=1, description="Of plain stochastic gradient descent, 0 to 1.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty on all weights, 0 to 1.")

    @property
    def sgd(self) -> SgdSettings:
        """The optimizer's settings. The step length is constant: no paper lets it fall while forgetting."""
        return SgdSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule="constant",
        )


class GradientAscentConfig(DescentConfig):
    """Configuration of `gradient_ascent`. The paper gives no schedule that carries over; these suit digits."""

    epochs: Epochs = Field(
        10, description="Passes over the forget set, at most; 1 to 10,000. Chosen on MNIST."
    )
    learning_rate: LearningRate = Field(
        0.01, description="Step length, above 0 to 100. Small, for ascent runs away. Chosen on MNIST."
    )
    momentum: float = Field(
        0.0, ge=0, lt=1, description="0 to 1. None by default: it would carry the ascent past its stop."
    )


class GradientDifferenceConfig(DescentConfig):
    """Configuration of `gradient_difference`. Weights as in TOFU (arXiv 2401.06121), schedule chosen on MNIST."""

    epochs: Epochs = Field(
        10, description="Passes over the forget set, at most; 1 to 10,000. Chosen on MNIST."
    )
    learning_rate: LearningRate = Field(0.02, description="Step length, above 0 to 100. Chosen on MNIST.")
    momentum: float = Field(
        0.0, ge=0, lt=1, description="0 to 1. None by default: it would carry the ascent past its stop."
    )
    forget_weight: float = Field(1.0, gt=0, le=1e6, description="Of the forget term; the paper's 1.")
    retain_weight: float = Field(1.0, ge=0, le=1e6, description="Of the retain term; the paper's 1.")


class FinetuneConfig(DescentConfig):
    """Configuration of `finetune`. The paper asks for a somewhat large step and few epochs; figures chosen on MNIST."""

    epochs: Epochs = Field(
        5, description="Passes over the retained records, at most; 1 to 10,000. Chosen on MNIST."
    )
    learning_rate: LearningRate = Field(
        0.05, description="Step length, above 0 to 100: that of training's start."
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty, 0 to 1: that of training.")


class ScrubConfig(DescentConfig):
    """Configuration of `scrub`. Defaults: MIA_experiments.ipynb of github.com/meghdadk/SCRUB at 98ffb11."""

    epochs: Epochs = Field(5, description="Minimising epochs, 1 to 10,000; published: 5 (`sgda_epochs`).")
    max_epochs: int = Field(
        3,
        ge=1,
        le=10_000,
        description="Of these, how many have a maximising epoch before them; published: 3 (`msteps`).",
    )
    learning_rate: LearningRate = Field(
        0.005,
        description=(
            "Step length, above 0 to 100. Published: 0.0005, for ResNets; ten times as much suits networks as small "
            "as these, which barely move otherwise."
        ),
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty, 0 to 1; published: 5e-4.")
    forget_batch_size: BatchSize = Field(
        64,
        description="Records per maximising step, 1 to 2^20: the fewer, the more steps away from the teacher.",
    )
    alpha: float = Field(
        0.5, ge=0, le=1e6, description="Weight of the divergence on retained records; published: 0.5."
    )
    gamma: float = Field(
        1.0, ge=0, le=1e6, description="Weight of the cross-entropy on retained records; published: 1."
    )
    temperature: float = Field(4.0, gt=0, le=1e3, description="Of the distillation; published: 4 (`kd_T`).")


class SsdConfig(MethodConfig):
    """Configuration of `ssd`. Defaults: the paper's, for ResNets (section 5)."""

    calibration: Calibration = "validation"
    alpha: float = Field(
        10.0, gt=0, le=1e9, description="Weights with F_f > α F are dampened; the paper's 10."
    )
    dampening: float = Field(
        1.0,
        gt=0,
        le=1e3,
        description="λ of the factor min(1, λ F / F_f); the paper's 1. Smaller dampens more.",
    )
    alpha_least: float = Field(
        1.0,
        gt=0,
        le=1e9,
        description="Least α that calibration tries. With λ = 1 nothing below 1 changes anything more.",
    )


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


def _network_pass(cost: CostInput, records: int) -> float:
    """Operations of one forward and one backward pass over `records` records."""
    return 3.0 * float(cost.architecture["flops_forward"]) * records


def _default_epochs(config: type[DescentConfig]) -> int:
    """Return a configuration's own number of epochs: costs are estimated before anybody chooses parameters."""
    return int(config.model_fields["epochs"].default)


def _gradient_ascent_cost(cost: CostInput) -> float:
    return _network_pass(cost, cost.forget) * _default_epochs(GradientAscentConfig)


def _gradient_difference_cost(cost: CostInput) -> float:
    return 2.0 * _network_pass(cost, cost.forget) * _default_epochs(GradientDifferenceConfig)


def _finetune_cost(cost: CostInput) -> float:
    return _network_pass(cost, cost.records - cost.forget) * _default_epochs(FinetuneConfig)


def _scrub_cost(cost: CostInput) -> float:
    maximising = int(ScrubConfig.model_fields["max_epochs"].default) * _network_pass(cost, cost.forget)
    minimising = _default_epochs(ScrubConfig) * _network_pass(cost, cost.records - cost.forget)
    # The teacher answers once for every record.
    return maximising + minimising + _network_pass(cost, cost.records) / 3.0


def _ssd_cost(cost: CostInput) -> float:
    # Squared gradients of each record cost one more product of the same size: four passes instead of three.
    return _network_pass(cost, cost.records) * 4.0 / 3.0


GRADIENT_ASCENT = MethodSpec(
    family="classifier",
    name="gradient_ascent",
    title="Gradient ascent",
    summary="Trains in reverse on the forgotten records: a baseline that damages the rest when it runs on.",
    targets=_TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=_NETWORKS,
    needs=frozenset({"forget_data"}),
    config=GradientAscentConfig,
    paper="https://arxiv.org/abs/1911.04933",
    implementation="unlearning.methods.classifier.gradient_ascent:run",
    cost=_gradient_ascent_cost,
)

GRADIENT_DIFFERENCE = MethodSpec(
    family="classifier",
    name="gradient_difference",
    title="Gradient difference",
    summary="Ascends the loss on forgotten records and descends it on retained ones in the same step.",
    targets=_TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=_NETWORKS,
    needs=frozenset({"forget_data", "retained_data"}),
    config=GradientDifferenceConfig,
    paper="https://arxiv.org/abs/2203.12817",
    implementation="unlearning.methods.classifier.gradient_difference:run",
    cost=_gradient_difference_cost,
)

FINETUNE = MethodSpec(
    family="classifier",
    name="finetune",
    title="Fine-tuning on what remains",
    summary="Goes on training on the retained records alone, so that what is not rehearsed fades.",
    targets=_TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=_NETWORKS,
    needs=frozenset({"forget_data", "retained_data"}),
    config=FinetuneConfig,
    paper="https://arxiv.org/abs/1911.04933",
    implementation="unlearning.methods.classifier.finetune:run",
    cost=_finetune_cost,
)

SCRUB = MethodSpec(
    family="classifier",
    name="scrub",
    title="SCRUB",
    summary=(
        "Contradicts the original model on forgotten records and agrees with it on retained ones, in turns, then "
        "rewinds to the epoch that forgot just enough."
    ),
    targets=_TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=_NETWORKS,
    needs=frozenset({"forget_data", "retained_data"}),
    config=ScrubConfig,
    paper="https://arxiv.org/abs/2302.09880",
    implementation="unlearning.methods.classifier.scrub:run",
    cost=_scrub_cost,
)

SSD = MethodSpec(
    family="classifier",
    name="ssd",
    title="Selective Synaptic Dampening",
    summary="Shrinks the weights that matter far more for the forgotten records than for all, without training.",
    targets=_TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=_NETWORKS,
    needs=frozenset({"forget_data", "retained_data"}),
    config=SsdConfig,
    paper="https://arxiv.org/abs/2308.07707",
    implementation="unlearning.methods.classifier.ssd:run",
    cost=_ssd_cost,
)

METHODS = (ACU, FINETUNE, GRADIENT_ASCENT, GRADIENT_DIFFERENCE, RETRAIN, SCRUB, SSD)
