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
items stand as far below retained ones as held-out ones do (`never_seen`). Embeddings have no never-seen counterpart:
`variant="feature"` keeps the untrained destroyer. Predictions are compared by squared error by default, the paper's
divergence is `response_loss="kl"`. There is no published code to compare with.

A deleted node or a deleted feature is presented by its ghost (`sides`). A feature that is removed from a node that
stays is forgotten when the node, shown with it, gets the answers that it gets without; to the paper's destroyer it is
one more thing to know nothing of.

Guarantee: empirical. Limits: every weight moves, so the whole graph is computed anew in every step whatever the
size of the request. Where too few nodes or edges are held out, or nothing that is to be forgotten was learned itself,
it declines.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.architectures import get_architecture
from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.catalog.graph import D2dgnConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.losses.distillation import distillation_divergence
from unlearning.losses.edge_distillation import edge_divergence
from unlearning.losses.preserve_and_destroy import preserve_and_destroy
from unlearning.methods.graph.never_seen import NeverSeen, StoppingRule, matched, shifted_margins
from unlearning.methods.graph.sides import Sides, as_method_errors
from unlearning.methods.graph.student import Scene, Student


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
            return model.frozen()
        sides.require_retained(model)
        kept, gone = kept_questions(model, sides), gone_questions(sides)
        if not sides.asks:
            raise MethodUnsuitableError(
                "The model learned no label and no edge of what is to be forgotten, so there is nothing to ask a "
                "destroyer; only what is left of its messages is to be taken away."
            )
        never_seen = NeverSeen.prepare(model, sides, forget) if config.calibration == "validation" else None
        scene = Scene.of(model, sides.stage)
        whole = model.embeddings(data)
        preserved = kept.ask(model, whole[sides.sources])
        destroyed = gone.ask(*untrained_destroyer(model, scene, generator))
        if never_seen is not None and config.destroyer == "calibrated":
            destroyed = calibrated_destroyer(model, scene, never_seen, whole[sides.sources], gone, destroyed)
        rule = StoppingRule(never_seen)
        student = Student(model, scene, config.learning_rate)
        for epoch in range(1, config.epochs + 1):
            embeddings = student.embeddings()
            if rule.is_enough(student.network, embeddings.detach()):
                progress("distilling", config.epochs, config.epochs, rule.figures)
                break
            preserving = distance(preserved, kept.ask(student.network, embeddings), config)
            destroying = distance(destroyed, gone.ask(student.network, embeddings), config)
            student.step(preserve_and_destroy(preserving, destroying, config.alpha))
            figures = {"preserving loss": preserving.item(), "destroying loss": destroying.item()}
            progress("distilling", epoch, config.epochs, {**figures, **rule.figures})
        return student.model()


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
    return Questions(edges, nodes, torch.cat([edges.flatten(), nodes]).unique())


def untrained_destroyer(
    model: GraphModel, scene: Scene, generator: torch.Generator
) -> tuple[GraphModel, Tensor]:
    """Return the paper's destroyer, a network at its first weights, and its embeddings of the stage's nodes."""
    seed = int(torch.randint(1 << 31, (), generator=generator))
    destroyer = get_architecture("graph", model.architecture).runtime().untrained(model, seed=seed)
    return destroyer, scene.embed(destroyer)


def calibrated_destroyer(
    model: GraphModel, scene: Scene, never_seen: NeverSeen, whole: Tensor, gone: Questions, untrained: Answers
) -> Answers:
    """Say what held-out nodes and edges are answered, in the distribution, in place of an untrained network's answers.

    Args:
        model: The original.
        scene: The stage.
        never_seen: Held-out items that are like the forgotten ones.
        whole: The original's embeddings of the retained nodes on the whole graph, shape (retained, d).
        gone: What is asked.
        untrained: The untrained destroyer's answers; its embeddings are kept.
    """
    sides = never_seen.sides
    staged = scene.embed(model)
    edges = model.edge_logits(staged, sides.forgotten_edges)
    if len(edges):
        edges = matched(edges, model.edge_logits(whole, never_seen.edges))
    edges = torch.cat([edges, model.edge_logits(staged, sides.replayed_twins)])
    nodes = untrained.nodes
    if len(gone.nodes):
        logits = model.node_logits(staged)
        own, answers = logits[sides.forgotten_nodes], logits[sides.replayed_nodes[1]]
        labels = sides.labels[sides.forgotten_nodes]
        for likes in never_seen.nodes:
            margins = logit_margins(model.node_logits(whole[likes.nodes]), likes.labels)
            chosen = likes.chosen
            wished = matched(logit_margins(own[chosen], labels[chosen]), margins)
            own[chosen] = shifted_margins(own[chosen], labels[chosen], wished)
        nodes = torch.cat([own, answers])
    return Answers(edges, nodes, untrained.embeddings)


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
