"""Real interactions for the recommenders' benchmarks, read from the shared data folder, split at random by a seed."""

from pathlib import Path

import torch

from models.recommender.data import RecommenderData

DATA = Path(__file__).parents[2] / "shared" / "data" / "recommender"
FILES = {
    "lastfm": (DATA / "lastfm" / "data1.txt", DATA / "lastfm" / "test1.txt"),
    "movielens": (DATA / "ml-latest-small" / "ratings.csv",),
}
HELD_OUT = 0.2
"""Share of held-out interactions; a hash of the id halves them into calibration and audit."""


def load_interactions(name: str, *, seed: int, path: Path | None = None) -> RecommenderData:
    """Return a data set's interactions, a fifth of them held out at random.

    Args:
        name: `lastfm`, `movielens` or, with a path, any other.
        seed: Of the split.
        path: LightGCN's adjacency lines (Gowalla, say): a user and then all items of that user.

    Raises:
        FileNotFoundError: The data are not there.
    """
    pairs = sorted(set(_adjacency(path) if path is not None else _named(name)))
    users, items = (tuple(sorted(set(names))) for names in zip(*pairs, strict=True))
    user_places = {user: place for place, user in enumerate(users)}
    item_places = {item: place for place, item in enumerate(items)}
    chance = torch.rand(len(pairs), generator=torch.Generator().manual_seed(seed))
    return RecommenderData(
        users=users,
        items=items,
        user_index=torch.tensor([user_places[user] for user, _ in pairs]),
        item_index=torch.tensor([item_places[item] for _, item in pairs]),
        timestamps=None,
        held_out=chance < HELD_OUT,
    )


def _named(name: str) -> list[tuple[str, str]]:
    pairs = []
    for file in FILES[name]:
        lines = file.read_text(encoding="utf-8").splitlines()
        if file.suffix == ".csv":
            rows = [line.split(",") for line in lines[1:]]
        else:
            rows = [line.split("\t") for line in lines]
        pairs += [(row[0], row[1]) for row in rows]
    return pairs


def _adjacency(path: Path) -> list[tuple[str, str]]:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row[0], item) for row in rows if row for item in row[1:]]
