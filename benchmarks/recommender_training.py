"""How much sooner does LightGCN's training come to the same recall than a straightforward implementation of it?

The straightforward one (`tests/reference/lightgcn.py`) samples triples in Python and propagates the graph for each
batch of 2,048, with the paper's learning rate of 1e-3, as the published code does. Expunge's draws negatives by
bisection, propagates by compressed rows, and takes larger batches with larger steps (the recipe's defaults). Both are
stopped by the calibration half's recall@20, looked at as often and with as much patience, and compared on the audit
half, which neither has seen. `epoch_speedup` is the ratio of the median seconds of an epoch, the two taking turns;
`training_speedup` that of the seconds up to the best epoch, looks at the calibration half left out of both.

    python -m benchmarks.recommender_training [--json] [--quick] [--data lastfm]
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import environment, interleaved_medians, print_table
from benchmarks.recommender_data import FILES, load_interactions
from models.recommender.data import RecommenderData
from models.recommender.interaction_graph import InteractionGraph, pair_matrix
from models.recommender.negatives import NegativeSampler
from models.recommender.neural import objective
from models.recommender.neural_configuration import LightGcnRecipe
from models.recommender.ranking import ranking_quality
from models.recommender.training import descend, draw_factors
from tests.reference.blocks import block_interactions
from tests.reference.lightgcn import StraightforwardLightGcn


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: tuple[int, ...]
    epochs: int
    patience: int
    repeats: int


FULL = Sizes(seeds=(0, 1), epochs=600, patience=30, repeats=5)
QUICK = Sizes(seeds=(0,), epochs=20, patience=10, repeats=1)
LOOK_EVERY = 5


@dataclass(frozen=True)
class Task:
    """Interactions as both implementations need them."""

    graph: InteractionGraph
    calibration: Any
    audit: Any

    @classmethod
    def of(cls, data: RecommenderData) -> "Task":
        """Prepare the graph and both held-out halves."""
        known = data.learned()
        return cls(
            InteractionGraph.of(known, known.users, known.items),
            pair_matrix(data.calibration(), known.users, known.items),
            pair_matrix(data.audit(), known.users, known.items),
        )

    def recall(self, final: tuple[Tensor, Tensor], wanted: Any) -> float:
        """Return recall@20 of final embeddings, each half's users by their own."""
        users, items = final
        return ranking_quality(lambda rows: users[rows] @ items.T, self.graph.matrix, wanted).recall

    def straightforward(self, seed: int) -> StraightforwardLightGcn:
        """Return the straightforward implementation, untrained."""
        pairs = list(zip(self.graph.user_index.tolist(), self.graph.item_index.tolist(), strict=True))
        return StraightforwardLightGcn(self.graph.users, self.graph.items, pairs, seed=seed)


@dataclass(frozen=True)
class Outcome:
    """Where one training came to."""

    best_epoch: int
    seconds: float
    recall: float


class Product:
    """Expunge's training, behind the same two functions as the straightforward one."""

    def __init__(self, task: Task, seed: int) -> None:
        """Draw first embeddings."""
        recipe = LightGcnRecipe()
        generator = torch.Generator().manual_seed(seed)
        graph = task.graph
        start = draw_factors(graph.users, graph.items, recipe.width, recipe.architecture, generator)
        self._objective = objective(recipe, graph)
        self._epochs = descend(self._objective, graph, start, recipe, generator=generator)
        self._factors = start

    def epoch(self) -> float:
        """Train for an epoch; return its loss."""
        epoch = next(self._epochs)
        self._factors = epoch.factors
        return epoch.loss

    def propagate(self) -> tuple[Tensor, Tensor]:
        """Return final embeddings."""
        return self._objective.embed(self._factors.users, self._factors.items)


def train(implementation: Product | StraightforwardLightGcn, task: Task, sizes: Sizes) -> Outcome:
    """Train until the calibration half is ranked no better; return the best epoch's figures."""
    best, best_recall, seconds = Outcome(0, 0.0, 0.0), -1.0, 0.0
    for epoch in range(1, sizes.epochs + 1):
        started = time.perf_counter()
        implementation.epoch()
        seconds += time.perf_counter() - started
        if epoch % LOOK_EVERY:
            continue
        with torch.no_grad():
            final = implementation.propagate()
        recall = task.recall(final, task.calibration)
        if recall > best_recall:
            best, best_recall = Outcome(epoch, seconds, task.recall(final, task.audit)), recall
        if epoch - best.best_epoch >= sizes.patience:
            break
    return best


def measure(data: RecommenderData, sizes: Sizes) -> dict[str, Any]:
    """Measure one data set: seconds of an epoch by turns, then both trainings to their best epochs."""
    task = Task.of(data)
    turns = {"product": Product(task, 0).epoch, "straightforward": task.straightforward(0).epoch}
    epoch = interleaved_medians(turns, sizes.repeats)
    sampler, slow = NegativeSampler(task.graph), task.straightforward(0)
    drawing = torch.Generator().manual_seed(0)
    sampling = interleaved_medians(
        {
            "product": lambda: sampler.draw(task.graph.user_index, drawing),
            "straightforward": slow.sample,
        },
        sizes.repeats,
    )
    outcomes = {
        "product": [train(Product(task, seed), task, sizes) for seed in sizes.seeds],
        "straightforward": [train(task.straightforward(seed), task, sizes) for seed in sizes.seeds],
    }
    mean = {
        name: {
            "epoch_seconds": epoch[name],
            "sampling_seconds": sampling[name],
            "best_epoch": statistics.fmean(outcome.best_epoch for outcome in each),
            "training_seconds": statistics.fmean(outcome.seconds for outcome in each),
            "recall_at_20": statistics.fmean(outcome.recall for outcome in each),
        }
        for name, each in outcomes.items()
    }
    ours, theirs = mean["product"], mean["straightforward"]
    return {
        "interactions": len(task.graph),
        **mean,
        "epoch_speedup": theirs["epoch_seconds"] / ours["epoch_seconds"],
        "sampling_speedup": theirs["sampling_seconds"] / ours["sampling_seconds"],
        "training_speedup": theirs["training_seconds"] / ours["training_seconds"],
        "recall_ratio": ours["recall_at_20"] / theirs["recall_at_20"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="made-up interactions, few epochs: a smoke test")
    parser.add_argument("--data", choices=sorted(FILES), action="append", help="these data sets alone")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the product computes: both are then timed alike
    if options.quick:
        rows = {"made up": measure(block_interactions(), QUICK)}
    else:
        names = options.data or list(FILES)
        rows = {name: measure(load_interactions(name, seed=0), FULL) for name in names}
    figures = {"rows": rows, "environment": environment()}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, row in rows.items():
        flat = {key: value for key, value in row.items() if not isinstance(value, dict)}
        for side in ("product", "straightforward"):
            flat |= {f"{side}: {key}": value for key, value in row[side].items()}
        print_table(flat, title=name)
    print_table(figures["environment"])


if __name__ == "__main__":
    main()
