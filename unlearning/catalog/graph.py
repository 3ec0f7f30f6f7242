"""Torch-free: the methods of the graph family."""

from typing import Annotated, Literal

from pydantic import Field

from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec, Way

TARGETS = frozenset({"nodes", "node_features", "edges", "node_classes", "edge_classes", "subjects"})

Calibration = Annotated[
    Literal["validation", "paper"],
    Field(
        description=(
            "`validation`: held-out nodes or edges are target and stopping rule "
            "(unlearning/methods/graph/never_seen.py). `paper`: the paper's fixed schedule."
        )
    ),
]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
LearningRate = Annotated[float, Field(gt=0, le=100)]


class RetrainConfig(MethodConfig):
    """Configuration of `retrain`: the model's own recipe is the whole of it."""


class DropEdgesConfig(MethodConfig):
    """Configuration of `drop_edges`: there is nothing to set."""


class DescentConfig(MethodConfig):
    """Base of the methods that move all weights step by step, each step over the whole graph."""

    calibration: Calibration = "validation"
    epochs: Epochs
    learning_rate: LearningRate


class GradientAscentConfig(DescentConfig):
    """Configuration of `gradient_ascent`. The source gives no schedule that carries over; chosen on Cora."""

    epochs: Epochs = Field(30, description="Steps, at most; 1 to 10,000. Chosen on Cora.")
    learning_rate: LearningRate = Field(1e-3, description="Of Adam, above 0 to 100. Chosen on Cora.")


class FinetuneConfig(DescentConfig):
    """Configuration of `finetune`. The source gives no schedule that carries over; chosen on Cora."""

    epochs: Epochs = Field(30, description="Steps, at most; 1 to 10,000. Chosen on Cora.")
    learning_rate: LearningRate = Field(0.01, description="Of Adam, above 0 to 100: that of training.")


class D2dgnConfig(DescentConfig):
    """Configuration of `d2dgn`. Formulas are the paper's; the schedule was chosen on other draws than those reported."""

    epochs: Epochs = Field(20, description="Steps, at most; 1 to 10,000. Chosen on Cora and CiteSeer.")
    learning_rate: LearningRate = Field(
        2e-3, description="Of Adam, above 0 to 100. Chosen on Cora and CiteSeer."
    )
    moving_layers: int | None = Field(
        None,
        ge=0,
        le=16,
        description=(
            "How many of the last message-passing layers move, besides the head; without a number all of them, as in "
            "the paper. What the others put out is computed once."
        ),
    )
    variant: Literal["response", "feature", "both"] = Field(
        "response",
        description=(
            "What is distilled: `response` the predictions, `feature` the node embeddings (mean squared error), "
            "`both` the sum of the two."
        ),
    )
    response_loss: Literal["squared", "kl"] = Field(
        "squared",
        description=(
            "Distance of predictions: `kl` is the divergence of soft targets of the paper, `squared` the mean "
            "squared error of logits, which does not saturate."
        ),
    )
    temperature: float = Field(
        4.0, gt=0, le=1e3, description="Of `kl`, above 0 to 1000; as is usual in distillation."
    )
    destroyer: Literal["calibrated", "untrained"] = Field(
        "calibrated",
        description=(
            "What the forgotten is moved to. `calibrated`: the answers that never-seen nodes or edges get (with "
            "calibration `validation` and the response). `untrained`: the paper's, a model at its first weights, "
            "which is always used with calibration `paper` and for embeddings."
        ),
    )
    overshoot: float = Field(
        1.5,
        ge=1,
        le=100,
        description=(
            "The calibrated destroyer's answers lie so many times as far from the present ones as the never-seen's, 1 to "
            "100: the preserver pulls back, and the stopping rule ends it in between. Chosen on Cora and CiteSeer."
        ),
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="Weight of the preserver; the destroyer's is 1 - alpha. Within 0 to 1."
    )


class GnnDeleteConfig(MethodConfig):
    """Configuration of `gnndelete`. Balance and step length are the paper's and its published code's."""

    calibration: Calibration = "validation"
    epochs: Epochs = Field(
        200,
        description=(
            "Steps of each operator, at most; 1 to 10,000. Published: 1,500, from a beginning far from the identity; "
            "from the identity, 100 come as far on Cora."
        ),
    )
    learning_rate: LearningRate = Field(1e-3, description="Of Adam, above 0 to 100; published: 1e-3.")
    balance: float = Field(
        0.5, ge=0, le=1, description="λ, the weight of the deleted edges' term, 0 to 1; published: 0.5."
    )
    scope: Literal["auto", "local", "full"] = Field(
        "auto",
        description=(
            "`local` works on the neighbourhood of what is deleted, by a fixed schedule: a few items make no picture of "
            "how the never seen looks. `full` computes the whole graph. `auto` is local where a fifth of the nodes or "
            "fewer are within reach."
        ),
    )
    order: Literal["auto", "together", "in_turn"] = Field(
        "auto",
        description=(
            "`together`: every epoch moves the operators of all layers, as published. `in_turn`: a layer's operator is "
            "trained to the end before the next layer's, which makes an epoch's cost independent of the graph; not "
            "with calibration `validation` on the whole graph. `auto` is in turn where the work is local."
        ),
    )
    most_requests: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Requests whose operators a model carries, at most, 1 to 10,000; each adds a matrix to a layer.",
    )


class GifConfig(MethodConfig):
    """Configuration of `gif`. The paper solves by 100 terms of a series; the damping was chosen on Cora and CiteSeer."""

    damping: float = Field(
        5e-3,
        gt=0,
        le=1e6,
        description="Added to the curvature of the mean loss, above 0 to 10^6: the larger, the shorter the step.",
    )
    harm: float = Field(
        0.1,
        ge=0,
        le=100,
        description=(
            "Rise of the retained nodes' mean loss in nats, 0 to 100, beyond which the damping is raised tenfold; "
            "nothing of the kind is published."
        ),
    )
    iterations: int = Field(
        100, ge=1, le=10_000, description="Of conjugate gradients, at most; published: 100 terms."
    )
    tolerance: float = Field(
        0.05, gt=0, lt=1, description="Relative residual at which the step counts as found, within 0 to 1."
    )


def _passes(cost: CostInput, passes: float) -> float:
    """Operations of so many forward passes over the whole graph; a step of training costs three."""
    return passes * float(cost.architecture["flops_forward"])


def _default_epochs(config: type[DescentConfig]) -> int:
    """Return a configuration's own number of epochs: costs are estimated before anybody chooses parameters."""
    return int(config.model_fields["epochs"].default)


_PRODUCTS_PER_EPOCH = 3.0
"""Products with a square matrix for each node and layer in an epoch of `gnndelete`: what arrives, what is made, the slope."""
_USUAL_GIF_ITERATIONS = 20.0
"""Iterations that `gif` takes to its tolerance; on Cora and CiteSeer 14 to 26."""

LOCAL_SHARE = 0.2
"""Share of the nodes within reach of a request up to which working on these alone is the cheaper way."""


def reach(cost: CostInput) -> float:
    """Estimate how many nodes are within reach of a request: L hops of the ends of what it deletes.

    It is estimated from the mean degree. Hubs reach further; a method that meets one looks for itself.
    """
    nodes, degree = float(cost.architecture["nodes"]), 0.0
    if nodes:
        degree = float(cost.architecture["edges"]) / nodes
    # A walk does not go straight back, so that each hop but the first finds one neighbour less.
    steps = [degree * max(1.0, degree - 1.0) ** hop for hop in range(int(cost.architecture["layers"]))]
    return min(nodes, 2.0 * cost.forget * (1.0 + sum(steps)))


def _share(cost: CostInput) -> float:
    nodes = float(cost.architecture["nodes"])
    return reach(cost) / nodes if nodes else 0.0


def _gnndelete_way(cost: CostInput) -> Way:
    share = _share(cost)
    if share <= LOCAL_SHARE:
        return Way(
            f"About {share:.1%} of the nodes are within reach of what is deleted, so it works on these alone.",
            {"scope": "local"},
        )
    return Way(
        f"About {share:.0%} of the nodes are within reach of what is deleted, so it works on the whole graph at once.",
        {"scope": "full"},
    )


def _drop_edges_way(cost: CostInput) -> Way:
    return Way(f"Nothing is trained; the answers for about {_share(cost):.1%} of the nodes change.")


def _shared_weights_way(_: CostInput) -> Way:
    return Way(
        "All nodes share the weights that it moves, so it works on the whole graph, whatever is deleted."
    )


def _gnndelete_cost(cost: CostInput) -> float:
    widths = [float(width) for width in cost.architecture["hidden"]]
    epochs = float(GnnDeleteConfig.model_fields["epochs"].default)
    row = 2.0 * sum(width**2 for width in widths)
    if _share(cost) <= LOCAL_SHARE:
        # Every row is looked at once; an epoch is then a product of two square matrices for each layer.
        work = reach(cost) * row + epochs * 2.0 * sum(width**3 for width in widths)
    else:
        work = reach(cost) * row * epochs * _PRODUCTS_PER_EPOCH
    # The frozen layers answer once.
    return _passes(cost, 1.0) + work


def _gif_cost(cost: CostInput) -> float:
    # A product with the curvature is two passes backwards, each as much as two forwards.
    return _passes(cost, 8.0 + 4.0 * _USUAL_GIF_ITERATIONS)


def _drop_edges_cost(cost: CostInput) -> float:
    # Nothing is computed; what it costs to write the smaller graph is paid by every method.
    return float(cost.forget)


def _gradient_ascent_cost(cost: CostInput) -> float:
    return _passes(cost, 3.0 * _default_epochs(GradientAscentConfig))


def _finetune_cost(cost: CostInput) -> float:
    return _passes(cost, 3.0 * _default_epochs(FinetuneConfig))


def _d2dgn_cost(cost: CostInput) -> float:
    # Preserver and destroyer answer once each.
    return _passes(cost, 3.0 * _default_epochs(D2dgnConfig) + 2.0)


def _retrain_cost(cost: CostInput) -> float:
    return _passes(cost, 3.0 * float(cost.architecture["epochs"]))


D2DGN = MethodSpec(
    family="graph",
    name="d2dgn",
    title="Distill to Delete (D2DGN)",
    summary=(
        "Distils the original model's answers on what is retained, and those that never-seen nodes or edges get on "
        "what is forgotten, into one network on the retained graph."
    ),
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data", "retained_data"}),
    config=D2dgnConfig,
    paper="https://arxiv.org/abs/2309.16173",
    implementation="unlearning.methods.graph.d2dgn:run",
    cost=_d2dgn_cost,
    way=_shared_weights_way,
)

DROP_EDGES = MethodSpec(
    family="graph",
    name="drop_edges",
    title="Dropping edges (UtU)",
    summary=(
        "Takes the nodes, edges or features out of the graph and leaves every weight as it was: no guarantee of any "
        "kind for the weights, which still hold what they learned."
    ),
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data"}),
    config=DropEdgesConfig,
    paper="https://arxiv.org/abs/2402.10695",
    implementation="unlearning.methods.graph.drop_edges:run",
    cost=_drop_edges_cost,
    way=_drop_edges_way,
)

FINETUNE = MethodSpec(
    family="graph",
    name="finetune",
    title="Fine-tuning on what remains",
    summary="Goes on training on the retained graph alone, so that what is not rehearsed fades.",
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data", "retained_data"}),
    config=FinetuneConfig,
    paper="https://arxiv.org/abs/1911.04933",
    implementation="unlearning.methods.graph.finetune:run",
    cost=_finetune_cost,
    way=_shared_weights_way,
)

GIF = MethodSpec(
    family="graph",
    name="gif",
    title="Graph influence function (GIF)",
    summary="Moves the weights by one Newton step, as far as the losses of what goes, and of its neighbours, ask for.",
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data", "retained_data"}),
    config=GifConfig,
    paper="https://arxiv.org/abs/2304.02835",
    implementation="unlearning.methods.graph.gif:run",
    cost=_gif_cost,
    way=_shared_weights_way,
)

GNNDELETE = MethodSpec(
    family="graph",
    name="gnndelete",
    title="GNNDelete",
    summary=(
        "Leaves the weights as they are and adds matrices that make the ends of deleted edges look like nodes that "
        "never met, for the nodes around them alone."
    ),
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data", "retained_data"}),
    config=GnnDeleteConfig,
    paper="https://arxiv.org/abs/2302.13406",
    implementation="unlearning.methods.graph.gnndelete:run",
    cost=_gnndelete_cost,
    way=_gnndelete_way,
)

GRADIENT_ASCENT = MethodSpec(
    family="graph",
    name="gradient_ascent",
    title="Gradient ascent",
    summary="Trains in reverse on the forgotten nodes or edges: a baseline that damages the rest when it runs on.",
    targets=TARGETS,
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data"}),
    config=GradientAscentConfig,
    paper="https://arxiv.org/abs/1911.04933",
    implementation="unlearning.methods.graph.gradient_ascent:run",
    cost=_gradient_ascent_cost,
    way=_shared_weights_way,
)

RETRAIN = MethodSpec(
    family="graph",
    name="retrain",
    title="Retraining",
    summary="Trains anew, as the model was trained, on the graph that remains.",
    targets=TARGETS,
    guarantee=Guarantee.EXACT,
    architectures=None,
    needs=frozenset({"retained_data"}),
    config=RetrainConfig,
    paper="https://arxiv.org/abs/1912.03817",
    implementation="unlearning.methods.graph.retrain:run",
    cost=_retrain_cost,
    update="unlearning.methods.graph.retrain:update",
    fallback=True,
)

METHODS = (D2DGN, DROP_EDGES, FINETUNE, GIF, GNNDELETE, GRADIENT_ASCENT, RETRAIN)
