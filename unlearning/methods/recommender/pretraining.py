"""Pre-training of UnlearnRec's Influence Encoder: once for a model, for many requests that nobody has made yet.

Random requests are drawn from the training interactions, a new one every few steps; the model's embeddings stay as
they are, and the encoder learns to propose the change that `unlearnrec` would come to by fine-tuning: the loss is the
same (`editing`, or the published one). Paper: arXiv 2505.22649, section 3.4. No request that was ever made takes part:
an encoder chosen on the very request that it is judged by would look better than it is.

    model = pretrain(model, data.for_methods(), PretrainConfig(), generator=generator, progress=progress)
"""

import math

import torch
from torch import Tensor

from models.contracts import Progress
from models.recommender.data import RecommenderData
from models.recommender.influence import InfluenceEncoder, Request, draw_encoder
from models.recommender.interaction_graph import InteractionGraph, among
from models.recommender.neural import NeuralRecommender
from unlearning.catalog.recommender_networks import PretrainConfig, UnlearnRecConfig
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.recommender.editing import Editing
from unlearning.methods.recommender.removal import Removal, as_method_errors
from unlearning.methods.recommender.unlearnrec import PublishedLoss, changed

LEAST_INTERACTIONS = 32
"""Fewer make no request worth learning from."""
_ATTEMPTS = 20


def pretrain(
    model: NeuralRecommender,
    data: RecommenderData,
    config: PretrainConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NeuralRecommender:
    """Return the model with a pre-trained encoder beside it; its own embeddings are the same tensors.

    Args:
        model: Frozen throughout.
        data: What it was trained on, without the audit half.
        config: Steps, requests and the loss.
        generator: Draws requests, first weights and negatives.
        progress: Told of every step.

    Raises:
        MethodError: The data do not fit the model, or the encoder left the numbers.
        MethodUnsuitableError: There are too few interactions to draw requests from.
    """
    with as_method_errors():
        graph = model.graph(data)
        held = data.calibration()
        never_seen = torch.stack(
            [among(held.users, model.users)[held.user_index], among(held.items, model.items)[held.item_index]]
        )
        never_seen = never_seen[:, (never_seen >= 0).all(dim=0)]
        if len(graph) < LEAST_INTERACTIONS:
            raise MethodUnsuitableError(
                f"{len(graph)} training interactions are too few to draw requests from."
            )
        encoder = draw_encoder(graph.users, graph.items, model.config.recipe.width, config.layers, generator)
        weights = {name: tensor.requires_grad_() for name, tensor in encoder.tensors().items()}
        optimizer = torch.optim.Adam(weights.values(), lr=config.learning_rate, fused=True)
        drawn = Drawn(model, data, graph, never_seen, config, generator)
        for number in range(1, config.steps + 1):
            if number % config.steps_per_request == 1 or config.steps_per_request == 1:
                drawn.renew()
            loss, figures = drawn.loss(encoder)
            if not loss.isfinite():
                raise ValueError("the encoder left the numbers; choose a smaller learning rate")
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - (number - 1) / config.steps)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress("pre-training", number, config.steps, {"loss": loss.item(), **figures})
    return model.with_influence(
        InfluenceEncoder(
            encoder.layers, **{name: tensor.detach().clone() for name, tensor in weights.items()}
        )
    )


class Drawn:
    """A request drawn at random, and its loss."""

    def __init__(
        self,
        model: NeuralRecommender,
        data: RecommenderData,
        graph: InteractionGraph,
        never_seen: Tensor,
        config: PretrainConfig,
        generator: torch.Generator,
    ) -> None:
        """Keep what every request is drawn from."""
        self._model, self._data, self._graph, self._never_seen = model, data, graph, never_seen
        self._config, self._generator = config, generator
        self._editing: Editing | None = None
        self._published: PublishedLoss | None = None

    def renew(self) -> None:
        """Draw a request of a random size: training interactions whose users and items keep others.

        Raises:
            MethodUnsuitableError: No request leaves anybody behind whom it could move.
        """
        for _ in range(_ATTEMPTS):
            removal = self._draw()
            if removal.forgotten.shape[1]:
                break
        else:
            raise MethodUnsuitableError("Users and items have too few interactions to draw requests from.")
        config = self._config
        self._request = Request.of(removal.forgotten)
        if config.objective == "paper":
            self._published = PublishedLoss(removal, _serving(config), self._generator)
        else:
            self._editing = Editing(removal, config.drift_weight, config.retained_weight, self._generator)

    def _draw(self) -> Removal:
        config, graph = self._config, self._graph
        low, high = math.log(config.least_share), math.log(max(config.most_share, config.least_share))
        uniform = float(torch.rand((), generator=self._generator))
        count = max(1, int(len(graph) * math.exp(low + uniform * (high - low))))
        asked = torch.zeros(len(graph), dtype=torch.bool)
        asked[torch.randperm(len(graph), generator=self._generator)[:count]] = True
        retained = InteractionGraph(
            graph.users, graph.items, graph.user_index[~asked], graph.item_index[~asked]
        )
        pairs = torch.stack([graph.user_index[asked], graph.item_index[asked]])
        stays = (retained.user_degrees[pairs[0]] > 0) & (retained.item_degrees[pairs[1]] > 0)
        return Removal(self._model, self._data, retained, pairs[:, stays], self._never_seen, learned=True)

    def loss(self, encoder: InfluenceEncoder) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of what the encoder proposes for the request, and figures of it."""
        if self._published is not None:
            proposal = encoder.changes(self._request, *self._published.before)
            factors = changed(self._model.factors, self._request, *proposal)
            return self._published.step(factors, self._generator)
        assert self._editing is not None  # noqa: S101 - `renew` has made one of the two
        editing = self._editing
        proposal = encoder.changes(editing.request, *editing.before, editing.excess)
        step = editing.step(*proposal)
        return step.loss, {
            "forgotten above negatives": step.share,
            "never seen above negatives": self._editing.share,
        }


def _serving(config: PretrainConfig) -> UnlearnRecConfig:
    """Return the weights of the published loss as the method's own configuration names them."""
    return UnlearnRecConfig(
        objective="paper",
        forget_weight=config.forget_weight,
        alignment_weight=config.alignment_weight,
        contrast_weight=config.contrast_weight,
    )
