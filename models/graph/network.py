"""Graph networks: GCN, GAT, GIN and GraphSAGE, for the classes of nodes and for links between them.

The layers' weights are those of PyTorch Geometric's convolutions, under the same names, and give the same outputs
(tests compare them). What is computed is fused here: one sparse product per layer (`models.graph.sparse`) instead of a
gathered and a scattered copy of every message. There is no training mode: whoever trains drops inputs out.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

from models.graph.adjacency import Messages, messages_along
from models.graph.configuration import GraphConfig, Task
from models.graph.data import GraphData
from models.graph.deletion import Deletion, node_keys
from models.graph.pairs import pair_products
from models.graph.sparse import SparseMatrix, from_dense

SPARSE_BELOW = 0.1
"""Share of features other than 0 below which products with a sparse matrix are faster; measured on bags of words."""

_NEGATIVE_SLOPE = 0.2
"""Of the leaky ReLU in attention; the GAT paper's, section 2.1."""

Inputs = Tensor | SparseMatrix
"""Node features, dense or sparse: shape (n, width)."""


class GraphModel(nn.Module):
    """A GCN, GAT, GIN or GraphSAGE.

    Models are passed around frozen: nothing computes gradients on their weights. `trainable()` gives a copy that does.

    Attributes:
        config: What the model is; its recipe and sizes.
        convs: The layers, PyTorch Geometric's.
        head: From embeddings to classes; None for link prediction.
        deletion_operators: Of `gnndelete`, in the order in which they are applied; None where there are none.
    """

    convs: nn.ModuleList
    head: nn.Linear | None
    deletion_operators: nn.ModuleList | None

    def __init__(self, config: GraphConfig, deletions: Sequence[Deletion] = ()) -> None:
        """Make a frozen network whose weights are arbitrary: `initialise` draws some, a checkpoint holds others."""
        super().__init__()
        self.config = config.model_copy(update={"deletions": len(deletions)})
        # PyTorch Geometric draws weights from the global generator on construction, which is nobody's to move.
        with torch.random.fork_rng(devices=()):
            self.convs = nn.ModuleList(
                _convolution(config.architecture, *widths, heads)
                for widths, heads in zip(config.widths, config.heads, strict=True)
            )
            self.head = nn.Linear(config.hidden[-1], len(config.classes)) if config.classes else None
        self.deletion_operators = nn.ModuleList(deletions) if deletions else None
        self.requires_grad_(requires_grad=False)

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.config.architecture

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return self.config.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that node logits are of; a forgotten class keeps its place."""
        return self.config.classes

    @property
    def layers(self) -> int:
        """Number of message-passing layers."""
        return self.config.layers

    def trainable(self) -> "GraphModel":
        """Return a copy whose weights take gradients."""
        return copy.deepcopy(self).requires_grad_()

    def frozen(self) -> "GraphModel":
        """Return a copy as it is now, cut off from whatever trained it."""
        return copy.deepcopy(self).requires_grad_(requires_grad=False)

    def with_deletions(self, deletions: Sequence[Deletion]) -> "GraphModel":
        """Return the same network with these deletion operators instead of its own, frozen."""
        other = self.frozen()
        other.config = self.config.model_copy(update={"deletions": len(deletions)})
        other.deletion_operators = nn.ModuleList(copy.deepcopy(list(deletions))) if deletions else None
        return other

    def naming_none_of(self, keys: Tensor) -> "GraphModel":
        """Return the same network with operators that no longer concern these nodes, shape (k,); itself without any."""
        if self.deletion_operators is None or not len(keys):
            return self
        return self.with_deletions(
            [
                operators.without(keys)
                for operators in self.deletion_operators
                if isinstance(operators, Deletion)
            ]
        )

    def embeddings(self, data: GraphData) -> Tensor:
        """Embed the nodes of a graph along its training edges: shape (n, d)."""
        return self.encode(data.features, data.message_edges(), self.keys_of(data))

    def keys_of(self, data: GraphData) -> Tensor | None:
        """Return the nodes' keys, shape (n,), if deletion operators need them; to hash a million ids takes a second."""
        return None if self.deletion_operators is None else node_keys(data.node_ids)

    def encode(
        self, features: Inputs, message_edges: Tensor | Messages, keys: Tensor | None = None
    ) -> Tensor:
        """Embed nodes.

        Args:
            features: Shape (n, width); as `inputs` returns them where they are used more than once.
            message_edges: Shape (2, m), or prepared by `messages_along`.
            keys: Whose rows these are (`models.graph.deletion.node_keys`), shape (n,). Needed by deletion operators.

        Returns:
            Shape (n, d).
        """
        return self.layer_outputs(features, message_edges, keys)[-1]

    def layer_outputs(
        self, features: Inputs, message_edges: Tensor | Messages, keys: Tensor | None = None
    ) -> list[Tensor]:
        """Return every layer's output, deletion operators applied: shapes (n, width of the layer)."""
        messages = _prepared(message_edges, features.shape[0])
        outputs: list[Tensor] = []
        hidden = self.inputs(features)
        for layer in range(self.layers):
            output = self.delete(layer, self.convolve(layer, hidden, messages), keys)
            outputs.append(output)
            hidden = output
        return outputs

    def inputs(self, features: Inputs) -> Inputs:
        """Check node features and bring them into the faster form.

        Raises:
            ValueError: Their width is not the model's.
        """
        if len(features.shape) != 2 or features.shape[1] != self.config.width:  # noqa: PLR2004 - rows and columns
            raise ValueError(
                f"features must have shape (n, {self.config.width}), not {tuple(features.shape)}"
            )
        if isinstance(features, SparseMatrix) or features.requires_grad:
            return features
        if int(features.count_nonzero()) >= SPARSE_BELOW * features.numel():
            return features
        return from_dense(features)

    def convolve(self, layer: int, h: Inputs, message_edges: Tensor | Messages) -> Tensor:
        """Compute one layer with its activation, without deletion operators.

        Args:
            layer: Which one, from 0.
            h: What the layer reads, shape (sources, d_in).
            message_edges: Shape (2, m) over all nodes, or prepared, perhaps for some target nodes only.

        Returns:
            Shape (targets, d_out).
        """
        return self.finish(layer, self.accumulate(layer, h, message_edges))

    def accumulate(self, layer: int, h: Inputs, message_edges: Tensor | Messages) -> Tensor:
        """Compute the part of a layer that is linear in what it reads, attention aside: what arrives at each target.

        Args:
            layer: Which one, from 0.
            h: As `convolve` takes it.
            message_edges: As `convolve` takes them.

        Returns:
            Shape (targets, d_out): what `finish` reads.
        """
        messages = _prepared(message_edges, h.shape[0])
        if messages.sources != h.shape[0]:
            raise ValueError(
                f"{h.shape[0]} rows cannot be the {messages.sources} nodes that messages come from"
            )
        return _ACCUMULATE[self.architecture](self.convs[layer], h, messages)

    def finish(self, layer: int, accumulated: Tensor) -> Tensor:
        """Turn what has arrived at some nodes into their outputs, row by row: shape (k, d_out) -> (k, d_out)."""
        output = accumulated
        if self.architecture == "gin":
            conv: Any = self.convs[layer]
            output = conv.nn[2](output.relu())
        return output.relu() if layer + 1 < self.layers else output

    def delete(self, layer: int, output: Tensor, keys: Tensor | None) -> Tensor:
        """Apply the layer's deletion operators to its output, rows named by `keys`.

        Raises:
            ValueError: There are operators but no keys, without which they cannot find their nodes.
        """
        if self.deletion_operators is None:
            return output
        if keys is None:
            raise ValueError("this model has deletion operators: it must be told whose rows these are")
        for operators in self.deletion_operators:
            output = operators(layer, output, keys)
        return output

    def node_logits(self, embeddings: Tensor) -> Tensor:
        """Score every class: shape (n, d) -> (n, classes).

        Raises:
            ValueError: The model predicts links.
        """
        if self.head is None:
            raise ValueError("a model for link prediction has no classes of nodes")
        logits: Tensor = self.head(embeddings)
        return logits

    def edge_logits(self, embeddings: Tensor, pairs: Tensor) -> Tensor:
        """Score pairs of nodes by the inner product of their embeddings: shape (n, d), (2, m) -> (m,)."""
        return pair_products(embeddings, pairs)


def initialise(config: GraphConfig, generator: torch.Generator) -> GraphModel:
    """Draw first weights: uniform as Glorot and Bengio (2010), biases zero."""
    model = GraphModel(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            outputs, inputs = parameter.shape[-2:]
            bound = (6.0 / (inputs + outputs)) ** 0.5
            parameter.uniform_(-bound, bound, generator=generator)
        else:
            parameter.zero_()
    return model


def _convolution(architecture: str, inputs: int, outputs: int, heads: int) -> nn.Module:
    layer: nn.Module
    match architecture:
        case "gcn":
            layer = GCNConv(inputs, outputs)
        case "gat":
            layer = GATConv(inputs, outputs // heads, heads=heads)
        case "sage":
            layer = SAGEConv(inputs, outputs)
        case _:
            layer = GINConv(nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs)))
    return layer


def _prepared(message_edges: Tensor | Messages, nodes: int) -> Messages:
    if isinstance(message_edges, Messages):
        return message_edges
    return messages_along(message_edges, nodes)


def _times(h: Inputs, weight: Tensor) -> Tensor:
    """Multiply (n, inputs) by a linear layer's weight (outputs, inputs) -> (n, outputs)."""
    if isinstance(h, SparseMatrix):
        return h @ weight.t().contiguous()
    return functional.linear(h, weight)


# Every layer below multiplies by its weight before it passes messages on, which are then as narrow as its output. Means
# and sums are linear, so the order makes no difference otherwise.


def _gcn(conv: GCNConv, h: Inputs, messages: Messages) -> Tensor:
    """Return D^-1/2 (A + I) D^-1/2 H W + b (Kipf and Welling 2017, equation 8)."""
    projected = _times(h, conv.lin.weight)
    # Two scalings by node take the place of one weight for every message.
    scale = messages.scale.to(projected.dtype)[:, None]
    scaled = projected * scale
    targets = messages.targets
    received = (messages.incoming @ scaled) + scaled[:targets]
    output: Tensor = received * scale[:targets] + conv.bias
    return output


def _sage(conv: SAGEConv, h: Inputs, messages: Messages) -> Tensor:
    """Return W_l mean of the neighbours + b + W_r h; the mean of no neighbours is 0."""
    received = messages.incoming @ _times(h, conv.lin_l.weight)
    mean = received / messages.incoming.counts.clamp(min=1)[:, None]
    output: Tensor = mean + conv.lin_l.bias + _times(h, conv.lin_r.weight)[: messages.targets]
    return output


def _gin(conv: GINConv, h: Inputs, messages: Messages) -> Tensor:
    """Return the first layer of MLP((1 + ε) h + sum of the neighbours) (Xu et al. 2019, equation 4.1)."""
    projected = _times(h, conv.nn[0].weight)
    received: Tensor = (messages.incoming @ projected) + (1.0 + conv.eps) * projected[: messages.targets]
    output: Tensor = received + conv.nn[0].bias
    return output


def _gat(conv: GATConv, h: Inputs, messages: Messages) -> Tensor:
    """Return the neighbours' and the node's own W h, weighted by attention (Veličković et al. 2018, equations 1-5)."""
    heads, width = conv.heads, conv.out_channels
    projected = _times(h, conv.lin.weight).view(-1, heads, width)  # (sources, heads, width)
    sent = (projected * conv.att_src).sum(dim=-1)  # (sources, heads)
    asked = (projected[: messages.targets] * conv.att_dst).sum(dim=-1)  # (targets, heads)
    of_messages, of_itself = _attention(messages, sent, asked)
    outputs = [
        messages.incoming.weighted(of_messages[:, head].contiguous(), projected[:, head].contiguous())
        + of_itself[:, head, None] * projected[: messages.targets, head]
        for head in range(heads)
    ]
    output: Tensor = torch.cat(outputs, dim=1) + conv.bias
    return output


def _attention(messages: Messages, sent: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Return each message's share in what its target receives, (messages, heads), and that of its own, (targets, heads)."""
    rows, columns = messages.incoming.rows, messages.incoming.columns
    scores = functional.leaky_relu(sent[columns] + asked[rows], _NEGATIVE_SLOPE)
    own = functional.leaky_relu(sent[: messages.targets] + asked, _NEGATIVE_SLOPE)
    # The largest score is taken off before the exponential, which then cannot overflow; no share depends on it.
    largest = own.detach().scatter_reduce(0, rows[:, None].expand_as(scores), scores.detach(), "amax")
    exponentials, own = (scores - largest[rows]).exp(), (own - largest).exp()
    total = own.index_add(0, rows, exponentials)
    return exponentials / total[rows], own / total


_ACCUMULATE = {"gcn": _gcn, "sage": _sage, "gin": _gin, "gat": _gat}
