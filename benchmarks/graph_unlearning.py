"""How near does each method bring a graph network to one that was retrained, and how much sooner?

On the citation graphs Cora, CiteSeer and DBLP, two tasks. Link prediction: 0.5, 2.5 and 5 % of the training edges are
deleted; Et is the AUC of test edges against pairs without an edge, Ed that of retained against deleted edges, and
beside it stands the AUC of deleted edges against pairs without one. Node classification: 100 or 5 % of the training
nodes are deleted; the accuracy is that on test nodes, and the cross-entropy that on the deleted nodes, shown again as
they were in the original graph. Membership AUC compares deleted edges or nodes with test ones. A GCN everywhere; GAT,
GIN and GraphSAGE on Cora. Random deletions are drawn several times, each from another original model on another split
into training and held-out data; `hubs`, a `community` and the most `memorised` edges are deleted once each, and for
node classification the nodes whose removal hurts most by a gradient score (`adversarial`).

Each figure is compared with its mean over models retrained from several other seeds on the same retained graph; a gap
is the distance of the averages over draws, and beside it stands the average distance of single draws (`_per_draw`).
Retraining's own row is one of its seeds against the others, and so shows the gap that chance leaves. Nobody sees the test half of what is held out. Seconds are those to the best epoch by validation where a method
looks for one (retraining), and all of them otherwise; methods are timed one after the other in one process with one
thread. A method that declines has no figures but the reason.

    python -m benchmarks.graph_unlearning [--json] [--quick] [--data FOLDER]
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import PeakMemory, environment, print_table
from models.contracts import ForgetSet
from models.graph import architectures
from models.graph.data import GraphData
from models.graph.elements import edge_record, node_record
from models.graph.negatives import NegativeSampler
from models.graph.network import GraphModel
from models.graph.training import auc
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.catalog import get_method
from unlearning.errors import MethodError, MethodUnsuitableError

DATA_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "graph"
LINKS, NODES = "link_prediction", "node_classification"
METHODS: Mapping[str, Mapping[str, Any]] = {
    "drop_edges": {},
    "d2dgn": {},
    "d2dgn, paper": {
        "calibration": "paper",
        "response_loss": "kl",
        "alpha": 0.9,
        "epochs": 30,
        "learning_rate": 1e-3,
    },
    "gnndelete": {},
    "gnndelete, paper": {"calibration": "paper"},
    "gif": {},
    "gradient_ascent": {},
    "finetune": {},
}
"""What stands in the table beside the original and retraining, and its parameters; the method's name comes first."""
FIGURES = ("et", "ed", "deleted_vs_non_edges_auc", "accuracy", "deleted_cross_entropy", "membership_auc")
HELD_OUT = {LINKS: 0.1, NODES: 0.2}
"""Share of edges or nodes held out; half of it is validation, half test."""


@dataclass(frozen=True)
class Case:
    """One network on one graph, and what is deleted from it."""

    data: str
    architecture: str
    task: str
    deletions: tuple[str, ...]
    """`edges 2.5%`, `nodes 100`, `nodes 5%`, or a targeted choice such as `hubs`."""
    references: int = 3
    """Retrained models for each draw; two where training takes long: six different seeds over three draws."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    cases: tuple[Case, ...]
    draws: int
    recipe: Mapping[str, Any]
    processes: int


_EDGES = ("edges 0.5%", "edges 2.5%", "edges 5%")
_NODES = ("nodes 100", "nodes 5%")
_TARGETED = ("hubs", "community", "memorised")
FULL = Sizes(
    (
        # The longest first, so that two processes end together.
        Case("dblp", "gcn", LINKS, _EDGES, references=2),
        Case("dblp", "gcn", NODES, _NODES, references=2),
        Case("cora", "gat", LINKS, _EDGES, references=2),
        *(Case("cora", name, LINKS, _EDGES) for name in ("gin", "sage")),
        Case("cora", "gcn", LINKS, (*_EDGES, *_TARGETED)),
        Case("citeseer", "gcn", LINKS, (*_EDGES, *_TARGETED)),
        *(Case("cora", name, NODES, _NODES) for name in ("gat", "gin", "sage")),
        Case("cora", "gcn", NODES, (*_NODES, "adversarial")),
        Case("citeseer", "gcn", NODES, (*_NODES, "adversarial")),
    ),
    draws=3,
    recipe={},
    processes=2,
)
QUICK = Sizes(
    (
        Case("made", "gcn", LINKS, ("edges 5%", "hubs"), references=2),
        Case("made", "gcn", NODES, ("nodes 5%", "adversarial"), references=2),
    ),
    draws=1,
    recipe={"hidden": [32, 16], "epochs": 60, "patience": 20},
    processes=1,
)


def silent(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Take no notice of progress."""


def load_graph(name: str, task: str, folder: Path, seed: int = 0) -> GraphData:
    """Read one of the graphs, and hold a share of its edges or nodes out.

    Args:
        name: Of the file, or `made` for a small graph that is drawn.
        task: Decides what is held out.
        folder: Where the files are.
        seed: Of the split.
    """
    features, labels, edges = made_graph() if name == "made" else read_graph(folder / f"{name}.npz")
    nodes, count = len(labels), edges.shape[1]
    generator = torch.Generator().manual_seed(seed)
    held_nodes, held_edges = torch.zeros(nodes, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    held, total = (held_edges, count) if task == LINKS else (held_nodes, nodes)
    held[torch.randperm(total, generator=generator)[: int(HELD_OUT[task] * total)]] = True
    return GraphData(
        node_ids=tuple(map(str, range(nodes))),
        features=features,
        feature_names=tuple(f"f{column}" for column in range(features.shape[1])),
        labels=labels,
        classes=tuple(map(str, range(int(labels.max()) + 1))),
        held_out_nodes=held_nodes,
        edges=edges,
        held_out_edges=held_edges,
        relations=torch.zeros(count, dtype=torch.int64),
        edge_classes=(),
        directed=False,
    )


def read_graph(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return features (n, width), labels (n,) and edges (2, e), each once and none from a node to itself."""
    with np.load(path, allow_pickle=False) as file:
        parts = (file["x_data"], file["x_indices"], file["x_indptr"])
        features = csr_matrix(parts, shape=tuple(file["x_shape"])).toarray().astype(np.float32)
        labels, edges = file["y"].astype(np.int64), file["edges"].astype(np.int64)
    ordered = torch.from_numpy(edges).sort(dim=0).values
    return (
        torch.from_numpy(features),
        torch.from_numpy(labels),
        torch.unique(ordered[:, ordered[0] != ordered[1]], dim=1),
    )


def made_graph(nodes: int = 300, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a graph whose nodes have words and neighbours mostly of their own class, for a smoke test."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (nodes,), generator=generator)
    like = labels[:, None] == labels[None, :]
    chance = torch.where(like, 0.04, 0.004)
    edges = (torch.rand(nodes, nodes, generator=generator) < chance).triu(1).nonzero().T.contiguous()
    own = (torch.arange(60) % classes)[None, :] == labels[:, None]
    words = torch.rand(nodes, 60, generator=generator) < torch.where(own, 0.15, 0.05)
    return words.float(), labels, edges


def deletion(data: GraphData, model: GraphModel, what: str, seed: int) -> ForgetSet:
    """Choose what to delete.

    Args:
        data: The whole graph.
        model: The original: the `memorised` and `adversarial` choices ask it.
        what: As in `Case.deletions`.
        seed: Of random choices.
    """
    generator = torch.Generator().manual_seed(7000 + seed)
    edges, nodes = data.training_edges(), data.training_nodes()
    if what.startswith("edges"):
        chosen = torch.randperm(edges.shape[1], generator=generator)[: _count(what, edges.shape[1])]
        return _edges(data, edges[:, chosen])
    if what.startswith("nodes"):
        chosen = torch.randperm(len(nodes), generator=generator)[: _count(what, len(nodes))]
        return _nodes(data, nodes[chosen])
    share = int(0.025 * edges.shape[1])
    match what:
        case "hubs":
            degrees = torch.bincount(edges.flatten(), minlength=data.nodes)
            score = degrees[edges].sum(dim=0)
        case "community":
            score = _inside(data, edges, share)
        case "memorised":
            score = memorisation(data, model)
        case _:
            return _nodes(data, most_harmful(model, data, 100 if data.nodes > 1000 else 20))
    return _edges(data, edges[:, score.argsort(descending=True, stable=True)[:share]])


def memorisation(data: GraphData, model: GraphModel) -> Tensor:
    """Score how much of each training edge's logit goes with its own message: shape (edges,).

    The logit on the whole graph, less that on a graph without a tenth of the edges, this one among them.
    """
    edges = data.training_edges()
    known = model.edge_logits(model.embeddings(data), edges)
    apart = torch.zeros_like(known)
    for part in torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(0)).tensor_split(10):
        rest = data.without(_edges(data, edges[:, part]).record_ids)
        apart[part] = model.edge_logits(model.embeddings(rest), edges[:, part])
    return known - apart


def most_harmful(model: GraphModel, data: GraphData, count: int) -> Tensor:
    """Choose training nodes whose removal hurts most by a gradient score: positions, shape (count,).

    A node's training gradient that points the way of the validation loss's gradient is one the model leans on: to
    first order its removal raises the validation loss by the inner product of the two (the influence function with the
    Hessian left out). Gradients are those of the head, on the embeddings as they are.
    """
    embeddings = model.embeddings(data)
    labels = data.labels_among(model.classes)
    known, held_out = data.training_nodes(), data.calibration_nodes()
    errors = model.node_logits(embeddings).softmax(dim=1)
    errors[labels >= 0] -= functional.one_hot(labels[labels >= 0], len(model.classes)).to(errors.dtype)
    # A linear head's gradient on one node is errorᵀ · embedding.
    validation = errors[held_out].T @ embeddings[held_out] / len(held_out)  # (classes, d)
    alike = ((errors[known] @ validation) * embeddings[known]).sum(dim=1)
    return known[alike.argsort(descending=True, stable=True)[:count]]


def _inside(data: GraphData, edges: Tensor, count: int) -> Tensor:
    """Score edges by how near both ends are to the best connected node, so that its community's come first."""
    distance = torch.full((data.nodes,), data.nodes)
    distance[torch.bincount(edges.flatten(), minlength=data.nodes).argmax()] = 0
    for hop in range(1, 20):
        reached = (distance[edges] < hop).any(dim=0)
        distance[edges[:, reached].flatten()] = distance[edges[:, reached].flatten()].clamp(max=hop)
        if int((distance[edges] <= hop).all(dim=0).sum()) >= count:
            break
    return -distance[edges].sum(dim=0)


def _count(what: str, of: int) -> int:
    """Read how many.

    >>> _count("edges 2.5%", 1000), _count("nodes 100", 1000)
    (25, 100)
    """
    number = what.split()[1]
    return int(float(number[:-1]) / 100 * of) if number.endswith("%") else int(number)


def _edges(data: GraphData, pairs: Tensor) -> ForgetSet:
    names = data.node_ids
    return ForgetSet(
        tuple(sorted(edge_record(names[u], names[v], directed=data.directed) for u, v in pairs.T.tolist()))
    )


def _nodes(data: GraphData, places: Tensor) -> ForgetSet:
    return ForgetSet(tuple(sorted(node_record(data.node_ids[place]) for place in places.tolist())))


def quality(
    model: GraphModel, data: GraphData, forget: ForgetSet, *, untouched: bool = False
) -> dict[str, float]:
    """Measure what does not need a reference, on test edges or nodes and on what was deleted.

    Args:
        model: Of which version.
        data: The whole graph; messages pass along what is retained of it.
        forget: What was deleted: edges for link prediction, nodes for node classification.
        untouched: Let messages pass along the whole graph, as if nobody had asked.
    """
    retained, gone = data.without(forget.record_ids), data.elements(forget.record_ids)
    graph = data if untouched else retained
    with torch.no_grad():
        embeddings = model.embeddings(graph)
        if model.task == LINKS:
            # No node is deleted, so that positions are those of the whole graph.
            return _edge_quality(model, data, embeddings, retained.training_edges(), gone.edges)
        shown_again = model.node_logits(model.embeddings(data)[gone.nodes])
        logits = model.node_logits(embeddings[graph.audit_nodes()])
    labels, known = data.labels_among(model.classes)[gone.nodes], graph.labels_among(model.classes)
    known = known[graph.audit_nodes()]
    return {
        "accuracy": float((logits.argmax(dim=1) == known).double().mean()),
        "deleted_cross_entropy": float(functional.cross_entropy(shown_again, labels)),
        "membership_auc": auc(logit_margins(shown_again, labels), logit_margins(logits, known)),
    }


def _edge_quality(
    model: GraphModel, data: GraphData, embeddings: Tensor, retained: Tensor, deleted: Tensor
) -> dict[str, float]:
    test = data.audit_edges()
    sampler = NegativeSampler(data.edges, data.nodes, directed=data.directed)
    others = sampler.sample(10 * test.shape[1], torch.Generator().manual_seed(99))
    of_test, of_others, of_retained, of_deleted = (
        model.edge_logits(embeddings, pairs) for pairs in (test, others, retained, deleted)
    )
    return {
        "et": auc(of_test, of_others),
        "ed": auc(of_retained, of_deleted),
        "deleted_vs_non_edges_auc": auc(of_deleted, of_others),
        "membership_auc": auc(of_deleted, of_test),
    }


class BestEpoch:
    """Takes note of when the best epoch by validation was over; used as a method's progress."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._best = -1.0
        self._seconds: float | None = None

    def __call__(
        self, _stage: str, _step: int, _of: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Take note of one step."""
        score = (figures or {}).get("validation score")
        if score is not None and score > self._best:
            self._best, self._seconds = score, time.perf_counter() - self._started

    @property
    def seconds(self) -> float:
        """Until the best epoch was over; until now where no epochs were scored."""
        return time.perf_counter() - self._started if self._seconds is None else self._seconds


def measure_case(case: Case, sizes: Sizes, folder: Path) -> list[dict[str, Any]]:
    """Measure one network on one graph: a row for each deletion and method."""
    torch.set_num_threads(1)  # as the methods compute: everything is then timed alike
    graphs = [load_graph(case.data, case.task, folder, seed) for seed in range(sizes.draws)]
    recipe = {**sizes.recipe, "architecture": case.architecture, "task": case.task}
    originals = [
        architectures.train(data, recipe, seed=seed, progress=silent) for seed, data in enumerate(graphs)
    ]
    rows: list[dict[str, Any]] = []
    for what in case.deletions:
        random = what.startswith(("edges", "nodes"))
        collected: dict[str, list[dict[str, Any]]] = {}
        for draw in range(sizes.draws if random else 1):
            original, data = originals[draw], graphs[draw]
            forget = deletion(data, original, what, draw)
            for name, figures in measure_draw(original, data, forget, case.references, draw):
                collected.setdefault(name, []).append(figures)
        about: dict[str, Any] = {
            "data": case.data,
            "architecture": case.architecture,
            "task": case.task,
            "deleted": what,
        }
        about["references_per_draw"] = case.references
        rows.extend({**about, "method": name, **average(each)} for name, each in collected.items())
    return rows


def measure_draw(
    original: GraphModel, data: GraphData, forget: ForgetSet, references: int, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Retrain with several seeds, run every method once, and yield each row's name and figures."""
    visible = data.for_methods()
    retrained = [
        _run("retrain", {}, original, visible, forget, 1000 * (seed + 1) + reference)
        for reference in range(references)
    ]
    if any(model is None for model, _ in retrained):
        raise RuntimeError("there is no reference: retraining itself declined")
    known = [quality(model, data, forget) for model, _ in retrained if model is not None]
    seconds = statistics.fmean(figures["seconds"] for _, figures in retrained)
    yield "original", compared(quality(original, data, forget, untouched=True), known)
    first = {**retrained[0][1], "seconds": seconds, "speedup": 1.0}
    yield "retrain", {**compared(known[0], known[1:]), **first}
    for name, parameters in METHODS.items():
        method = name.split(",")[0]
        if original.task == LINKS and method == "gif":
            continue  # for node deletion alone
        model, figures = _run(method, parameters, original, visible, forget, seed)
        if model is not None:
            figures["speedup"] = seconds / figures["seconds"]
            figures.update(compared(quality(model, data, forget), known))
        yield name, figures


def compared(figures: Mapping[str, float], references: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Set figures beside their distances to the references' mean, which keep their sign here.

    >>> compared({"et": 0.75}, [{"et": 0.5}, {"et": 0.75}])
    {'et': 0.75, 'et_gap': 0.125}
    """
    means = {name: statistics.fmean(each[name] for each in references) for name in figures}
    return {**figures, **{f"{name}_gap": figures[name] - means[name] for name in figures}}


def average(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average one row over the draws that gave a model; say how many did not, and why at last.

    A gap becomes the distance of the averages, and beside it stands the average distance of single draws.

    >>> row = average([{"et_gap": 0.5}, {"et_gap": -0.25}, {"seconds": 8.0, "declined": "No."}])
    >>> row["et_gap"], row["et_gap_per_draw"], row["draws"], row["declined"], row["reason"]
    (0.125, 0.375, 2, 1, 'No.')
    """
    runs = [figures for figures in each if "declined" not in figures]
    reasons = [figures["declined"] for figures in each if "declined" in figures]
    row: dict[str, Any] = {
        f"{name}{suffix}": None for name in FIGURES for suffix in ("", "_gap", "_gap_per_draw")
    }
    row |= {"seconds": None, "speedup": None, "peak_mb": None}
    for name in runs[0] if runs else ():
        values = [run[name] for run in runs]
        if any(value is None for value in values):
            continue
        mean = statistics.fmean(values)
        row[name] = mean
        if name.endswith("_gap"):
            row[name] = abs(mean)
            row[f"{name}_per_draw"] = statistics.fmean(map(abs, values))
    reason = reasons[-1] if reasons else None
    return {**row, "draws": len(runs), "declined": len(reasons), "reason": reason}


def _run(
    method: str,
    parameters: Mapping[str, Any],
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    seed: int,
) -> tuple[Any | None, dict[str, Any]]:
    """Run one method; return its model, and its time and memory, or None and why there is none."""
    spec = get_method("graph", method)
    memory, clock = PeakMemory(), BestEpoch()
    try:
        result = spec.load()(
            model,
            data,
            forget,
            spec.configure(dict(parameters)),
            generator=torch.Generator().manual_seed(seed),
            progress=clock,
        )
    except (MethodUnsuitableError, MethodError) as error:
        return None, {"seconds": clock.seconds, "declined": str(error)}
    seconds = clock.seconds
    return result, {"seconds": seconds, "peak_mb": memory.grown_mb()}


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Measure all cases, several processes at a time where `sizes` say so."""
    if sizes.processes == 1:
        measured = [measure_case(case, sizes, folder) for case in sizes.cases]
    else:
        # A fresh process for each case: no case's peak memory is another's.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(sizes.processes, mp_context=context, max_tasks_per_child=1) as pool:
            futures = [pool.submit(measure_case, case, sizes, folder) for case in sizes.cases]
            measured = [future.result() for future in futures]
    return {
        "draws": sizes.draws,
        "recipe": dict(sizes.recipe),
        "rows": [row for rows in measured for row in rows],
    }


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table for each network, graph and deletion."""
    columns = {
        LINKS: ("et", "ed", "et_gap", "ed_gap", "deleted_vs_non_edges_auc", "membership_auc"),
        NODES: (
            "accuracy",
            "accuracy_gap",
            "deleted_cross_entropy",
            "deleted_cross_entropy_gap",
            "membership_auc",
        ),
    }
    spent = ("seconds", "speedup", "peak_mb")
    titles = list(dict.fromkeys(_title(row) for row in rows))
    for title in titles:
        own = [row for row in rows if _title(row) == title]
        names = (*columns[own[0]["task"]], *spent)
        table = Table("method", *(name.replace("_", " ") for name in names), title=title)
        for row in own:
            cells = ["" if row[name] is None else f"{row[name]:.3g}" for name in names]
            table.add_row(row["method"], *(["declined"] if not row["draws"] else cells))
        Console(width=130).print(table)


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['data']}, {row['architecture']}, {row['task']}, {row['deleted']}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one small graph that is drawn: a smoke test")
    parser.add_argument("--data", type=Path, default=DATA_FOLDER, help="folder of cora.npz and the others")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    figures = {**measure(sizes, options.data), "environment": environment()}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print_rows(figures["rows"])
    print_table(figures["environment"])


if __name__ == "__main__":
    main()
