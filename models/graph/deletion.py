"""Deletion operators: matrices that a network multiplies the outputs of its layers with, for some nodes only.

They are what `gnndelete` learns, and from then on part of the model. Nodes are known by a hash of their id, not by
their position, so that the same operators find their nodes in every selection of a data set and in every later
snapshot, and so that the checkpoint names nobody.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from models.graph.sparse import matches

_KEY_BYTES = 8


class Deletion(nn.Module):
    """The operators of one request, one for each layer: h → h W for the nodes concerned, h for all others.

    Weights are buffers, not parameters: whoever trains the network on leaves them as they are.
    """

    def __init__(self, weights: Sequence[Tensor], keys: Sequence[Tensor]) -> None:
        """Keep the operators.

        Args:
            weights: For each layer its W, shape (d, d) with the layer's width d.
            keys: For each layer the `node_keys` of the nodes concerned, shape (k,), sorted.

        Raises:
            ValueError: A matrix is not square, keys are not sorted, or the two are not equally many.
        """
        super().__init__()
        for layer, (weight, names) in enumerate(zip(weights, keys, strict=True)):
            if weight.dim() != 2 or weight.shape[0] != weight.shape[1]:  # noqa: PLR2004 - rows and columns
                raise ValueError(f"the operator of layer {layer} is not a square matrix")
            # Compared, not subtracted: the difference of two keys need not fit into 64 bits.
            if names.dtype != torch.int64 or bool((names[1:] <= names[:-1]).any()):
                raise ValueError(f"the node keys of layer {layer} are not distinct, sorted int64 numbers")
            self.register_buffer(f"weight_{layer}", weight.detach().clone())
            self.register_buffer(f"keys_{layer}", names.clone())
        self.layers = len(weights)

    def weight(self, layer: int) -> Tensor:
        """Return the operator of a layer, shape (d, d)."""
        return self.get_buffer(f"weight_{layer}")

    def keys(self, layer: int) -> Tensor:
        """Return the keys of the nodes that a layer's operator concerns, shape (k,), sorted."""
        return self.get_buffer(f"keys_{layer}")

    def forward(self, layer: int, outputs: Tensor, keys: Tensor) -> Tensor:
        """Apply the operator of a layer.

        Args:
            layer: Which one, from 0.
            outputs: The layer's outputs, shape (n, d).
            keys: Whose they are, shape (n,).
        """
        # A node may stand there twice, as itself and as a replay of what it was.
        concerned, _ = matches(self.keys(layer), keys)
        if not len(concerned):
            return outputs
        changed = outputs.index_select(0, concerned) @ self.weight(layer).to(outputs.dtype)
        # A third of the time that scattering by a mask takes.
        return outputs.index_copy(0, concerned, changed)

    def without(self, keys: Tensor) -> "Deletion":
        """Return the same operators, no longer concerning these nodes."""
        layers = range(self.layers)
        return Deletion(
            [self.weight(layer) for layer in layers],
            [self.keys(layer)[~torch.isin(self.keys(layer), keys)] for layer in layers],
        )


def node_keys(node_ids: Iterable[str]) -> Tensor:
    """Return the first 8 bytes of the SHA-256 of each id as an int64, shape (n,).

    Among a million nodes, two share a key with a probability of 3e-8; they would then share operators too.

    >>> node_keys(["a"]).tolist()
    [-3848465438864589366]
    """
    # What no text encodes, a lone surrogate, is hashed by its escape, as it can stand in JSON.
    return torch.tensor(
        [
            int.from_bytes(
                hashlib.sha256(node_id.encode(errors="surrogatepass")).digest()[:_KEY_BYTES], signed=True
            )
            for node_id in node_ids
        ],
        dtype=torch.int64,
    )


def deletions_of(tensors: Mapping[str, Tensor], layers: int) -> list[Deletion]:
    """Read deletion operators back from a checkpoint's tensors, in the order in which they are applied.

    Args:
        tensors: As `nn.ModuleList.state_dict` names them: `0.weight_0`, `0.keys_0`, `0.weight_1`, ….
        layers: Of the network.

    Raises:
        ValueError: A tensor is missing, is one too many, or has an impossible shape or order.
    """
    found: list[Deletion] = []
    while len(found) * 2 * layers < len(tensors):
        names = [(f"{len(found)}.weight_{layer}", f"{len(found)}.keys_{layer}") for layer in range(layers)]
        missing = [name for pair in names for name in pair if name not in tensors]
        if missing:
            raise ValueError(f"there is no deletion tensor {missing[0]}")
        found.append(Deletion([tensors[weight] for weight, _ in names], [tensors[keys] for _, keys in names]))
    if len(found) * 2 * layers != len(tensors):
        raise ValueError("there are more deletion tensors than the network has layers for")
    return found
