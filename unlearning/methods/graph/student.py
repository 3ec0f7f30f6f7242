"""A copy of a network that learns to forget: the weights that move, the stage they are moved on, and the optimizer."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from models.graph.adjacency import Messages, messages_along
from models.graph.network import GraphModel, Inputs
from unlearning.methods.graph.sides import Stage

_DIVERGED = "the loss is no longer a number; choose a smaller learning rate"


@dataclass(frozen=True)
class Scene:
    """A stage, prepared once for many passes of networks of one shape.

    Attributes:
        inputs: Shape (n, width).
        messages: Among the n nodes.
        keys: Whose rows these are, shape (n,), if deletion operators ask.
    """

    inputs: Inputs
    messages: Messages
    keys: Tensor | None

    @classmethod
    def of(cls, model: GraphModel, stage: Stage) -> "Scene":
        """Prepare a stage for networks of this model's shape.

        Raises:
            ValueError: The features' width is not the model's.
        """
        messages = messages_along(stage.message_edges, len(stage.features))
        keys = None if model.deletion_operators is None else stage.keys()
        return cls(model.inputs(stage.features), messages, keys)

    def embed(self, model: GraphModel) -> Tensor:
        """Embed the nodes: shape (n, d)."""
        return self.layers(model, self.inputs, 0, model.layers)

    def layers(self, model: GraphModel, hidden: Inputs, first: int, last: int) -> Tensor:
        """Pass what layer `first` reads through the layers up to `last`, that one left out: (n, d_in) -> (n, d_out)."""
        for layer in range(first, last):
            hidden = model.delete(layer, model.convolve(layer, hidden, self.messages), self.keys)
        return cast("Tensor", hidden)


class Student:
    """A copy of a model's weights, and the optimizer (Adam) that moves them step by step.

    Layers that stay as they are take no gradients, and what they put out is computed once.

    Attributes:
        network: The copy.
    """

    def __init__(
        self, model: GraphModel, scene: Scene, learning_rate: float, moving_layers: int | None = None
    ) -> None:
        """Copy the weights of `model`, which is left as it was.

        Args:
            model: Where to start.
            scene: Where its answers are wanted.
            learning_rate: Of Adam.
            moving_layers: How many of the last layers move, besides the head; None for all.

        Raises:
            ValueError: No weight would move.
        """
        self.network = model.trainable()
        moving = model.layers if moving_layers is None else min(moving_layers, model.layers)
        self._scene, self._first = scene, model.layers - moving
        for layer in self.network.convs[: self._first]:
            layer.requires_grad_(requires_grad=False)
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        if not weights:
            raise ValueError(
                "a model without a head has no weights besides its layers, and none of them may move"
            )
        self._hidden: Inputs = scene.inputs
        if self._first:
            with torch.no_grad():
                self._hidden = scene.layers(self.network, scene.inputs, 0, self._first)
        self._optimizer = torch.optim.Adam(weights, lr=learning_rate)

    def embeddings(self) -> Tensor:
        """Embed the stage's nodes by the weights as they are now, for gradients: shape (n, d)."""
        if self._first == self.network.layers:
            return cast("Tensor", self._hidden)
        return self._scene.layers(self.network, self._hidden, self._first, self.network.layers)

    def look(self) -> Tensor:
        """Embed the stage's nodes without gradients: shape (n, d)."""
        with torch.no_grad():
            return self.embeddings()

    def step(self, loss: Tensor) -> None:
        """Move the weights against the gradient of `loss`, a scalar.

        Raises:
            ValueError: The loss is NaN or infinite.
        """
        if not loss.isfinite():
            raise ValueError(_DIVERGED)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def model(self) -> GraphModel:
        """Return the network as it is now: a frozen copy that later steps leave alone.

        Raises:
            ValueError: A weight is NaN or infinite.
        """
        if not all(bool(weight.isfinite().all()) for weight in self.network.parameters()):
            raise ValueError(_DIVERGED)
        return self.network.frozen()
