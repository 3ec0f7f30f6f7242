"""Do EASE and GF-CF forget exactly however often they are asked, and how much faster is it than fitting anew?

On Last.fm (in its published split) and MovieLens small (ratings of 4 and more, a fifth held out), from ../shared/data:

- *Exactness*: 1,000 requests one after the other, every fifth for all of a user's interactions, the others for one
  interaction. EASE answers every one by an update, never by inverting anew; at the end, all its weights B are compared with
  those of a model fitted on what remains. Beside it stands the bound that the method itself reports. GF-CF's linear
  filter takes the same requests in place, and is compared with one summed afresh.
- *Speed*: one user's deletion against fitting anew on what remains, both by what the service calls (`ease.run`, its bound
  on the error included, against the runtime's `retrain`), timed in turn. And GF-CF's linear part: milliseconds a user.

    python -m benchmarks.ease [--json] [--quick] [--data lastfm|movielens]
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import environment, interleaved_medians, peak_memory_mb, print_table
from benchmarks.recommender_data import FILES
from models.contracts import ForgetSet
from models.recommender import runtime, snapshots
from models.recommender.closed_form import degrees
from models.recommender.configuration import weight_bits
from models.recommender.data import RecommenderData, load_data
from models.recommender.ease import EaseRecommender, InverseError
from models.recommender.gfcf import scaled_filter, user_weights, weights_of
from models.recommender.options import OPTIONS_NAME
from models.recommender.pair_sums import PairSums
from unlearning.catalog.recommender import EaseConfig
from unlearning.methods.recommender import ease

SEED = 0
BITS = weight_bits(1 << 20)
REGULARISATION = 250.0
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "lastfm": {"held_out": {"rule": "files", "files": ["test1.txt"]}},
    "movielens": {"least_rating": 4.0, "held_out": {"rule": "per_user", "share": 0.2}},
}
"""How the files are read: Last.fm in its published split, of MovieLens the ratings of 4 and more."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    data: tuple[str, ...]
    users: int | None
    """Only so many users; all, if None."""
    requests: int
    repeats: int


FULL = Sizes(("lastfm", "movielens"), None, 1000, 3)
QUICK = Sizes(("lastfm",), 60, 20, 3)


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


def load(name: str, users: int | None) -> RecommenderData:
    """Read one data set's files as the service does; or only its first users.

    Raises:
        FileNotFoundError: The data are not there.
    """
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        (work / OPTIONS_NAME).write_text(json.dumps(OPTIONS[name]))
        (work / "snapshot").mkdir()
        snapshots.ingest([*FILES[name], work / OPTIONS_NAME], work / "snapshot", data_schema=None)
        data = load_data(work / "snapshot")
    return data if users is None else data.select(data.user_index < users)


def requests(data: RecommenderData, count: int) -> Iterator[list[str]]:
    """Yield record ids to forget: every fifth time all of one user's, else one interaction; none twice."""
    known = data.learned()
    generator = torch.Generator().manual_seed(SEED)
    users = torch.randperm(len(known.users), generator=generator)
    # Whoever is to go whole is left alone by the single requests, so that there is something left of them.
    whole = users[: -(-count // 5)]
    others = (~torch.isin(known.user_index, whole)).nonzero().flatten()
    single = iter(others[torch.randperm(len(others), generator=generator)].tolist())
    for number in range(count):
        if number % 5 == 0:
            yield list(known.select(known.user_index == whole[number // 5]).ids)
        else:
            yield [known.ids[next(single)]]


def forget(model: EaseRecommender, data: RecommenderData, record_ids: list[str]) -> EaseRecommender:
    """Answer one request by an update alone; one that would have been replaced by an inversion stops the benchmark."""
    config = EaseConfig(solve="update", tolerance=1e-10)
    inverted: list[str] = []

    def watch(stage: str, *_: object) -> None:
        if stage == "inverting anew":
            inverted.append(stage)

    generator = torch.Generator().manual_seed(SEED)
    changed = ease.run(
        model, data, ForgetSet(tuple(sorted(record_ids))), config, generator=generator, progress=watch
    )
    if inverted:
        raise RuntimeError("an update could not show its bound, so what follows would not be about updates")
    return changed


def measure_ease(data: RecommenderData, sizes: Sizes) -> dict[str, Any]:
    """Follow the requests, then compare with a fit on what remains; time one user's deletion against that."""
    model: EaseRecommender = runtime.train(
        data, {"regularisation": REGULARISATION}, seed=SEED, progress=silent
    )
    items = len(model.items)
    figures: dict[str, Any] = {"users": len(model.users), "items": items} | _speed(model, data, sizes)
    seconds = []
    for number, record_ids in enumerate(requests(data, sizes.requests)):
        started = time.perf_counter()
        model = forget(model, data, record_ids)
        seconds.append(time.perf_counter() - started)
        data = data.without(record_ids)
        if (number + 1) % 100 == 0:
            print(f"{number + 1} of {sizes.requests} requests", file=sys.stderr, flush=True)
    refit: EaseRecommender = runtime.retrain(model, data, seed=SEED, progress=silent)
    bound = InverseError.of(data.learned().matrix(), REGULARISATION, model.inverse).weights
    return figures | {
        "requests": sizes.requests,
        "request_median_s": statistics.median(seconds),
        "tables_and_counts_identical": (model.users, model.items) == (refit.users, refit.items)
        and model.counts.equal(refit.counts),
        "max_difference": float((model.weights() - refit.weights()).abs().max()),
        "reported_bound": bound,
    }


def _speed(model: EaseRecommender, data: RecommenderData, sizes: Sizes) -> dict[str, float]:
    """Time the deletion of the user whose history is the median one."""
    known = data.learned()
    user = degrees(known.matrix()).argsort(kind="stable")[len(known.users) // 2]
    chosen = list(known.select(known.user_index == int(user)).ids)
    remaining = data.without(chosen)
    medians = interleaved_medians(
        {
            "update": lambda: forget(model, data, chosen),
            "refit": lambda: runtime.retrain(model, remaining, seed=SEED, progress=silent),
        },
        sizes.repeats,
    )
    return {
        "update_user_s": medians["update"],
        "refit_s": medians["refit"],
        "speedup_user": medians["refit"] / medians["update"],
    }


def measure_gfcf(data: RecommenderData, sizes: Sizes) -> dict[str, Any]:
    """Take the same requests out of the linear filter in place; then compare with one summed afresh."""
    known = data.learned()
    histories = known.matrix()
    sums = PairSums.of(histories, weights_of(histories, BITS))
    users, rest = [], data
    for record_ids in requests(data, sizes.requests):
        chosen = known.only(record_ids)
        rest = rest.without(record_ids)
        users.append((int(chosen.user_index[0]), set(chosen.item_index.tolist())))
    seconds = []
    histories_left = {
        user: histories.indices[slice(*histories.indptr[[user, user + 1]])].astype(np.int64)
        for user, _ in users
    }
    for user, items in users:
        history = histories_left[user]
        kept = np.array([item for item in history.tolist() if item not in items], np.int64)
        started = time.perf_counter()
        _exchange(sums, history, kept)
        if not len(kept):
            seconds.append(time.perf_counter() - started)
        histories_left[user] = kept
    return {
        "gfcf_ms_per_user": 1e3 * statistics.fmean(seconds),
        "gfcf_ms_slowest_user": 1e3 * max(seconds),
        "gfcf_max_difference": _filter_difference(sums.without_zeros(), known, rest),
    }


def _exchange(sums: PairSums, history: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> None:
    """Replace a user's history by what is kept of it: taken out with its old weight, put back with its new one."""
    sums.subtract_(history, int(user_weights(np.array([len(history)]), BITS)[0]))
    if len(kept):
        sums.subtract_(kept, -int(user_weights(np.array([len(kept)]), BITS)[0]))


def _filter_difference(sums: PairSums, known: RecommenderData, rest: RecommenderData) -> float:
    """Return max |D_i^-½ M D_i^-½ - the same summed afresh|, over the items that are left."""
    left = rest.learned()
    histories = left.matrix()
    refit = PairSums.of(histories, weights_of(histories, BITS))
    places = {item: place for place, item in enumerate(left.items)}
    narrowed = sums.placed(np.array([places.get(item, -1) for item in known.items]), len(left.items))
    item_degrees = left.item_index.bincount(minlength=len(left.items)).numpy()
    both = [scaled_filter(one, item_degrees, BITS) for one in (narrowed, refit)]
    return float(abs(both[0] - both[1]).max())


def worst(values: list[float]) -> float:
    """Return the largest value; one that is not a number is worse than any other."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def measure(sizes: Sizes) -> dict[str, Any]:
    """Measure everything."""
    per_data = {}
    for name in sizes.data:
        data = load(name, sizes.users)
        # The linear filter first: after the requests, the memory is full of matrices.
        per_data[name] = measure_gfcf(data, sizes) | measure_ease(data, sizes)
    rows = list(per_data.values())
    return {
        "ease_max_difference": worst([row["max_difference"] for row in rows]),
        "ease_speedup_user": min(row["speedup_user"] for row in rows),
        "gfcf_max_difference": worst([row["gfcf_max_difference"] for row in rows]),
        "gfcf_ms_per_user": worst([row["gfcf_ms_per_user"] for row in rows]),
        "data": per_data,
        "seed": SEED,
        "regularisation": REGULARISATION,
        "threads": torch.get_num_threads(),
        "peak_memory_mb": peak_memory_mb(),
        "environment": environment(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--data", choices=FULL.data, help="only this data set")
    parser.add_argument("--quick", action="store_true", help="few users and requests, to see that it runs")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    figures = measure(replace(sizes, data=(arguments.data,)) if arguments.data else sizes)
    if arguments.json:
        print(json.dumps(figures))
        return
    per_data = figures.pop("data")
    print_table({name: value for name, value in figures.items() if name != "environment"})
    for name, row in per_data.items():
        print_table(row, title=name)


if __name__ == "__main__":
    main()
