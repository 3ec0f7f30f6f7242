"""Are the audit's metrics right, how fast are they, and do their 95 % intervals hold what they promise?

Three questions, answered in one run:

- *Agreement and speed*: each metric beside a slow reference that is written differently: all pairs, one record at a
  time, scipy or scikit-learn. The largest difference of any figure, and how many times faster the metric is.
- *Coverage*: how often the interval of an AUC, of its paired change and of a true-positive rate hold the true value,
  over repeated draws from distributions whose true value is known.
- *U-LiRA under the null*: the accuracy on models that truly forgot, whose true value is one half.

    python -m benchmarks.audit_metrics [--json] [--quick]
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.harness import environment, interleaved_medians, peak_memory_mb, print_table
from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.metrics.jensen_shannon import divergences
from unlearning.audits.metrics.kolmogorov_smirnov import kolmogorov_smirnov
from unlearning.audits.metrics.lira import lira_offline, lira_online
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.audits.metrics.membership_auc import membership_auc, placements
from unlearning.audits.metrics.retained_privacy import membership_change
from unlearning.audits.metrics.rmia import rmia_offline
from unlearning.audits.metrics.tpr_at_fpr import tpr_at_fpr
from unlearning.audits.metrics.u_lira import u_lira

SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    records: int
    models: int
    classes: int
    draws: int
    covered_sizes: tuple[int, ...]
    repeats: int


FULL = Sizes(records=2000, models=16, classes=10, draws=2000, covered_sizes=(30, 300), repeats=5)
QUICK = Sizes(records=60, models=6, classes=3, draws=40, covered_sizes=(30,), repeats=1)

Pair = tuple[Callable[[], Any], Callable[[], Any]]
"""A metric and its slow reference, both giving an array of the same figures."""


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw float64 normal values."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pairs(sizes: Sizes) -> dict[str, Pair]:
    """Draw one set of records and return every metric with its reference on it."""
    generator = torch.Generator().manual_seed(SEED)
    n, models = sizes.records, sizes.models
    hardness = normal(generator, n)
    learned = torch.rand(models, n, generator=generator) < 0.5
    learned[:2], learned[2:4] = True, False  # each record has two models of either kind
    shadows = hardness + normal(generator, models, n) + 2 * learned
    observed = hardness + normal(generator, n)
    observed[: n // 2] += 2
    members, others = observed[: n // 2], observed[n // 2 :]
    logits, reference = normal(generator, n, sizes.classes), normal(generator, n, sizes.classes)
    labels = torch.arange(n) % sizes.classes
    never = torch.zeros_like(learned)
    shares = (observed.sigmoid(), shadows.sigmoid(), never, hardness.sigmoid(), shadows.sigmoid())
    return {
        "logit margin": (lambda: logit_margins(logits, labels), lambda: slow_margins(logits, labels)),
        "Jensen-Shannon": (lambda: divergences(logits, reference), lambda: slow_js(logits, reference)),
        "AUC": (
            lambda: [membership_auc(members, others).value],
            lambda: [roc_auc_score(np.arange(n) < n // 2, observed)],
        ),
        "placements": (
            lambda: torch.cat(placements(members, others)),
            lambda: slow_placements(members, others),
        ),
        "Kolmogorov-Smirnov": (
            lambda: [kolmogorov_smirnov(members, others + 2).p_value],
            lambda: [stats.ks_2samp(members, others + 2, method="exact").pvalue],
        ),
        "RMIA": (lambda: rmia_offline(*shares), lambda: slow_rmia(*shares)),
        "LiRA online": (
            lambda: lira_online(observed, shadows, learned, variance="per_example"),
            lambda: slow_lira(observed, shadows, learned),
        ),
        "LiRA offline": (
            lambda: lira_offline(observed, shadows, learned, variance="per_example"),
            lambda: slow_standard_scores(observed, shadows, learned),
        ),
    }


def slow_margins(logits: Tensor, labels: Tensor) -> list[float]:
    """Log-odds from the probabilities, one record at a time."""
    probabilities = logits.softmax(dim=1).tolist()
    return [
        math.log(row[y] / sum(p for k, p in enumerate(row) if k != y))
        for row, y in zip(probabilities, labels.tolist(), strict=True)
    ]


def slow_js(logits: Tensor, reference: Tensor) -> list[float]:
    """Square of scipy's distance, one record at a time."""
    rows = zip(logits.softmax(dim=1).numpy(), reference.softmax(dim=1).numpy(), strict=True)
    return [float(jensenshannon(p, q)) ** 2 for p, q in rows]


def slow_placements(members: Tensor, others: Tensor) -> Tensor:
    """All pairs at once."""
    beats = (members[:, None] > others).double() + 0.5 * (members[:, None] == others).double()
    return torch.cat([beats.mean(dim=1), beats.mean(dim=0)])


def slow_rmia(target: Tensor, references: Tensor, _: Tensor, z: Tensor, z_references: Tensor) -> Tensor:
    """The table of all likelihood ratios, with a = 0.3 and γ = 1."""
    ratio_x = target / (0.65 * references.mean(dim=0) + 0.35)
    ratio_z = z / (0.65 * z_references.mean(dim=0) + 0.35)
    return (ratio_x[:, None] / ratio_z >= 1).double().mean(dim=1)


def slow_lira(observed: Tensor, shadows: Tensor, learned: Tensor) -> list[float]:
    """Densities by scipy, one record at a time."""
    scores = []
    for x, value in enumerate(observed.tolist()):
        signals, inside = shadows[:, x].numpy(), learned[:, x].numpy()
        fits = [(kind.mean(), kind.std(ddof=1)) for kind in (signals[inside], signals[~inside])]
        scores.append(float(stats.norm.logpdf(value, *fits[0]) - stats.norm.logpdf(value, *fits[1])))
    return scores


def slow_standard_scores(observed: Tensor, shadows: Tensor, learned: Tensor) -> list[float]:
    """One record at a time."""
    scores = []
    for x, value in enumerate(observed.tolist()):
        outside = shadows[:, x][~learned[:, x]].numpy()
        scores.append(float((value - outside.mean()) / outside.std(ddof=1)))
    return scores


def agreement(sizes: Sizes) -> dict[str, dict[str, float]]:
    """Compare and time each metric with its reference."""
    result: dict[str, Any] = {}
    for name, (fast, slow) in pairs(sizes).items():
        ours, theirs = (torch.as_tensor(one(), dtype=torch.float64) for one in (fast, slow))
        seconds = interleaved_medians({"fast": fast, "slow": slow}, sizes.repeats)
        result[name] = {
            "largest_difference": float((ours - theirs).abs().max()),
            "seconds": seconds["fast"],
            "speedup": seconds["slow"] / seconds["fast"],
        }
    return result


def coverage(sizes: Sizes) -> dict[str, float]:
    """Share of draws in which each 95 % interval holds the true value."""
    result: dict[str, Any] = {}
    for n in sizes.covered_sizes:
        generator = torch.Generator().manual_seed(SEED + n)
        held: dict[str, int] = {}
        for _ in range(sizes.draws):
            for name, (estimate, truth) in one_draw(generator, n).items():
                low, high = estimate.interval
                held[name] = held.get(name, 0) + (low <= truth <= high)
        result |= {f"{name}, {n} a side": count / sizes.draws for name, count in held.items()}
    return result


def one_draw(generator: torch.Generator, n: int) -> dict[str, tuple[Estimate, float]]:
    """Measure one draw of members N(1, 1) and others N(0, 1), beside the true values.

    The second model adds N(0, ¼) to every score and ½ to those of members.
    """
    members, others = normal(generator, n) + 1, normal(generator, n)
    later = members + 0.5 + 0.5 * normal(generator, n), others + 0.5 * normal(generator, n)
    point = tpr_at_fpr(members, others, 0.1)
    area, later_area = _phi(1 / math.sqrt(2)), _phi(1.5 / math.sqrt(2.5))
    return {
        "AUC": (membership_auc(members, others), area),
        "change of AUC": (membership_change(members, others, *later), later_area - area),
        # True at the threshold as found: what the interval is for.
        "true positives": (point.true_positives, _phi(1 - point.threshold)),
        "false positives": (point.false_positives, _phi(-point.threshold)),
    }


def _phi(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def forgotten(sizes: Sizes) -> dict[str, float]:
    """Let U-LiRA judge models that truly forgot: mean accuracy, and share of intervals that hold one half."""
    generator = torch.Generator().manual_seed(SEED)
    draws = max(20, sizes.draws // 10)
    results = [
        u_lira(normal(generator, 8, 50) + hardness, normal(generator, 8, 50) + hardness).accuracy
        for hardness in (3 * normal(generator, 50) for _ in range(draws))
    ]
    return {
        "accuracy": sum(one.value for one in results) / draws,
        "covered": sum(one.interval[0] <= 0.5 <= one.interval[1] for one in results) / draws,
    }


def measure(sizes: Sizes) -> dict[str, Any]:
    """Run all parts."""
    agreed = agreement(sizes)
    return {
        "agreement": agreed,
        "largest_difference": max(one["largest_difference"] for one in agreed.values()),
        "coverage": coverage(sizes),
        "u_lira_when_forgotten": forgotten(sizes),
        "draws": sizes.draws,
        "seed": SEED,
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL)
    figures |= {"peak_memory_mb": peak_memory_mb(), "environment": environment()}
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, row in figures.pop("agreement").items():
        print_table(row, name)
    print_table(figures.pop("coverage"), "coverage of 95 % intervals")
    print_table(figures.pop("u_lira_when_forgotten"), "U-LiRA where the truth is 0.5")
    print_table(figures)


if __name__ == "__main__":
    main()
