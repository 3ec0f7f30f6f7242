"""Graph influence function: one Newton step from the weights as they are to those of training without what is forgotten.

To first order, taking items out of the training loss moves its minimum by H⁻¹ g: H is the loss' second derivative, g
the gradient of what is taken out. On a graph more changes than the items themselves: their neighbours stay, and are
predicted from other messages. So

    θ' = θ + H⁻¹ g,   g = Σ over removed ∇L(old graph) + Σ over touched neighbours (∇L(old graph) - ∇L(new graph))

Paper: Wu et al., "GIF: A General Graph Unlearning Strategy via Influence Function" (WWW 2023), arXiv 2304.02835,
section 3.2. Deviations: H is the Gauss-Newton matrix of the loss with the weight decay that training had, plus a
damping, because the second derivative of a network's loss is not positive definite and H⁻¹ g then no descent. H⁻¹ g
comes from conjugate gradients instead of a Neumann series, whose terms grow without bound unless a scale is guessed
right for each data set. The damping is raised tenfold as long as the step raises the retained nodes' loss by more than
`harm`: a parabola may be no picture of the loss a whole step away. The published code (github.com/wujcan/GIF-torch at 9fe4294) takes g over all touched nodes,
test nodes and their labels included, and reads the places of training nodes as their ids; here only training nodes
have losses.

Guarantee: empirical; the formula is exact for a convex loss at its minimum and an infinitesimal part of the data.
Limits: node classification. A model that was stopped early is not at a minimum, so that the whole step goes too far; the
damping shortens it. Never-seen nodes do not say by how much: they set the method no stopping rule
(docs/decisions/0012-graph-influence.md). All weights change, and so does every embedding.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from unlearning.catalog.graph import GifConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.graph.sides import as_method_errors, forget_names, refuse_missing

MOST_RAISES = 4
"""Times that the damping is raised tenfold before the method gives up."""

Product = Callable[[Tensor], Tensor]
"""A symmetric matrix times a vector: shape (p,) -> (p,)."""


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: GifConfig,
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> GraphModel:
    """Move the weights by the influence of what is forgotten.

    Raises:
        MethodError: Something to forget is not in the data, or the data do not fit the model.
        MethodUnsuitableError: The model predicts links, nothing is retained, or every step does harm.
    """
    if model.task != "node_classification":
        raise MethodUnsuitableError("The influence is computed on nodes' labels; this model predicts links.")
    with as_method_errors():
        refuse_missing(data, forget)
        retained = data.without(forget.record_ids)
        if not len(retained.training_nodes()):
            raise MethodUnsuitableError("Every training node is to be forgotten, so nothing is left to keep.")
        influence = Influence.of(model, data, retained)
        if not bool(influence.gradient.isfinite().all()):
            raise ValueError("the gradient of what is forgotten is no longer a number")
        if not bool(influence.gradient.any()):
            return forget_names(model.frozen(), data, forget)
        return forget_names(_within_harm(model, retained, influence, config, progress), data, forget)


def _within_harm(
    model: GraphModel, retained: GraphData, influence: "Influence", config: GifConfig, progress: Progress
) -> GraphModel:
    """Take the step, and a shorter one as long as it does more harm to what is retained than is allowed.

    Raises:
        MethodUnsuitableError: Even the shortest one does.
    """
    before = _mean_loss(model, retained)
    damping = config.damping
    for _ in range(MOST_RAISES + 1):
        candidate = moved(model, influence.step(damping, config, progress))
        harm = _mean_loss(candidate, retained) - before
        progress("weighing the step", 1, 1, {"damping": damping, "rise of the retained loss": harm})
        if harm <= config.harm:
            return candidate
        damping *= 10.0
    raise MethodUnsuitableError(
        "Every step by the influence of what is to be forgotten does harm to what is retained: the loss is too far "
        "from a parabola around this model."
    )


def _mean_loss(model: GraphModel, data: GraphData) -> float:
    with torch.no_grad():
        return float(functional.cross_entropy(*known_logits(model, data)))


class Influence:
    """The system of equations whose solution is the step, all per training node of the old graph.

    Attributes:
        gradient: g, shape (p,) over all weights.
    """

    def __init__(self, gradient: Tensor, curvature: Product) -> None:
        """Keep g and the products with H."""
        self.gradient = gradient
        self._curvature = curvature

    @classmethod
    def of(cls, model: GraphModel, data: GraphData, retained: GraphData) -> "Influence":
        """Differentiate the losses on both graphs at the model's weights.

        Of a node that no deletion touches both graphs make the same, so the sums over all training nodes differ by
        exactly what the paper sums up.

        Raises:
            ValueError: A node's class is none of the model's.
        """
        network = model.trainable()
        weights = list(network.parameters())
        logits, labels = known_logits(network, data)
        count = len(labels)
        old = _flat(torch.autograd.grad(logits, weights, errors(logits, labels), retain_graph=True))
        others, labels = known_logits(network, retained)
        new = _flat(torch.autograd.grad(others, weights, errors(others, labels)))
        probabilities = logits.softmax(dim=1).detach()
        decay = model.config.recipe.weight_decay
        # J v is the derivative by u of the product uᵀ J v, itself the derivative of Jᵀ u: two backward passes in place
        # of a forward one, which the sparse product does not have.
        probe = torch.zeros_like(logits, requires_grad=True)
        backward = _flat(torch.autograd.grad(logits, weights, probe, create_graph=True))

        def curvature(vector: Tensor) -> Tensor:
            (moves,) = torch.autograd.grad(backward, probe, vector, retain_graph=True)
            # The cross-entropy's second derivative by the logits is diag(p) - p pᵀ.
            bent = probabilities * (moves - (probabilities * moves).sum(dim=1, keepdim=True))
            product = _flat(torch.autograd.grad(logits, weights, bent, retain_graph=True))
            return product / count + decay * vector

        return cls((old - new) / count, curvature)

    def step(self, damping: float, config: GifConfig, progress: Progress) -> Tensor:
        """Solve (H + δ I) x = g, shape (p,).

        Raises:
            ValueError: The solution is no longer a number.
        """
        found = torch.zeros_like(self.gradient)
        for number, (found, residual) in enumerate(  # noqa: B007 - the last one found is the step
            conjugate_gradients(lambda vector: self._curvature(vector) + damping * vector, self.gradient),
            start=1,
        ):
            enough = residual <= config.tolerance
            progress(
                "solving for the step",
                config.iterations if enough else number,
                config.iterations,
                {"residual": residual},
            )
            if enough or number == config.iterations:
                break
        if not bool(found.isfinite().all()):
            raise ValueError("the step is no longer a number")
        return found


def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy by the logits, p - y: shape (k, classes), (k,) -> (k, classes).

    >>> errors(torch.zeros(1, 2), torch.tensor([0]))
    tensor([[-0.5000,  0.5000]])
    """
    return (logits.softmax(dim=1) - functional.one_hot(labels, logits.shape[1])).detach()


def known_logits(model: GraphModel, data: GraphData) -> tuple[Tensor, Tensor]:
    """Return the training nodes' logits, shape (k, classes), and labels, shape (k,), on the graph's own messages.

    Raises:
        ValueError: A node's class is none of the model's.
    """
    known = data.training_nodes()
    labels = data.labels_among(model.classes)[known]
    return model.node_logits(model.embeddings(data)[known]), labels


def conjugate_gradients(product: Product, right: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Approach the solution of A x = b for a positive definite A (Hestenes and Stiefel 1952), step by step.

    Args:
        product: v → A v.
        right: b, shape (p,), not zero.

    Yields:
        x, shape (p,), and ‖A x - b‖ / ‖b‖; the last one where that is 0.

    >>> solution, residual = next(conjugate_gradients(lambda vector: 2 * vector, torch.tensor([4.0, 6.0])))
    >>> solution, residual
    (tensor([2., 3.]), 0.0)
    """
    found = torch.zeros_like(right)
    residual = direction = right
    square = residual @ residual
    norm = float(right.norm())
    while float(square) > 0.0:
        bent = product(direction)
        length = square / (direction @ bent)
        found = found + length * direction
        residual = residual - length * bent
        previous, square = square, residual @ residual
        direction = residual + (square / previous) * direction
        yield found, float(square) ** 0.5 / norm


def moved(model: GraphModel, step: Tensor) -> GraphModel:
    """Return a copy of the model with the step added to its weights, shape (p,); frozen."""
    other = model.frozen()
    weights = list(other.parameters())
    with torch.no_grad():
        for weight, part in zip(
            weights, torch.split(step, [weight.numel() for weight in weights]), strict=True
        ):
            weight.add_(part.view_as(weight))
    return other


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
