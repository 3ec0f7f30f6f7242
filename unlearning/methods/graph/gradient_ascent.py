"""Gradient ascent: training in reverse, on the forgotten nodes or edges alone.

Each step moves the weights so that the loss on what is forgotten grows: the negative log-likelihood that forgotten
edges exist, or the cross-entropy of deleted nodes' labels, with messages along the retained graph. Source: the baseline
called negative gradient by Golatkar et al., "Eternal Sunshine of the Spotless Net" (CVPR 2020), arXiv 1911.04933; on
graphs it stands among the baselines of GNNDelete (ICLR 2023).

Deviations: with `calibration="validation"` (the default) it stops as soon as forgotten items look like never-seen ones
(`never_seen`); with `"paper"` it runs its epochs.

Guarantee: empirical. Limits: nothing holds the rest of the model together, so it collapses when it runs on; it is here
to be compared with, and the audit is expected to catch it. Where too little is held out, or nothing was memorised, the
calibrated form declines.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from unlearning.catalog.graph import GradientAscentConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.graph.never_seen import begin_calibration
from unlearning.methods.graph.sides import Sides, as_method_errors, forget_names
from unlearning.methods.graph.student import Scene, Student


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: GradientAscentConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Ascend the loss on what is forgotten.

    Raises:
        MethodError: Something to forget is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Nothing to be forgotten was learned itself, or calibration has no target here.
    """
    with as_method_errors():
        sides = Sides.of(model, data, forget)
        if not sides.touched:
            return forget_names(model.frozen(), data, forget)
        if not sides.asks:
            raise MethodUnsuitableError("The model learned no label and no edge of what is to be forgotten.")
        scene = Scene.of(model, sides.stage)
        rule = begin_calibration(config.calibration, model, sides, scene, forget, generator)
        student = Student(model, scene, config.learning_rate)
        for epoch in range(1, config.epochs + 1):
            loss = forget_loss(student.network, student.embeddings(), sides)
            student.step(-loss)
            enough = rule.checks and rule.is_enough(student.network, student.look())
            figures = {"forget loss": loss.item(), **rule.figures}
            progress("ascending", config.epochs if enough else epoch, config.epochs, figures)
            if enough:
                break
        return forget_names(student.model(), data, forget)


def forget_loss(model: GraphModel, embeddings: Tensor, sides: Sides) -> Tensor:
    """Return the training loss on what is forgotten, in nats: a scalar, the mean over edges plus that over nodes.

    Args:
        model: Its head is used.
        embeddings: Of the stage's nodes, shape (n, d).
        sides: Says which edges and nodes; features that are forgotten count by their replays.
    """
    total = embeddings.new_zeros(())
    edges = torch.cat([sides.forgotten_edges, sides.replayed_edges], dim=1)
    nodes = torch.cat([sides.forgotten_nodes, sides.replayed_nodes[0]])
    nodes = nodes[sides.labels[nodes] >= 0]
    if edges.shape[1]:
        total = total + functional.softplus(-model.edge_logits(embeddings, edges)).mean()
    if len(nodes):
        total = total + functional.cross_entropy(model.node_logits(embeddings[nodes]), sides.labels[nodes])
    return total
