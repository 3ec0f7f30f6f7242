"""A copy of a network that learns to forget: the weights that move, the stage they are moved on, and the optimizer."""

from dataclasses import dataclass

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
        return model.encode(self.inputs, self.messages, self.keys)


class Student:
    """A copy of a model's weights, and the optimizer (Adam) that moves them step by step.

    Attributes:
        network: The copy; its weights take gradients.
    """

    def __init__(self, model: GraphModel, scene: Scene, learning_rate: float) -> None:
        """Copy the weights of `model`, which is left as it was."""
        self.network = model.trainable()
        self._scene = scene
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)

    def embeddings(self) -> Tensor:
        """Embed the stage's nodes by the weights as they are now, for gradients: shape (n, d)."""
        return self._scene.embed(self.network)

    def look(self) -> Tensor:
        """Embed the stage's nodes without gradients: shape (n, d)."""
        with torch.no_grad():
            return self._scene.embed(self.network)

    def step(self, loss: Tensor) -> None:
        """Move the weights against the gradient of `loss`.

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
