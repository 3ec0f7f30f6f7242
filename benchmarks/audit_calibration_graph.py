"""Can the audit's verdicts on graphs be believed?

    python -m benchmarks.audit_calibration --family graph [--json] [--quick]

As for classifiers, the audit is asked about candidates whose answer is known, on Cora (or, quickly, a small graph that is
drawn):

- *retrained*: trained anew on what remains, by seeds other than those that the bounds are calibrated on. It must pass.
- *untouched*: the original's weights, which is what `drop_edges` leaves. They must fail where the set was memorised.
- *over-forgotten*: the forgotten nodes or edges are driven far past a retrained model's scores while utility is kept. It
  must fail.
- *ruined*: weights disturbed until usefulness is lost. It must fail.

Forget sets: nodes under wrong labels, a whole class of nodes, nodes drawn at random, edges drawn at random. All of them
are memorised, the random ones least.
"""

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.graph_unlearning import DATA_FOLDER, made_graph, read_graph
from benchmarks.harness import peak_memory_mb
from models.contracts import ForgetSet
from models.graph import runtime
from models.graph.data import GraphData
from models.graph.elements import edge_record, node_record
from models.graph.negatives import NegativeSampler
from models.graph.network import GraphModel
from models.graph.training import edge_loss
from models.holdout import in_audit_half
from unlearning.audits.evidence import Records
from unlearning.audits.graph.evidence import GraphEvidence, View
from unlearning.audits.independent import external_method
from unlearning.audits.metrics.accuracy import wilson_interval
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences, ReferenceTrainer
from unlearning.audits.report import Audit, Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.spec import Guarantee

NODES, LINKS = "node_classification", "link_prediction"
HELD_OUT_NODES, HELD_OUT_EDGES = 0.4, 0.1
"""Shares that no model learns."""
JUDGED_SEED = 1000
"""Seed of the first judged candidate; references start at another one."""
FAR_SPREADS = 8.0
"""How far over-forgetting goes below the retrained models' mean, in standard deviations of it between those models."""
RUINED = 0.1
"""Accuracy or AUC that ruined candidates lose, at least."""


@dataclass(frozen=True)
class Setting:
    """One kind of forget set on one graph."""

    data: str
    kind: str
    """mislabelled, class, nodes or edges."""
    forget: int
    """Nodes or edges; ignored for a class."""
    sets: int
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    settings: tuple[Setting, ...]
    judged: int
    """Retrained candidates of each forget set."""
    policy: AuditPolicy
    steps: int
    """Gradient steps after which a forget set that did not come to its scores is given up."""


_NODES = {"task": NODES, "hidden": [64, 32]}
_LINKS = {"task": LINKS, "hidden": [64, 32]}
_SMALL = {"task": NODES, "hidden": [32, 16], "epochs": 100, "dropout": 0.0, "weight_decay": 0.0}
FULL = Sizes(
    (
        Setting("cora", "mislabelled", 100, 3, _NODES),
        Setting("cora", "class", 0, 3, _NODES),
        Setting("cora", "nodes", 100, 3, _NODES),
        Setting("cora", "edges", 240, 3, _LINKS),
    ),
    judged=3,
    policy=AuditPolicy(),
    steps=600,
)
QUICK = Sizes(
    (
        Setting("made", "mislabelled", 30, 1, _SMALL),
        Setting("made", "class", 0, 1, _SMALL),
    ),
    judged=1,
    policy=AuditPolicy(),
    steps=200,
)


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


def make_problem(setting: Setting, number: int, folder: Path) -> tuple[GraphData, ForgetSet]:
    """Draw one forget set, and change the data so that it is of its kind."""
    generator = torch.Generator().manual_seed(100 + number)
    features, labels, edges = (
        made_graph() if setting.data == "made" else read_graph(folder / f"{setting.data}.npz")
    )
    count = len(labels)
    of_nodes = setting.recipe["task"] == NODES
    held_nodes = torch.rand(count, generator=generator) < (HELD_OUT_NODES if of_nodes else 0.0)
    held_edges = torch.rand(edges.shape[1], generator=generator) < (0.0 if of_nodes else HELD_OUT_EDGES)
    if setting.data == "made":
        # Nothing is held out for early stopping, so that every epoch is run and even a small graph is learned by heart.
        held_nodes &= torch.tensor([in_audit_half(node_record(f"n{place}")) for place in range(count)])
    known = (~held_nodes).nonzero().flatten()
    chosen = known[torch.randperm(len(known), generator=generator)[: setting.forget]]
    classes = int(labels.max()) + 1
    if setting.kind == "mislabelled":
        labels[chosen] += 1 + torch.randint(classes - 1, (len(chosen),), generator=generator)
        labels %= classes
    data = GraphData(
        node_ids=tuple(f"n{place}" for place in range(count)),
        features=features,
        feature_names=tuple(f"f{column}" for column in range(features.shape[1])),
        labels=labels,
        classes=tuple(f"c{place}" for place in range(classes)),
        held_out_nodes=held_nodes,
        edges=edges,
        held_out_edges=held_edges,
        relations=torch.zeros(edges.shape[1], dtype=torch.int64),
        edge_classes=(),
        directed=False,
    )
    if setting.kind == "class":
        name = number % classes
        members = (labels == name).nonzero().flatten()
        return data, ForgetSet(_nodes(data, members), (f"node:c{name}",))
    if setting.kind == "edges":
        pairs = data.training_edges()
        drawn = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[: setting.forget]]
        return data, ForgetSet(_edges(data, drawn))
    return data, ForgetSet(_nodes(data, chosen))


def _nodes(data: GraphData, places: Tensor) -> tuple[str, ...]:
    return tuple(sorted(node_record(data.node_ids[place]) for place in places.tolist()))


def _edges(data: GraphData, pairs: Tensor) -> tuple[str, ...]:
    names = data.node_ids
    return tuple(
        sorted(
            edge_record(names[one], names[other], directed=data.directed) for one, other in pairs.T.tolist()
        )
    )


class Judge:
    """Audits candidates for one forget set, with references that are trained once."""

    def __init__(self, data: GraphData, forget: ForgetSet, parent: GraphModel, policy: AuditPolicy) -> None:
        self.data, self.forget, self.parent = data, forget, parent
        self.policy = policy
        self.trainer = ReferenceTrainer(
            runtime, lambda: parent, data, forget, policy, InMemoryReferences(), seed=0, progress=silent
        )

    def case(self, candidate: GraphModel) -> Case:
        """Put together what the audit is given: a candidate of an approximate method."""
        return Case(
            parent=self.parent,
            candidate=candidate,
            data=self.data,
            forget=self.forget,
            method=external_method("graph", Guarantee.EMPIRICAL),
            parameters={},
            seed=0,
            unlearning_seconds=0.0,
            progress=silent,
            policy=self.policy,
            references=self.trainer,
        )

    def audit(self, candidate: GraphModel) -> Audit:
        """Judge one candidate."""
        return get_suite("graph")(self.case(candidate))


def pushed(judge: Judge, steps: int) -> GraphModel | None:
    """Drive the forgotten nodes or edges far below a retrained model's scores, and train on what remains meanwhile.

    Returns:
        None where it was not reached within these steps.
    """
    seen = GraphEvidence(judge.case(judge.parent), View.REPLAYED)
    references = seen.retrained_scores(Records.FORGOTTEN)  # (models, n)
    far = FAR_SPREADS * float(references.mean(dim=1).std())
    target = (references.mean(dim=0) - far).to(torch.float32)
    places = seen.sets[Records.FORGOTTEN].places
    rest = judge.data.without(judge.forget.record_ids)
    generator = torch.Generator().manual_seed(0)
    model = judge.parent.trainable()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        off = (_scores(model, judge.data, places) - target).relu()
        if float(off.detach().mean()) < 0.1 * far:
            return model.frozen()
        optimizer.zero_grad()
        (_loss(model, rest, generator) + 0.1 * off.mean()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return None


def _scores(model: GraphModel, data: GraphData, places: Tensor) -> Tensor:
    embeddings = model.embeddings(data)
    if model.task == LINKS:
        return model.edge_logits(embeddings, places)
    logits, labels = model.node_logits(embeddings[places]), data.labels[places]
    own = logits.gather(1, labels[:, None])
    return own[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)


def _loss(model: GraphModel, data: GraphData, generator: torch.Generator) -> Tensor:
    embeddings = model.embeddings(data)
    if model.task == LINKS:
        edges = data.training_edges()
        sampler = NegativeSampler(data.edges, data.nodes, directed=data.directed)
        return edge_loss(model, embeddings, edges, sampler.sample(edges.shape[1], generator))
    known = data.training_nodes()
    return functional.cross_entropy(model.node_logits(embeddings[known]), data.labels[known])


def ruin(judge: Judge, retrained: GraphModel) -> GraphModel:
    """Disturb a retrained model's weights until it has lost `RUINED` of its usefulness on held-out items."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(one.shape, generator=generator) for name, one in retrained.named_parameters()}
    before = usefulness(judge, retrained)
    for step in range(1, 200):
        ruined = retrained.frozen()
        ruined.load_state_dict(
            {
                name: one + 0.1 * step * one.abs().mean() * noise[name]
                for name, one in retrained.named_parameters()
            }
        )
        if usefulness(judge, ruined) < before - RUINED:
            return ruined
    raise AssertionError("the noise ruined nothing")


def usefulness(judge: Judge, model: GraphModel) -> float:
    """Return accuracy on held-out nodes, or the AUC of held-out edges, on the graph that is left."""
    read = GraphEvidence(judge.case(model), View.AS_IT_STANDS).read("candidate", model)
    never_seen = read.outputs[Records.NEVER_SEEN]
    if model.task == NODES:
        return float(never_seen.right.double().mean())
    return float((never_seen.scores[:, None] > read.negatives).double().mean())


def judge_one(setting: Setting, number: int, sizes: Sizes, folder: Path) -> list[dict[str, Any]]:
    """Judge every candidate for one forget set."""
    data, forget = make_problem(setting, number, folder)
    parent = runtime.train(data, setting.recipe, seed=number, progress=silent)
    judge = Judge(data, forget, parent, sizes.policy)
    rest = data.without(forget.record_ids)
    retrained = [
        runtime.retrain(parent, rest, seed=JUDGED_SEED + place, progress=silent)
        for place in range(sizes.judged)
    ]
    candidates = {
        "untouched": [parent],
        "retrained": retrained,
        "over_forgotten": [pushed(judge, sizes.steps)],
        "ruined": [ruin(judge, retrained[0])],
    }
    return [
        _row(setting, name, judge.audit(candidate))
        for name, models in candidates.items()
        for candidate in models
        if candidate is not None
    ]


def _row(setting: Setting, candidate: str, audit: Audit) -> dict[str, Any]:
    utility = {
        check.name: check.outcome for check in audit.checks if check.name.endswith("against retraining")
    }
    return {
        "data": setting.data,
        "kind": setting.kind,
        "candidate": candidate,
        "verdict": audit.verdict.value,
        "failed": [check.name for check in audit.checks if check.gating and check.outcome is Outcome.FAIL],
        "utility_kept": set(utility.values()) == {Outcome.PASS},
        "unnoticed": audit.power.unnoticed if audit.power is not None else None,
        "power": audit.power is not None and audit.power.detects,
        "seconds": audit.seconds,
    }


def rate(rows: Iterable[Mapping[str, Any]], verdict: str, name: str) -> dict[str, Any]:
    """Return the share of rows with this verdict, its n and its 95 % interval (Wilson), as keys that begin with `name`.

    >>> rate([{"verdict": "fail"}, {"verdict": "pass"}], "fail", "x_rate")["x_rate"]
    0.5
    """
    verdicts = [row["verdict"] for row in rows]
    hits, count = verdicts.count(verdict), len(verdicts)
    return {
        name: hits / count if count else None,
        f"{name}_n": count,
        f"{name}_interval": list(wilson_interval(hits, count)) if count else None,
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Condense rows into the rates that the benchmark is about."""
    of = {
        name: [row for row in rows if row["candidate"] == name]
        for name in ("retrained", "untouched", "over_forgotten", "ruined")
    }
    # Without power no candidate passes, retrained or not: that is counted apart.
    judged = [row for row in of["retrained"] if row["power"]]
    over = [row for row in of["over_forgotten"] if row["utility_kept"]]
    shares = sorted(row["unnoticed"] for row in of["untouched"] if row["unnoticed"] is not None)
    return {
        **rate(judged, "pass", "retrained_pass_rate"),
        **rate(of["retrained"], "fail", "retrained_failed_rate"),
        **rate(of["untouched"], "fail", "untouched_caught_rate"),
        **rate(of["untouched"], "pass", "untouched_passed_rate"),
        **rate(over, "fail", "over_forgetting_caught_rate"),
        **rate(of["ruined"], "fail", "ruined_caught_rate"),
        "sets_with_power": sum(row["power"] for row in of["untouched"]),
        "median_unnoticed_share": shares[len(shares) // 2] if shares else None,
        "median_audit_s": sorted(row["seconds"] for row in rows)[len(rows) // 2] if rows else math.nan,
    }


def measure(sizes: Sizes, folder: Path = DATA_FOLDER) -> dict[str, Any]:
    """Judge all candidates of all forget sets."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    tasks = [(setting, number) for setting in sizes.settings for number in range(setting.sets)]
    rows = [row for setting, number in tasks for row in judge_one(setting, number, sizes, folder)]
    verdicts: dict[str, int] = {}
    for row in rows:
        name = " ".join((row["candidate"], row["data"], row["kind"], row["verdict"]))
        verdicts[name] = verdicts.get(name, 0) + 1
    return {
        "forget_sets": len(tasks),
        **figures(rows),
        "verdicts": dict(sorted(verdicts.items())),
        "seconds": time.perf_counter() - started,
        "peak_memory_mb": peak_memory_mb(),
        "policy": sizes.policy.model_dump(mode="json"),
        "settings": [dataclasses.asdict(setting) for setting in sizes.settings],
        "rows": rows,
    }
