"""The influence of deleted nodes on a graph convolutional network, written out densely: every matrix is built and solved."""

import torch
from torch import Tensor
from torch.nn import functional

from models.graph.data import GraphData
from models.graph.network import GraphModel


def exact_step(model: GraphModel, data: GraphData, retained: GraphData, damping: float) -> Tensor:
    """Return (G + (w + δ) I)⁻¹ g for a GCN of two layers, flat in the order of its parameters, in its own dtype.

    G = mean over training nodes of Jᵀ (diag(p) - p pᵀ) J with the Jacobian J of a node's logits; g = (removed nodes'
    gradients + touched nodes' old gradients - their new ones) / number of training nodes; w is the weight decay.
    """
    weights = [weight.detach() for weight in model.parameters()]
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    known = data.training_nodes()
    labels = data.labels_among(model.classes)[known]
    before = _logits(data)
    jacobian = torch.autograd.functional.jacobian(lambda vector: before(_split(vector, weights))[known], flat)
    probabilities = before(weights)[known].softmax(dim=1)
    curvature = torch.zeros(len(flat), len(flat), dtype=flat.dtype)
    for node, chances in zip(jacobian, probabilities, strict=True):
        curvature += node.T @ (torch.diag(chances) - torch.outer(chances, chances)) @ node
    gradient = torch.zeros_like(flat)
    names = [data.node_ids[place] for place in known.tolist()]
    for row, (name, label) in enumerate(zip(names, labels.tolist(), strict=True)):
        old = _node_gradient(before, int(known[row]), label, flat, weights)
        gradient += old
        if name in retained.node_positions:
            gradient -= _node_gradient(_logits(retained), retained.node_positions[name], label, flat, weights)
    count = len(known)
    system = curvature / count + (model.config.recipe.weight_decay + damping) * torch.eye(
        len(flat), dtype=flat.dtype
    )
    return torch.linalg.solve(system, gradient / count)


def _logits(data: GraphData):
    """Return W ↦ logits of every node by equation 9 of Kipf and Welling (2017), and a linear head."""
    dense = torch.eye(data.nodes, dtype=torch.float64)
    dense[data.message_edges()[1], data.message_edges()[0]] = 1.0
    root = dense.sum(dim=1).rsqrt()
    passed = root[:, None] * dense * root

    def logits(weights):
        first_bias, first, second_bias, second, head, head_bias = weights
        hidden = (passed @ data.features.double() @ first.T + first_bias).relu()
        embedded = passed @ hidden @ second.T + second_bias
        return embedded @ head.T + head_bias

    return logits


def _split(vector: Tensor, weights: list[Tensor]) -> list[Tensor]:
    parts = vector.split([weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def _node_gradient(logits, node: int, label: int, flat: Tensor, weights: list[Tensor]) -> Tensor:
    def loss(vector: Tensor) -> Tensor:
        return functional.cross_entropy(logits(_split(vector, weights))[[node]], torch.tensor([label]))

    return torch.autograd.functional.jacobian(loss, flat)
