"""What a forgetting takes out of a trained recommender, as every method that moves embeddings sees it.

Three things go at once, without any training: the forgotten edges from the graph that is propagated, the embeddings
of users and items of whom no training interaction is left, and their names. A user who is forgotten whole is then as
unknown as one who never was; to go on from their old embedding would leak it (methods.md measured an area of .48 too
much where only the edges are dropped). What is left to do are the traces in the embeddings of users and items who
stay: those of the forgotten pairs both of whose ends stay.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from models.contracts import ForgetSet
from models.recommender.data import RecommenderData
from models.recommender.interaction_graph import InteractionGraph, among
from models.recommender.neural import NeuralRecommender
from models.recommender.pairs import parse_interaction_id
from models.threads import one_thread
from unlearning.errors import MethodError, MethodUnsuitableError


@dataclass(frozen=True)
class Removal:
    """A recommender between what it has learned and what it shall forget.

    Positions are those of `model`, which knows only who stays.

    Attributes:
        model: The original embeddings of users and items who keep a training interaction.
        data: What remains, held-out interactions included.
        graph: The training interactions that remain.
        forgotten: Shape (2, f), users and items of forgotten training interactions both of whose ends stay.
        never_seen: Shape (2, v), users and items of calibration interactions both of whose ends stay.
        learned: Whether any training interaction is forgotten at all.
    """

    model: NeuralRecommender
    data: RecommenderData
    graph: InteractionGraph
    forgotten: Tensor
    never_seen: Tensor
    learned: bool

    @classmethod
    def of(cls, model: NeuralRecommender, data: RecommenderData, forget: ForgetSet) -> "Removal":
        """Take the forget set out, whatever its order.

        Raises:
            MethodError: An interaction to forget is not in the data, or the data do not fit the model.
            MethodUnsuitableError: No training interaction is left.
        """
        asked = forgotten_rows(data, forget)
        remaining = data.select(~asked)
        if bool(remaining.held_out.all()):
            raise MethodUnsuitableError(
                "Every training interaction is to be forgotten, so nothing is left to keep."
            )
        with as_method_errors():
            narrowed = model.narrowed(remaining)
            graph = narrowed.graph(remaining)
        return cls(
            narrowed,
            remaining,
            graph,
            _pairs(data.select(asked & ~data.held_out), narrowed),
            # The halves are told apart by a hash, which `data` may know already.
            _pairs(
                data.calibration().select(~forgotten_rows(data.calibration(), forget, strict=False)), narrowed
            ),
            bool((asked & ~data.held_out).any()),
        )


def forgotten_rows(data: RecommenderData, forget: ForgetSet, *, strict: bool = True) -> Tensor:
    """Return where the forgotten interactions stand in the data, shape (n,), bool.

    The pairs are looked up by number: to write down the ids of all interactions would take longer than some methods.

    Args:
        data: Any selection.
        forget: Whose records are looked up.
        strict: Whether all of them must be here.

    Raises:
        MethodError: One is not here.
    """
    keys = data.user_index * len(data.items) + data.item_index
    wanted = []
    for record_id in forget.record_ids:
        try:
            user, item = parse_interaction_id(record_id)
        except ValueError:
            continue
        place, column = data.user_positions.get(user), data.item_positions.get(item)
        if place is not None and column is not None:
            wanted.append(place * len(data.items) + column)
    mask = torch.isin(keys, torch.tensor(wanted, dtype=torch.int64))
    missing = len(forget.record_ids) - int(mask.sum())
    if strict and missing:
        raise MethodError(f"{missing} of the interactions to forget are not in the data.")
    return mask


@contextmanager
def as_method_errors() -> Iterator[None]:
    """Compute on one thread, so that the seed decides alone, and turn what training raises into method errors.

    Raises:
        MethodError: The data do not fit the model, or the embeddings left the numbers.
    """
    try:
        with one_thread():
            yield
    except ValueError as error:
        raise MethodError(f"It is not possible: {error}.") from error


def _pairs(data: RecommenderData, model: NeuralRecommender) -> Tensor:
    """Return the interactions of known users and items, shape (2, n), positions in the model's tables."""
    users, items = (
        among(data.users, model.users)[data.user_index],
        among(data.items, model.items)[data.item_index],
    )
    known = (users >= 0) & (items >= 0)
    return torch.stack([users[known], items[known]])
