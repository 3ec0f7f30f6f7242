"""Does NPO leave the rest of a model alone where gradient ascent does not? The paper's own synthetic experiment.

Zhang et al., "Negative Preference Optimization" (arXiv 2404.05868), with the sizes and rates of its published code
(github.com/licong-lin/negative-preference-optimization, commit 1207bbe). Two classes, 16 inputs: retained x ~ N(-α·1, I),
forgotten x ~ N(+α·1, I); P(class 0) = σ(1 + (x - mean)·1/√16) where retained, P(class 1) likewise where forgotten. A
logistic head without intercept stands on 128 fixed random ReLU features; the original is fitted to 1,000 retained and
200 forgotten samples, the retrained model to the retained ones. Then 2,000 full-batch steps on the forgotten samples
alone, by gradient ascent and by NPO, each at the paper's rate.

Two questions:

- *Growth*: is the distance to the original's weights linear in the steps (gradient ascent) or logarithmic (NPO)? Both
  curves are fitted to both methods, over all steps and over the second half, and once more in a long run at one rate.
- *Damage*: the ratio of KL(retrained ‖ unlearned) on fresh retained samples, NPO over gradient ascent. What "at equal
  forget distance" means decides the answer, so every reading of it is reported (`READINGS`), and none is the headline.

    python -m benchmarks.npo_synthetic [--json] [--quick]
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import environment, print_table
from unlearning.losses.edge_distillation import edge_divergence
from unlearning.losses.npo import npo_loss

INPUTS, FEATURES = 16, 128
RETAINED, FORGOTTEN, FRESH = 1000, 200, 1000
FIT_RATE = 0.05
BAR = 0.2
"""The ratio that the project asks for: NPO's divergence at most a fifth of gradient ascent's."""
GRADIENT_ASCENT, NPO = "gradient_ascent", "npo"


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the long run has one rate for both methods, as in the paper's figure of the growth."""

    seeds: tuple[int, ...]
    fit_steps: int
    steps: int
    long_steps: int
    evaluate_every: int = 25
    long_rate: float = 5e-4
    long_beta: float = 1.0


FULL = Sizes((1000, 2000, 3000, 4000, 5000), fit_steps=20_000, steps=2000, long_steps=10_000)
QUICK = Sizes((1000,), fit_steps=4000, steps=1000, long_steps=1500)


@dataclass(frozen=True)
class Setting:
    """One gap between the two kinds of samples, with the paper's rates for it."""

    alpha: float
    ascent_rate: float
    npo_rate: float
    beta: float


SETTINGS = (Setting(1.0, 5e-4, 5e-3, 1.0), Setting(0.0, 1e-4, 5e-2, 10.0))


@dataclass(frozen=True)
class Task:
    """A draw of the experiment: features of every set, labels as ±1, and both fitted heads; all of float64."""

    forgotten: Tensor  # (FORGOTTEN, FEATURES)
    signs: Tensor  # (FORGOTTEN,), +1 for class 0
    fresh_retained: Tensor  # (FRESH, FEATURES)
    fresh_forgotten: Tensor  # (FRESH, FEATURES)
    original: Tensor  # (FEATURES,)
    retrained: Tensor  # (FEATURES,)

    @classmethod
    def draw(cls, alpha: float, seed: int, fit_steps: int) -> "Task":
        """Draw samples and random features by one seed, and fit both models."""
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(FEATURES, INPUTS, generator=generator, dtype=torch.float64)
        weights /= math.sqrt(INPUTS)
        retained, kept_signs = sample(RETAINED, -alpha, 1, weights, generator)
        forgotten, signs = sample(FORGOTTEN, alpha, -1, weights, generator)
        everything, every_sign = torch.cat([retained, forgotten]), torch.cat([kept_signs, signs])
        return cls(
            forgotten,
            signs,
            sample(FRESH, -alpha, 1, weights, generator)[0],
            sample(FRESH, alpha, -1, weights, generator)[0],
            original=fit(everything, every_sign, fit_steps),
            retrained=fit(retained, kept_signs, fit_steps),
        )

    def losses(self, head: Tensor) -> Tensor:
        """Return every forgotten sample's negative log-likelihood in nats, shape (FORGOTTEN,)."""
        return functional.softplus(-self.signs * (self.forgotten @ head))


def sample(
    count: int, mean: float, usual: int, weights: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw samples around `mean` whose sign is `usual` with probability σ(1 + (x - mean)·1/√16).

    Returns:
        Features of shape (count, FEATURES) and signs of shape (count,).
    """
    deviations = torch.randn(count, INPUTS, generator=generator, dtype=torch.float64)
    likely = (1 + deviations.sum(dim=1) / math.sqrt(INPUTS)).sigmoid()
    as_usual = torch.rand(count, generator=generator, dtype=torch.float64) < likely
    return ((deviations + mean) @ weights.T).relu(), torch.where(as_usual, usual, -usual).double()


def fit(rows: Tensor, signs: Tensor, steps: int) -> Tensor:
    """Fit a logistic head from zero by full-batch descent; its gradient is written down, for speed alone."""
    head = rows.new_zeros(rows.shape[1])
    labels = (signs + 1) / 2
    for _ in range(steps):
        head -= FIT_RATE / len(rows) * (rows.T @ ((rows @ head).sigmoid() - labels))
    return head


@dataclass(frozen=True)
class Path:
    """What one run measured, each of shape (evaluations,); divergences in nats."""

    steps: Tensor
    moved: Tensor
    """The distance of the weights to the original's."""
    retained: Tensor
    """KL(retrained ‖ unlearned) on fresh retained samples."""
    forgotten: Tensor
    """KL(retrained ‖ unlearned) on fresh samples of the forgotten kind."""
    shifted: Tensor
    """KL(original ‖ unlearned) on fresh samples of the forgotten kind."""


def unlearn(task: Task, objective: Callable[[Tensor], Tensor], rate: float, steps: int, every: int) -> Path:
    """Descend an objective of the forgotten samples' losses from the original, and measure every so often."""
    head = task.original.clone().requires_grad_()
    rows = []
    for step in range(steps + 1):
        if step % every == 0:
            rows.append([step, *measure_head(task, head.detach())])
        (gradient,) = torch.autograd.grad(objective(task.losses(head)), head)
        with torch.no_grad():
            head -= rate * gradient
    return Path(*torch.tensor(rows, dtype=torch.float64).T)


def measure_head(task: Task, head: Tensor) -> tuple[float, ...]:
    """Return what `Path` holds of one head, without the step."""
    retained, forgotten = task.fresh_retained, task.fresh_forgotten
    return (
        (head - task.original).norm().item(),
        edge_divergence(retained @ task.retrained, retained @ head).item(),
        edge_divergence(forgotten @ task.retrained, forgotten @ head).item(),
        edge_divergence(forgotten @ task.original, forgotten @ head).item(),
    )


def ascent(losses: Tensor) -> Tensor:
    """Return the objective of gradient ascent."""
    return -losses.mean()


def preference(task: Task, beta: float) -> Callable[[Tensor], Tensor]:
    """Return the objective of NPO, whose reference is the original."""
    reference = task.losses(task.original)
    return lambda losses: npo_loss(losses, reference, beta)


# Readings of "at equal forget distance". Each takes the two paths, gradient ascent's first, and returns the two
# divergences on retained data that it sets side by side, or None where the paths do not meet in that way.

Pair = tuple[float, float]


def best_of_each(ascended: Path, npo: Path) -> Pair:
    """Each at the step that is best on retained data; close to no step at all is allowed."""
    return ascended.retained.min().item(), npo.retained.min().item()


def where_each_forgot_best(ascended: Path, npo: Path) -> Pair:
    """Each at the step where it is nearest to the retrained model on forgotten data."""
    first, second = (path.retained[path.forgotten.argmin()].item() for path in (ascended, npo))
    return first, second


def equal_steps(ascended: Path, npo: Path) -> Pair:
    """Each at its last step: as many steps, at each method's rate."""
    return ascended.retained[-1].item(), npo.retained[-1].item()


def equal_weight_distance(ascended: Path, npo: Path) -> Pair | None:
    """At the largest distance from the original's weights that both reach."""
    level = min(ascended.moved.max().item(), npo.moved.max().item())
    return paired(ascended, ascended.moved, npo, npo.moved, level)


def equal_forget_shift(ascended: Path, npo: Path) -> Pair | None:
    """At the largest KL(original ‖ unlearned) on forgotten data that both reach."""
    level = min(ascended.shifted.max().item(), npo.shifted.max().item())
    return paired(ascended, ascended.shifted, npo, npo.shifted, level)


def equal_forget_kl_before(ascended: Path, npo: Path) -> Pair | None:
    """Before the minimum: at the smallest KL(retrained ‖ unlearned) on forgotten data that both reach."""
    level = max(ascended.forgotten.min().item(), npo.forgotten.min().item())
    return paired(ascended, ascended.forgotten, npo, npo.forgotten, level)


def equal_forget_kl_after(ascended: Path, npo: Path) -> Pair | None:
    """After the minimum, forgetting too much: at the largest KL(retrained ‖ unlearned) that both climb back to."""
    level = min(climbed(path) for path in (ascended, npo))
    lows = [int(path.forgotten.argmin()) for path in (ascended, npo)]
    return paired(ascended, ascended.forgotten, npo, npo.forgotten, level, *lows)


def best_npo_before(ascended: Path, npo: Path) -> Pair | None:
    """NPO at its best step on retained data, ascent where it has the same forget KL before its minimum."""
    best = int(npo.retained.argmin())
    other = retained_at(ascended, ascended.forgotten, npo.forgotten[best].item())
    return None if other is None else (other, npo.retained[best].item())


def best_npo_after(ascended: Path, npo: Path) -> Pair | None:
    """NPO at its best step on retained data, ascent where it has the same forget KL after its minimum."""
    best = int(npo.retained.argmin())
    low = int(ascended.forgotten.argmin())
    other = retained_at(ascended, ascended.forgotten, npo.forgotten[best].item(), low)
    return None if other is None else (other, npo.retained[best].item())


READINGS: tuple[Callable[[Path, Path], Pair | None], ...] = (
    best_of_each,
    where_each_forgot_best,
    equal_steps,
    equal_weight_distance,
    equal_forget_shift,
    equal_forget_kl_before,
    equal_forget_kl_after,
    best_npo_before,
    best_npo_after,
)


def paired(
    ascended: Path,
    first: Tensor,
    npo: Path,
    second: Tensor,
    level: float,
    first_start: int = 0,
    second_start: int = 0,
) -> Pair | None:
    """Return the divergences on retained data where each path's measure first meets `level` from its start on."""
    one = retained_at(ascended, first, level, first_start)
    other = retained_at(npo, second, level, second_start)
    return None if one is None or other is None else (one, other)


def retained_at(path: Path, measure: Tensor, level: float, start: int = 0) -> float | None:
    """Return the divergence on retained data where `measure` first meets `level`, on straight lines between steps.

    >>> t = torch.tensor([0.0, 1.0, 2.0])
    >>> path = Path(t, t, 10 * t, torch.tensor([4.0, 2.0, 6.0]), t)
    >>> retained_at(path, path.forgotten, 3.0), retained_at(path, path.forgotten, 3.0, start=1)
    (5.0, 12.5)
    >>> retained_at(path, path.forgotten, 1.0) is None
    True
    """
    for index in range(start, len(measure) - 1):
        here, there = measure[index].item(), measure[index + 1].item()
        if min(here, there) <= level <= max(here, there):
            share = 0.0 if here == there else (level - here) / (there - here)
            return torch.lerp(path.retained[index], path.retained[index + 1], share).item()
    return None


def climbed(path: Path) -> float:
    """Return the largest forget divergence after the path's minimum."""
    return path.forgotten[int(path.forgotten.argmin()) :].max().item()


def determination(curve: Tensor, values: Tensor) -> float:
    """R², the share of the values' variance that the best a + b · curve explains.

    >>> x = torch.tensor([1.0, 2.0, 3.0])
    >>> determination(x, 5 - 2 * x), determination(x, torch.tensor([0.0, 1.0, 0.0]))
    (1.0, 0.0)
    """
    return torch.corrcoef(torch.stack([curve, values]))[0, 1].square().item()


def growth(path: Path) -> dict[str, float]:
    """Fit the distance from the original's weights by the steps and by their logarithm; step 0 has none."""
    steps, moved = path.steps[1:], path.moved[1:]
    half = len(steps) // 2
    return {
        "linear_r2": determination(steps, moved),
        "log_r2": determination(steps.log(), moved),
        "linear_r2_second_half": determination(steps[half:], moved[half:]),
        "log_r2_second_half": determination(steps[half:].log(), moved[half:]),
        "moved": moved[-1].item(),
    }


@dataclass(frozen=True)
class Runs:
    """The four paths of one draw, by method."""

    short: dict[str, Path]
    long: dict[str, Path]

    @classmethod
    def of(cls, setting: Setting, seed: int, sizes: Sizes) -> "Runs":
        """Draw the task and run both methods, at the paper's rates and long at one rate."""
        task = Task.draw(setting.alpha, seed, sizes.fit_steps)

        def go(objective: Callable[[Tensor], Tensor], rate: float, steps: int) -> Path:
            return unlearn(task, objective, rate, steps, sizes.evaluate_every)

        npo, long_npo = preference(task, setting.beta), preference(task, sizes.long_beta)
        return cls(
            {
                GRADIENT_ASCENT: go(ascent, setting.ascent_rate, sizes.steps),
                NPO: go(npo, setting.npo_rate, sizes.steps),
            },
            {
                GRADIENT_ASCENT: go(ascent, sizes.long_rate, sizes.long_steps),
                NPO: go(long_npo, sizes.long_rate, sizes.long_steps),
            },
        )


def measure_setting(setting: Setting, sizes: Sizes) -> dict[str, Any]:
    """Measure one gap over all seeds."""
    runs = [Runs.of(setting, seed, sizes) for seed in sizes.seeds]
    ratios = {
        reading.__name__: over_seeds(
            [reading(run.short[GRADIENT_ASCENT], run.short[NPO]) for run in runs],
        )
        for reading in READINGS
    }
    return {
        "original_retained_kl": spread([run.short[NPO].retained[0].item() for run in runs]),
        "original_forget_kl": spread([run.short[NPO].forgotten[0].item() for run in runs]),
        "readings": ratios,
        "readings_that_meet_the_bar": [name for name, figures in ratios.items() if figures["meets_bar"]],
        "growth": {method: growths([run.short[method] for run in runs]) for method in (GRADIENT_ASCENT, NPO)},
        "growth_long": {
            method: growths([run.long[method] for run in runs]) for method in (GRADIENT_ASCENT, NPO)
        },
    }


def over_seeds(pairs: Sequence[Pair | None]) -> dict[str, Any]:
    """Summarise one reading: it meets the bar only where it is defined in every seed and the worst seed meets it."""
    known = [pair for pair in pairs if pair is not None]
    ratios = [npo / ascended for ascended, npo in known]
    return {
        "ratio": spread(ratios) if ratios else None,
        "ascent_kl": spread([ascended for ascended, _ in known]) if known else None,
        "npo_kl": spread([npo for _, npo in known]) if known else None,
        "defined_in": len(known),
        "meets_bar": len(known) == len(pairs) and max(ratios) <= BAR,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest over the seeds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def growths(paths: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Summarise the fits over the seeds."""
    rows = [growth(path) for path in paths]
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


def measure(sizes: Sizes) -> dict[str, Any]:
    """Answer both questions for both gaps."""
    started = time.perf_counter()
    settings = {f"alpha_{setting.alpha:g}": measure_setting(setting, sizes) for setting in SETTINGS}
    return {
        **settings,
        "bar": BAR,
        "seeds": list(sizes.seeds),
        "steps": sizes.steps,
        "seconds": time.perf_counter() - started,
    }


def table_of(figures: dict[str, Any]) -> dict[str, str]:
    """Flatten one setting into a line per figure: median (smallest to largest)."""
    lines = {}
    for name, reading in figures["readings"].items():
        text = "undefined" if reading["ratio"] is None else in_words(reading["ratio"])
        lines[name] = f"{text}; {reading['defined_in']} seeds" + (", bar met" if reading["meets_bar"] else "")
    for run in ("growth", "growth_long"):
        for method, fits in figures[run].items():
            lines |= {f"{run} {method} {name}": in_words(values) for name, values in fits.items()}
    return lines


def in_words(values: dict[str, float]) -> str:
    """Write a spread on one line."""
    return f"{values['median']:.4g} ({values['min']:.4g} to {values['max']:.4g})"


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one seed and fewer steps, to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are too small to share
    figures = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
        return
    for name in (f"alpha_{setting.alpha:g}" for setting in SETTINGS):
        print_table(table_of(figures[name]), f"{name}: NPO's KL on retained data over gradient ascent's")


if __name__ == "__main__":
    main()
