"""How near does each method bring a trained recommender to a retrained one, and how much sooner?

On Last.fm and MovieLens small (Gowalla too where `--path` names its adjacency lines), for LightGCN and SimGCL, three
kinds of forget set: a random 1 % and 5 % of the training interactions, and everything of 1 % of the users. Rows:

    untouched          the original, propagated over all its interactions
    drop_edges         the original, propagated over what remains; nobody's row or name is dropped
    finetune           `finetune` for as many epochs as fit into the time that `unlearnrec` took
    unlearnrec         with its encoder, aiming at never-seen pairs
    no_encoder         `unlearnrec` without its encoder: the same loss from no proposal
    published          `unlearnrec` with the published objective and an encoder pre-trained by it
    retrain            retrained from another seed than the reference, for the first draw: what chance leaves

Figures are means over the draws. `recall_gap_percent` and `ndcg_gap_percent` are relative to the retrained reference,
at K = 20 on the audit half, which no method sees, with training items masked; `masked_recall_gap_percent` also masks the
forgotten ones. `forget_auc` is the chance that a forgotten pair's item beats one that its user has never taken, ties by
half: ½ where the model does not know the user. `forget_auc_gap` is its distance to the reference's. `speedup` is
against retraining up to its best validation epoch; `pretrain_seconds` stand beside it, and `amortised` are speed-ups
with them shared by 1, 10 and 100 requests.

    python -m benchmarks.recommender_unlearning [--json] [--quick] [--data lastfm] [--model lightgcn] [--draws 3]
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import environment, print_table
from benchmarks.recommender_data import FILES, load_interactions
from models.contracts import ForgetSet
from models.recommender import neural
from models.recommender.data import RecommenderData
from models.recommender.interaction_graph import among, pair_matrix
from models.recommender.neural import NeuralRecommender
from models.recommender.ranking import ranking_quality
from tests.reference.blocks import block_interactions
from unlearning.catalog import get_method
from unlearning.catalog.recommender_networks import PretrainConfig
from unlearning.methods.recommender.pretraining import pretrain

MODELS = ("lightgcn", "simgcl")
TARGETS = ("interactions 1 %", "interactions 5 %", "users 1 %")
REQUESTS = (1, 10, 100)
FIRST_DRAW = 100
"""Seed of the first forget set: steps and weights were chosen on the draws 0 and 1."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    draws: int
    user_draws: int
    recipe: Mapping[str, Any]
    pretraining_steps: int


FULL = Sizes(draws=3, user_draws=5, recipe={}, pretraining_steps=500)
QUICK = Sizes(
    draws=1,
    user_draws=1,
    recipe={"width": 16, "epochs": 20, "evaluate_every": 5, "learning_rate": 0.05, "batch_size": 512},
    pretraining_steps=6,
)


@dataclass(frozen=True)
class Task:
    """One forget set, and the reference that was retrained without it."""

    data: RecommenderData
    forget: ForgetSet
    reference: NeuralRecommender
    retrain_seconds: float

    @property
    def remaining(self) -> RecommenderData:
        """What is left."""
        return self.data.without(self.forget.record_ids)


class Clock:
    """A progress that remembers when each step came."""

    def __init__(self) -> None:
        """Start."""
        self._started = time.perf_counter()
        self.seconds: list[float] = []

    def __call__(
        self,
        stage: str,  # noqa: ARG002 - part of every progress
        step: int,  # noqa: ARG002
        of: int,  # noqa: ARG002
        figures: Mapping[str, float] | None = None,  # noqa: ARG002
        /,
    ) -> None:
        """Note the time."""
        self.seconds.append(time.perf_counter() - self._started)


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


def forget_set(data: RecommenderData, target: str, seed: int) -> ForgetSet:
    """Draw what shall be forgotten: training interactions, or everything of some users."""
    kind, share, _ = target.split()
    generator = torch.Generator().manual_seed(seed)
    if kind == "users":
        chosen = torch.randperm(len(data.users), generator=generator)
        mask = torch.isin(data.user_index, chosen[: max(1, int(float(share) / 100 * len(data.users)))])
        return ForgetSet(tuple(sorted(data.select(mask).ids)))
    known = data.training()
    count = max(1, int(float(share) / 100 * len(known)))
    mask = torch.zeros(len(known), dtype=torch.bool)
    mask[torch.randperm(len(known), generator=generator)[:count]] = True
    return ForgetSet(tuple(sorted(known.select(mask).ids)))


def retrained(
    original: NeuralRecommender, visible: RecommenderData, seed: int
) -> tuple[NeuralRecommender, float]:
    """Retrain; return the model and the seconds up to its best epoch."""
    clock = Clock()
    model = neural.retrain(original, visible, seed=seed, progress=clock)
    return model, clock.seconds[model.config.best_epoch - 1]


def quality(model: NeuralRecommender, over: RecommenderData, task: Task) -> dict[str, float]:
    """Measure one model, propagated over the training interactions of `over`."""
    remaining = task.remaining
    wanted = pair_matrix(remaining.audit(), model.users, model.items)
    retained = pair_matrix(remaining.training(), model.users, model.items)
    everything = pair_matrix(task.data.training(), model.users, model.items)

    def score(rows: torch.Tensor) -> torch.Tensor:
        return model.scores(rows, over)

    ranked = ranking_quality(score, retained, wanted)
    return {
        "recall": ranked.recall,
        "ndcg": ranked.ndcg,
        "masked_recall": ranking_quality(score, everything, wanted).recall,
        "forget_auc": forget_auc(model, over, task),
    }


def forget_auc(model: NeuralRecommender, over: RecommenderData, task: Task) -> float:
    """Return the mean chance that a forgotten training pair's item beats one that its user has never taken."""
    gone = task.data.only(task.forget.record_ids).training()
    users, items = (
        among(gone.users, model.users)[gone.user_index],
        among(gone.items, model.items)[gone.item_index],
    )
    known = (users >= 0) & (items >= 0)
    strangers = int((~known).sum())
    users, items = users[known], items[known]
    taken = pair_matrix(task.data, model.users, model.items)
    won = 0.0
    for rows, places in zip(torch.split(users, 512), torch.split(items, 512), strict=True):
        scores = model.scores(rows, over)
        never = torch.from_numpy(taken[rows.numpy()].toarray() == 0)
        own = scores.gather(1, places[:, None])
        beats = (own > scores).double() + (own == scores).double() / 2
        won += float(((beats * never).sum(dim=1) / never.sum(dim=1).clamp(min=1)).sum())
    return (won + strangers / 2) / (len(users) + strangers)


def run(method: str, parameters: dict[str, Any], model: NeuralRecommender, task: Task) -> tuple[Any, float]:
    """Run one method on fresh data of its own; return its model and its seconds."""
    spec = get_method("recommender", method)
    visible = task.data.for_methods()
    hidden = set(visible.missing(task.forget.record_ids))
    forget = ForgetSet(tuple(name for name in task.forget.record_ids if name not in hidden))
    visible = task.data.for_methods()  # anew: what the look at it above has cached is not given away
    started = time.perf_counter()
    result = spec.load()(
        model,
        visible,
        forget,
        spec.configure(parameters),
        generator=torch.Generator().manual_seed(0),
        progress=silent,
    )
    return result, time.perf_counter() - started


def measure_task(
    models: Mapping[str, NeuralRecommender], task: Task, *, again: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run every method once, and retrain `again` from another seed; yield each row's name and figures."""
    original, remaining = models["unlearnrec"], task.remaining
    yield "untouched", quality(original, task.data, task) | {"serve_seconds": 0.0}
    yield "drop_edges", quality(original, remaining, task) | {"serve_seconds": 0.0}
    rows: tuple[tuple[str, dict[str, Any], NeuralRecommender], ...] = (
        ("unlearnrec", {}, models["unlearnrec"]),
        ("no_encoder", {"encoder": "none"}, models["unlearnrec"]),
        ("published", {"objective": "paper"}, models["published"]),
    )
    budget = 0.0
    for name, parameters, model in rows:
        result, seconds = run("unlearnrec", parameters, model, task)
        budget = seconds if name == "unlearnrec" else budget
        yield name, quality(result, remaining, task) | {"serve_seconds": seconds}
    epoch_seconds = run("finetune", {"calibration": "paper", "epochs": 1}, original, task)[1]
    epochs = max(1, round(budget / epoch_seconds))
    tuned, seconds = run("finetune", {"calibration": "paper", "epochs": epochs}, original, task)
    yield "finetune", quality(tuned, remaining, task) | {"serve_seconds": seconds}
    if again:
        other, seconds = retrained(original, remaining.for_methods(), seed=3000)
        yield "retrain", quality(other, remaining, task) | {"serve_seconds": seconds}


def measure_model(
    name: str, data: RecommenderData, architecture: str, sizes: Sizes
) -> Iterator[dict[str, Any]]:
    """Train and pre-train once, then measure every kind of forget set; yield rows."""
    visible = data.for_methods()
    original = neural.train(visible, {"architecture": architecture, **sizes.recipe}, seed=1, progress=silent)
    models, pretrain_seconds = {}, {}
    for row, objective in (("unlearnrec", "validation"), ("published", "paper")):
        started = time.perf_counter()
        config = PretrainConfig.model_validate({"objective": objective, "steps": sizes.pretraining_steps})
        generator = torch.Generator().manual_seed(7)
        models[row] = pretrain(original, visible, config, generator=generator, progress=silent)
        pretrain_seconds[row] = time.perf_counter() - started
    for target in TARGETS:
        collected: dict[str, list[dict[str, Any]]] = {}
        for draw in range(sizes.user_draws if target.startswith("users") else sizes.draws):
            forget = forget_set(data, target, FIRST_DRAW + draw)
            reference, seconds = retrained(
                original, data.without(forget.record_ids).for_methods(), seed=2000 + draw
            )
            task = Task(data, forget, reference, seconds)
            anchor = quality(reference, task.remaining, task)
            for row, figures in measure_task(models, task, again=draw == 0):
                collected.setdefault(row, []).append(against(figures, anchor, seconds))
        for row, each in collected.items():
            yield {
                "data": name,
                "model": architecture,
                "target": target,
                "method": row,
                "draws": len(each),
                **average(each),
                **amortised(average(each), pretrain_seconds.get(row)),
            }


def against(
    figures: Mapping[str, float], anchor: Mapping[str, float], retrain_seconds: float
) -> dict[str, Any]:
    """Compare one model's figures with the retrained reference's.

    >>> zeros = {"masked_recall": 0.25, "ndcg": 0.2, "forget_auc": 0.75}
    >>> row = against({"recall": 0.18, "serve_seconds": 2.0, **zeros}, {"recall": 0.2, **zeros}, 10.0)
    >>> round(row["recall_gap_percent"], 6), row["speedup"], row["forget_auc_gap"]
    (-10.0, 5.0, 0.0)
    """

    def gap(key: str) -> float:
        return 100 * (figures[key] - anchor[key]) / anchor[key] if anchor[key] else 0.0

    seconds = figures["serve_seconds"]
    return {
        **figures,
        "recall_gap_percent": gap("recall"),
        "ndcg_gap_percent": gap("ndcg"),
        "masked_recall_gap_percent": gap("masked_recall"),
        "forget_auc_gap": figures["forget_auc"] - anchor["forget_auc"],
        "retrain_seconds": retrain_seconds,
        "speedup": retrain_seconds / seconds if seconds else None,
    }


def average(each: list[dict[str, Any]]) -> dict[str, Any]:
    """Average one row over the draws; what no draw has is None.

    >>> average([{"speedup": 1.0, "none": None}, {"speedup": 3.0, "none": None}])
    {'speedup': 2.0, 'none': None}
    """
    return {
        key: None if each[0][key] is None else statistics.fmean(figures[key] for figures in each)
        for key in each[0]
    }


def amortised(row: Mapping[str, Any], pretrain_seconds: float | None) -> dict[str, Any]:
    """Share the pre-training among requests.

    >>> amortised({"retrain_seconds": 60.0, "serve_seconds": 1.0}, 20.0)["amortised"]["10"]
    20.0
    """
    if pretrain_seconds is None:
        return {"pretrain_seconds": None, "amortised": None}
    shared = {
        str(requests): row["retrain_seconds"] / (row["serve_seconds"] + pretrain_seconds / requests)
        for requests in REQUESTS
    }
    return {"pretrain_seconds": pretrain_seconds, "amortised": shared}


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table for each data set, model and kind of forget set."""
    for key in dict.fromkeys((row["data"], row["model"], row["target"]) for row in rows):
        table = Table(
            *(
                "method",
                "recall",
                "gap %",
                "NDCG gap %",
                "forget AUC",
                "gap",
                "seconds",
                "speed-up",
                "pre-training",
            ),
            title=", ".join(key),
        )
        for row in rows:
            if (row["data"], row["model"], row["target"]) != key:
                continue
            cells = [
                row[name]
                for name in (
                    "recall",
                    "recall_gap_percent",
                    "ndcg_gap_percent",
                    "forget_auc",
                    "forget_auc_gap",
                    "serve_seconds",
                    "speedup",
                    "pretrain_seconds",
                )
            ]
            table.add_row(row["method"], *("" if cell is None else f"{cell:.3g}" for cell in cells))
        Console(width=120).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="made-up interactions: a smoke test")
    parser.add_argument("--data", choices=sorted(FILES), action="append", help="these data sets alone")
    parser.add_argument("--model", choices=MODELS, action="append", help="these models alone")
    parser.add_argument("--draws", type=int, default=FULL.draws, help="forget sets of each kind")
    parser.add_argument("--path", type=Path, help="adjacency lines of one more data set")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the methods compute: all are then timed alike
    if options.quick:
        sizes, loaded, models = QUICK, {"made up": block_interactions(120, 60, per_user=16)}, ["lightgcn"]
    else:
        sizes = Sizes(options.draws, max(FULL.user_draws, options.draws), {}, FULL.pretraining_steps)
        loaded = {name: load_interactions(name, seed=0) for name in options.data or FILES}
        if options.path is not None:
            loaded[options.path.stem] = load_interactions(options.path.stem, seed=0, path=options.path)
        models = options.model or list(MODELS)
    rows = [
        row
        for name, data in loaded.items()
        for architecture in models
        for row in measure_model(name, data, architecture, sizes)
    ]
    figures: dict[str, Any] = {"rows": rows, "environment": environment()}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print_rows(rows)
    print_table(figures["environment"])


if __name__ == "__main__":
    main()
