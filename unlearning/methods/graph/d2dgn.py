"""Distill to Delete: one network learns from a preserver what to keep, and from a destroyer what to lose.

The student starts as a copy of the original model and passes messages along the retained graph alone. The preserver,
the original model on the whole graph, says what to answer for retained nodes and edges; the destroyer, which knows
nothing of the forgotten ones, says what to answer for those. The loss is α · L_r + (1 - α) · L_f, on predictions
(response), on node embeddings (feature), or on both.

Paper: Sinha et al., "Distill to Delete: Unlearning in Graph Networks with Knowledge Distillation",
arXiv 2309.16173. With `calibration="paper"` the destroyer is the paper's, a network at its first weights, and the
schedule is fixed. Deviations of `calibration="validation"` (the default): the destroyer is calibrated, that is it gives
the forgotten the distribution of answers that held-out nodes or edges get from the original model (an untrained
network's answers are unlike a retrained one's, and ask for more than forgetting); and the student stops once forgotten
items stand as far below retained ones as held-out ones do (`never_seen`), on the way to answers that lie `overshoot`
times as far away, for the preserver pulls back. Embeddings have no never-seen counterpart:
`variant="feature"` keeps the untrained destroyer. Predictions are compared by squared error by default, the paper's
divergence is `response_loss="kl"`. No published code was found to compare with.

A deleted node or a deleted feature is presented by its ghost (`sides`). A feature that is removed from a node that
stays is forgotten when the node, shown with it, gets the answers that it gets without; to the paper's destroyer it is
one more thing to know nothing of.

Guarantee: empirical. Limits: every weight moves, so the whole graph is computed anew in every step whatever the
size of the request. Where too few nodes or edges are held out, or nothing that is to be forgotten was learned itself,
it declines.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.architectures import get_architecture
from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from unlearning.catalog.graph import D2dgnConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.losses.distillation import distillation_divergence
from unlearning.losses.edge_distillation import edge_divergence
from unlearning.losses.preserve_and_destroy import preserve_and_destroy
from unlearning.methods.graph.never_seen import NeverSeen, StoppingRule, shifted_margins
from unlearning.methods.graph.sides import Sides, as_method_errors, forget_names
from unlearning.methods.graph.student import Scene, Student

CHECK_EVERY = 2
"""Steps from one look at the never seen to the next: a look takes a quarter of a step's time."""


@dataclass(frozen=True)
class Answers:
    """What a network says to some questions.

    Attributes:
        edges: Logits of the edges asked for, shape (a,).
        nodes: Logits of the nodes asked for, shape (b, classes).
        embeddings: Of the nodes whose embeddings are asked for, shape (c, d).
    """

    edges: Tensor
    nodes: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Questions:
    """What a network is asked, by positions on the stage.

    Attributes:
        edges: Shape (2, a).
        nodes: Shape (b,); none for link prediction.
        embeddings: Shape (c,).
    """

    edges: Tensor
    nodes: Tensor
    embeddings: Tensor

    def ask(self, model: GraphModel, embeddings: Tensor) -> Answers:
        """Let `model`'s head answer, given its embeddings of the stage's nodes, shape (n, d)."""
        return Answers(
            edges=model.edge_logits(embeddings, self.edges),
            nodes=model.node_logits(embeddings[self.nodes]) if len(self.nodes) else embeddings[:0],
            embeddings=embeddings[self.embeddings],
        )


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: D2dgnConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Distil preserver and destroyer into a copy of `model`.

    Raises:
        MethodError: Something to forget is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Nothing is retained, nothing to be forgotten was learned itself, or too little is held
            out for calibration.
    """
    with as_method_errors():
        sides = Sides.of(model, data, forget)
        if not sides.touched:
            return forget_names(model.frozen(), data, forget)
        sides.require_retained(model)
        kept, gone = kept_questions(model, sides), gone_questions(sides)
        if not sides.asks:
            raise MethodUnsuitableError(
                "The model learned no label and no edge of what is to be forgotten, so there is nothing to ask a "
                "destroyer; only what is left of its messages is to be taken away."
            )
        scene = Scene.of(model, sides.stage)
        whole = model.embeddings(data)[sides.sources]
        preserved = kept.ask(model, whole)
        never_seen = None
        if config.calibration == "validation":
            never_seen = NeverSeen.prepare(model, sides, scene, forget, generator)
        destroyed = destroyer_answers(model, scene, never_seen, whole, gone, config, generator)
        rule = StoppingRule(never_seen)
        student = Student(model, scene, config.learning_rate, config.moving_layers)
        for epoch in range(1, config.epochs + 1):
            embeddings = student.embeddings()
            if epoch % CHECK_EVERY == 0 and rule.is_enough(student.network, embeddings.detach()):
                progress("distilling", config.epochs, config.epochs, rule.figures)
                break
            preserving = distance(preserved, kept.ask(student.network, embeddings), config)
            destroying = distance(destroyed, gone.ask(student.network, embeddings), config)
            student.step(preserve_and_destroy(preserving, destroying, config.alpha))
            figures = {"preserving loss": preserving.item(), "destroying loss": destroying.item()}
            progress("distilling", epoch, config.epochs, {**figures, **rule.figures})
        return forget_names(student.model(), data, forget)


def kept_questions(model: GraphModel, sides: Sides) -> Questions:
    """Ask for what the model predicts: all retained edges that it learned, or the classes of all retained nodes."""
    nodes = torch.arange(sides.retained.nodes)
    if model.task == "link_prediction":
        return Questions(sides.retained_edges, nodes[:0], nodes)
    return Questions(sides.retained_edges[:, :0], nodes, nodes)


def gone_questions(sides: Sides) -> Questions:
    """Ask for what is to be forgotten: edges, ghosts of deleted nodes, and ghosts that replay deleted features."""
    edges = torch.cat([sides.forgotten_edges, sides.replayed_edges], dim=1)
    nodes = torch.cat([sides.forgotten_nodes, sides.replayed_nodes[0]])
    return Questions(edges, nodes, torch.unique(torch.cat([edges.flatten(), nodes])))


def destroyer_answers(
    model: GraphModel,
    scene: Scene,
    never_seen: NeverSeen | None,
    whole: Tensor,
    gone: Questions,
    config: D2dgnConfig,
    generator: torch.Generator,
) -> Answers:
    """Ask the destroyer that the configuration names; only an untrained one has anything to say of embeddings.

    Args:
        model: The original.
        scene: The stage.
        never_seen: Held-out items, with `calibration="validation"`.
        whole: The original's embeddings of the retained nodes on the whole graph, shape (retained, d).
        gone: What is asked.
        config: Names it.
        generator: Draws the first weights.
    """
    if never_seen is None or config.destroyer == "untrained":
        return untrained_destroyer(model, scene, gone, generator)
    calibrated = calibrated_destroyer(model, scene, never_seen, whole, config.overshoot)
    if config.variant == "response":
        return calibrated
    embeddings = untrained_destroyer(model, scene, gone, generator).embeddings
    return dataclasses.replace(calibrated, embeddings=embeddings)


def untrained_destroyer(
    model: GraphModel, scene: Scene, gone: Questions, generator: torch.Generator
) -> Answers:
    """Let the paper's destroyer answer: a network of the model's shape at its first weights."""
    seed = int(torch.randint(1 << 31, (), generator=generator))
    destroyer = get_architecture("graph", model.architecture).runtime().untrained(model, seed=seed)  # type: ignore[attr-defined]
    return gone.ask(destroyer, scene.embed(destroyer))


def calibrated_destroyer(
    model: GraphModel, scene: Scene, never_seen: NeverSeen, whole: Tensor, overshoot: float = 1.0
) -> Answers:
    """Answer as the original answers to held-out nodes and edges that are like the forgotten ones.

    A deleted node keeps the relations among the other classes' logits; what is replayed gets the original's answer
    without the lost features.

    Args:
        model: The original.
        scene: The stage.
        never_seen: Held-out items.
        whole: The original's embeddings of the retained nodes on the whole graph, shape (retained, d).
        overshoot: How many times as far as to the never-seen score the answer lies from the present one.

    Returns:
        No embeddings: no held-out node's are those that a forgotten one should have.
    """
    sides, likes = never_seen.sides, never_seen.edges
    staged = scene.embed(model)
    edges = model.edge_logits(staged, sides.forgotten_edges)
    if likes is not None:
        expected = likes.expected(edges, model.edge_logits(whole, likes.held_out))
        edges = torch.lerp(edges, expected, overshoot)
    edges = torch.cat([edges, model.edge_logits(staged, sides.replayed_twins)])
    if model.task == "link_prediction":
        return Answers(edges, staged[:0], staged[:0])
    logits = model.node_logits(staged)
    nodes = logits[sides.forgotten_nodes]
    on_whole = model.node_logits(whole)
    for kind in never_seen.nodes:
        margins = kind.margins(logits)
        margins = torch.lerp(margins, kind.expected(margins, on_whole), overshoot)
        nodes[kind.chosen] = shifted_margins(nodes[kind.chosen], kind.labels, margins)
    return Answers(edges, torch.cat([nodes, logits[sides.replayed_nodes[1]]]), staged[:0])


def distance(teacher: Answers, student: Answers, config: D2dgnConfig) -> Tensor:
    """Sum the distances between two networks' answers, of each kind that is asked for; a scalar."""
    total = student.embeddings.new_zeros(())
    if config.variant != "feature":
        if len(student.edges):
            total = total + edge_distance(teacher.edges, student.edges, config)
        if len(student.nodes):
            total = total + node_distance(teacher.nodes, student.nodes, config)
    if config.variant != "response":
        total = total + functional.mse_loss(student.embeddings, teacher.embeddings)
    return total


def edge_distance(teacher: Tensor, student: Tensor, config: D2dgnConfig) -> Tensor:
    """Compare edge logits, shape (m,)."""
    if config.response_loss == "kl":
        return edge_divergence(teacher, student, config.temperature)
    return functional.mse_loss(student, teacher)


def node_distance(teacher: Tensor, student: Tensor, config: D2dgnConfig) -> Tensor:
    """Compare node logits, shape (n, classes)."""
    if config.response_loss == "kl":
        return distillation_divergence(teacher, student, config.temperature)
    return functional.mse_loss(student, teacher)
