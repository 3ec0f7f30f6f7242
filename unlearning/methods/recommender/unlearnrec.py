"""UnlearnRec: a pre-trained encoder proposes how a request changes the embeddings, and a few steps refine it.

Serving a request is a pass of the Influence Encoder (`models.recommender.influence`) over the request's pairs, and
brief fine-tuning on the retained graph. Pre-training (`pretraining`) happens once for a model and serves many requests.
Paper: "Pre-training for Recommendation Unlearning" (SIGIR 2025), arXiv 2505.22649.

`objective="validation"` (the default) aims at what retraining would give: forgotten pairs come to the margins of
calibration pairs that are like them, two-sided, and every other score stays (`editing`); it stops when forgotten pairs
beat as many negatives as never-seen ones do. `objective="paper"` keeps the published loss: the model's own loss on what
remains, w_u times the mean of -log sigmoid(-score) of forgotten pairs (which pushes them to minus infinity), w_a times
the squared change of the scores in a batch, and w_c times a contrast of two views of the graph with edges dropped. It
runs its steps, and moves all embeddings. With `encoder="none"` the same loss is descended from no proposal at all.

Deviations from the paper, in both: an empty request moves nobody (the encoder says how); users and items of whom
nothing is left lose their rows (`removal`), as dropping their edges alone leaks; -log sigmoid is a softplus, which does
not overflow. With `"validation"` the fine-tuning moves the embeddings of the request's users and items alone, and a
proposal that would lose more than no change at all is not taken.

Guarantee: empirical. Limits: needs calibration pairs that look like the forgotten ones, and an encoder of this model
unless `encoder="none"`. The encoder that stays beside the new version was pre-trained before the request.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from models.contracts import ForgetSet, Progress
from models.recommender.data import RecommenderData
from models.recommender.influence import InfluenceEncoder, Request
from models.recommender.interaction_graph import InteractionGraph
from models.recommender.neural import NeuralRecommender, objective
from models.recommender.objectives import at_most, info_nce
from models.recommender.training import Factors, learnable
from unlearning.catalog.recommender_networks import UnlearnRecConfig
from unlearning.errors import MethodError, MethodUnsuitableError
from unlearning.methods.recommender.editing import Editing, Step, pair_drift
from unlearning.methods.recommender.removal import Removal, as_method_errors

_FEW = 32
"""Forgotten pairs below which their mean rank is too coarse to stop by."""
_SETTLED = 0.05
"""Share of the squared excess that there was, below which a loss of few pairs is not worth another step."""
_CONTRASTED = 1024
"""Users, and items, of a batch that the published loss contrasts, at most: the cost is its square."""
_DIVERGED = "the embeddings left the numbers; choose a smaller learning rate"


def run(
    model: NeuralRecommender,
    data: RecommenderData,
    forget: ForgetSet,
    config: UnlearnRecConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NeuralRecommender:
    """Let the encoder propose, then fine-tune.

    Raises:
        MethodError: An interaction is not in the data, or the embeddings left the numbers.
        MethodUnsuitableError: Nothing remains, there is no encoder, or no calibration pairs look like the forgotten.
    """
    removal = Removal.of(model, data, forget)
    if not removal.learned:
        return model
    if config.encoder == "stored" and model.influence is None:
        raise MethodUnsuitableError(
            "No Influence Encoder was pre-trained for this model; pre-train one, or set encoder to none."
        )
    if not removal.forgotten.shape[1]:  # nobody who stays had a part in what is forgotten
        return removal.model
    with as_method_errors():
        if config.objective == "paper":
            return _as_published(removal, config, generator, progress)
        return _towards_never_seen(removal, config, generator, progress)


def _towards_never_seen(
    removal: Removal, config: UnlearnRecConfig, generator: torch.Generator, progress: Progress
) -> NeuralRecommender:
    """Let the encoder propose, then descend, until forgotten pairs beat as many negatives as never-seen ones."""
    editing = Editing(removal, config.drift_weight, config.retained_weight, generator)
    encoder = removal.model.influence if config.encoder == "stored" else None
    moved = proposed(encoder, editing, removal.model.config.recipe.width)
    moved = descended(editing, moved, config, Watch(editing, config, progress))
    return removal.model.with_factors(changed(removal.model.factors, editing.request, *moved))


class Watch:
    """Tells when forgotten pairs beat as many negatives as never-seen ones do, from either side.

    The mean rank of few pairs is coarse, and may never come near; it is enough then that hardly any excess is left.

    Attributes:
        done: Whether it is enough, or as many steps were taken as are allowed.
    """

    def __init__(self, editing: Editing, config: UnlearnRecConfig, progress: Progress) -> None:
        """Aim at the never-seen pairs' share."""
        self._share, self._config, self._progress = editing.share, config, progress
        self._settled = (
            _SETTLED * float(editing.excess.square().mean()) if len(editing.excess) < _FEW else 0.0
        )
        self._steps = 0
        self._above: bool | None = None
        self.done = False

    def see(self, step: Step) -> None:
        """Take note of where a change has come to, and report it."""
        if not step.loss.isfinite():
            raise ValueError(_DIVERGED)
        self._steps += 1
        distance = step.share - self._share
        crossed = self._above is not None and self._above != (distance > 0)
        of = self._config.steps
        near = abs(distance) <= self._config.tolerance or step.loss.item() <= self._settled
        self.done = crossed or near or self._steps >= of
        self._above = distance > 0
        figures = {
            "loss": step.loss.item(),
            "forgotten above negatives": step.share,
            "never seen above negatives": self._share,
        }
        self._progress("refining", of if self.done else self._steps, of, figures)


@torch.no_grad()
def proposed(encoder: InfluenceEncoder | None, editing: Editing, width: int) -> tuple[Tensor, Tensor]:
    """Return where the descent starts: what the encoder proposes, or no change where that loses less."""
    request = editing.request
    nothing = torch.zeros(len(request.users), width), torch.zeros(len(request.items), width)
    if encoder is None:
        return nothing
    proposal = encoder.changes(request, *editing.before, editing.excess)
    # Without any change nothing drifts, so that the excess is all there is to lose.
    return proposal if editing.step(*proposal).loss < editing.excess.square().mean() else nothing


def descended(
    editing: Editing, moved: tuple[Tensor, Tensor], config: UnlearnRecConfig, watch: Watch
) -> tuple[Tensor, Tensor]:
    """Descend the loss of changes of the request's users and items, from those given."""
    users, items = (tensor.clone().requires_grad_() for tensor in moved)
    optimizer = torch.optim.Adam([users, items], lr=config.rate, fused=True)
    while True:
        step = editing.step(users, items)
        watch.see(step)
        if watch.done:
            return users.detach(), items.detach()
        optimizer.zero_grad()
        step.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def changed(factors: Factors, request: Request, users: Tensor, items: Tensor) -> Factors:
    """Add changes of a request's users and items, (a, d) and (b, d), to initial embeddings; gradients flow."""
    return Factors(
        factors.users.index_add(0, request.users, users), factors.items.index_add(0, request.items, items)
    )


def _as_published(
    removal: Removal, config: UnlearnRecConfig, generator: torch.Generator, progress: Progress
) -> NeuralRecommender:
    """Descend the published loss for a number of steps, over all embeddings and the encoder's MLP."""
    model, request = removal.model, Request.of(removal.forgotten)
    published = PublishedLoss(removal, config, generator)
    users, items = (tensor.clone().requires_grad_() for tensor in (model.user_factors, model.item_factors))
    parameters = [users, items]
    encoder = None if config.encoder == "none" else model.influence
    if encoder is not None:
        weights = encoder.first.clone().requires_grad_(), encoder.second.clone().requires_grad_()
        encoder = replace(encoder, first=weights[0], second=weights[1])
        parameters += weights
    optimizer = torch.optim.Adam(parameters, lr=config.rate, fused=True)

    def current() -> Factors:
        if encoder is None:
            return Factors(users, items)
        return changed(Factors(users, items), request, *encoder.changes(request, *published.before))

    for number in range(1, config.steps + 1):
        loss, figures = published.step(current(), generator)
        if not loss.isfinite():
            raise ValueError(_DIVERGED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress("refining", number, config.steps, figures)
    with torch.no_grad():
        return model.with_factors(current())


class PublishedLoss:
    """The paper's objective on a retained graph.

    Attributes:
        before: Final embeddings of the original on the retained graph, to which scores are aligned.
    """

    def __init__(self, removal: Removal, config: UnlearnRecConfig, generator: torch.Generator) -> None:
        """Prepare the retained graph and two views of it."""
        self._config, self._graph, self._pairs = config, removal.graph, removal.forgotten
        self._recipe = removal.model.config.recipe
        self._objective = objective(self._recipe, removal.graph)
        with torch.no_grad():
            self.before = self._objective.embed(removal.model.user_factors, removal.model.item_factors)
        self._views = [objective(self._recipe, dropped(removal.graph, generator)) for _ in range(2)]
        self._learnable = learnable(removal.graph)
        if not len(self._learnable):
            raise MethodError("It is not possible: every user who stays has taken everything.")

    def step(self, factors: Factors, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch drawn anew, and its parts."""
        drawn = torch.randint(len(self._learnable), (self._recipe.batch_size,), generator=generator)
        edges = self._learnable[drawn]
        batch = self._graph.user_index[edges], self._graph.item_index[edges]
        base = self._objective.loss(factors.users, factors.items, batch, generator)
        final = self._objective.embed(factors.users, factors.items)
        forgetting = published_forget_loss((final[0][self._pairs[0]] * final[1][self._pairs[1]]).sum(dim=1))
        alignment = pair_drift(self.before, final, batch)
        contrast = self._contrast(factors, batch, generator)
        config = self._config
        loss = (
            base
            + config.forget_weight * forgetting
            + config.alignment_weight * alignment
            + config.contrast_weight * contrast
        )
        return loss, {"retained loss": base.item(), "forget loss": forgetting.item()}

    def _contrast(self, factors: Factors, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        one, two = (view.embed(factors.users, factors.items) for view in self._views)
        named = [at_most(torch.unique(side), _CONTRASTED, generator) for side in batch]
        return torch.stack(
            [
                info_nce(first[rows], second[rows], 0.2)
                for first, second, rows in zip(one, two, named, strict=True)
            ]
        ).sum()


def published_forget_loss(scores: Tensor) -> Tensor:
    """Return the mean of -log sigmoid(-s) over forgotten pairs' scores s, shape (n,): least at minus infinity.

    >>> round(published_forget_loss(torch.tensor([0.0])).item(), 6)
    0.693147
    >>> published_forget_loss(torch.tensor([1e4])).item()  # where log(sigmoid(-s)) overflows
    10000.0
    """
    return functional.softplus(scores).mean()


def dropped(graph: InteractionGraph, generator: torch.Generator, share: float = 0.1) -> InteractionGraph:
    """Return the graph without a random share of its edges."""
    kept = torch.rand(len(graph), generator=generator) >= share
    return InteractionGraph(graph.users, graph.items, graph.user_index[kept], graph.item_index[kept])
