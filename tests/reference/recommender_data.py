"""Small interaction data for tests."""

from collections.abc import Iterable

import torch

from models.recommender.data import RecommenderData

Pair = tuple[str, str]


def table(training: Iterable[Pair], held_out: Iterable[Pair] = ()) -> RecommenderData:
    """Return these interactions, training first."""
    training, held_out = list(training), list(held_out)
    pairs = training + held_out
    users, items = (tuple(sorted(set(names))) for names in zip(*pairs, strict=True))
    user_places, item_places = ({name: place for place, name in enumerate(names)} for names in (users, items))
    return RecommenderData(
        users=users,
        items=items,
        user_index=torch.tensor([user_places[user] for user, _ in pairs]),
        item_index=torch.tensor([item_places[item] for _, item in pairs]),
        timestamps=None,
        held_out=torch.arange(len(pairs)) >= len(training),
    )


def random_interactions(
    users: int = 20, items: int = 12, *, share: float = 0.3, held_out: float = 0.2, seed: int = 0
) -> RecommenderData:
    """Return about `share` of all pairs of users u0… and items i0…, of which about `held_out` are held out."""
    generator = torch.Generator().manual_seed(seed)
    taken = torch.rand(users, items, generator=generator) < share
    pairs = [(f"u{user}", f"i{item}") for user, item in taken.nonzero().tolist()]
    hidden = (torch.rand(len(pairs), generator=generator) < held_out).tolist()
    return table(
        [pair for pair, apart in zip(pairs, hidden, strict=True) if not apart],
        [pair for pair, apart in zip(pairs, hidden, strict=True) if apart],
    )
