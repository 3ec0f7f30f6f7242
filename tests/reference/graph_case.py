"""Small graphs of three communities, and networks that have memorised parts of them, for tests of audits."""

import dataclasses
from typing import Any

import torch

from models.contracts import ForgetSet
from models.graph import architectures
from models.graph.data import GraphData
from models.graph.elements import edge_record, node_record
from models.graph.negatives import NegativeSampler
from models.graph.network import GraphModel
from models.holdout import in_audit_half
from tests.reference.classifier_data import silent
from unlearning.audits.independent import external_method
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences, ReferenceTrainer
from unlearning.audits.report import Audit
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog.spec import Guarantee, MethodSpec

NODES = 400
CLASSES = ("bee", "cat", "dog")
RECIPES: dict[str, dict[str, Any]] = {
    # Nothing is held out for early stopping, so that every epoch is run and what is wrong is learned by heart.
    "nodes": {
        "task": "node_classification",
        "hidden": [32, 16],
        "epochs": 60,
        "dropout": 0.0,
        "weight_decay": 0.0,
    },
    "edges": {
        "task": "link_prediction",
        "hidden": [32, 16],
        "epochs": 60,
        "dropout": 0.0,
        "weight_decay": 0.0,
    },
}
STORE = InMemoryReferences()
"""Shared by all tests: references are told apart by their keys."""


def communities(task: str, *, seed: int = 0) -> GraphData:
    """Draw 400 nodes in three communities; what is held out is all of the audit half, about a quarter of everything."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(NODES) % len(CLASSES)
    chances = torch.where(labels[:, None] == labels, 0.03, 0.003)
    edges = (torch.rand(NODES, NODES, generator=generator) < chances).triu(1).nonzero().T.contiguous()
    features = torch.randn(NODES, 12, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, 12)
    names = tuple(f"n{place}" for place in range(NODES))
    nodes = torch.tensor([in_audit_half(node_record(name)) for name in names])
    pairs = torch.tensor(
        [
            in_audit_half(edge_record(names[one], names[other], directed=False))
            for one, other in edges.T.tolist()
        ]
    )
    halves = (torch.rand(size, generator=generator) < 0.6 for size in (NODES, edges.shape[1]))
    nodes, pairs = (mask & half for mask, half in zip((nodes, pairs), halves, strict=True))
    return GraphData(
        node_ids=names,
        features=features,
        feature_names=tuple(f"f{column}" for column in range(12)),
        labels=labels,
        classes=CLASSES,
        held_out_nodes=nodes,
        edges=edges,
        held_out_edges=pairs if task == "edges" else torch.zeros_like(pairs),
        relations=(labels[edges[0]] == labels[edges[1]]).to(torch.int64),
        edge_classes=("across", "within"),
        directed=False,
    )


def mislabelled(count: int = 40) -> tuple[GraphData, ForgetSet]:
    """Give training nodes wrong classes, to be forgotten."""
    data = communities("nodes")
    chosen = data.training_nodes()[:count]
    labels = data.labels.clone()
    labels[chosen] = (labels[chosen] + 1) % len(CLASSES)
    names = sorted(node_record(data.node_ids[place]) for place in chosen.tolist())
    return dataclasses.replace(data, labels=labels), ForgetSet(tuple(names))


def strange_edges(count: int = 60) -> tuple[GraphData, ForgetSet]:
    """Add training edges between nodes that have nothing to do with each other, to be forgotten."""
    data = communities("edges")
    sampler = NegativeSampler(data.edges, data.nodes, directed=False)
    drawn = sampler.sample(count, torch.Generator().manual_seed(3)).unique(dim=1)
    added = torch.zeros(drawn.shape[1], dtype=torch.int64)
    names = sorted(
        edge_record(data.node_ids[one], data.node_ids[other], directed=False)
        for one, other in drawn.T.tolist()
    )
    wider = dataclasses.replace(
        data,
        edges=torch.cat([data.edges, drawn], dim=1),
        held_out_edges=torch.cat([data.held_out_edges, added.bool()]),
        relations=torch.cat([data.relations, added]),
    )
    return wider, ForgetSet(tuple(names))


def train(data: GraphData, task: str, *, seed: int = 1, **recipe: Any) -> GraphModel:
    """Train by the task's recipe."""
    return architectures.train(data, {**RECIPES[task], **recipe}, seed=seed, progress=silent)


def retrain(parent: GraphModel, data: GraphData, forget: ForgetSet, *, seed: int = 123) -> GraphModel:
    """Train anew on what remains, by a seed that no reference has."""
    return architectures.retrain(parent, data.without(forget.record_ids), seed=seed, progress=silent)


class Runtime:
    """The graph family's, less everything that audits do not ask for."""

    retrain = staticmethod(architectures.retrain)
    recipe = staticmethod(architectures.recipe)
    untrained = staticmethod(architectures.untrained)


def audit(
    parent: GraphModel,
    candidate: Any,
    data: GraphData,
    forget: ForgetSet,
    *,
    policy: AuditPolicy | None = None,
    method: MethodSpec | None = None,
) -> Audit:
    """Audit a candidate as the pipeline does."""
    return get_suite("graph")(case(parent, candidate, data, forget, policy=policy, method=method))


def case(
    parent: GraphModel,
    candidate: Any,
    data: GraphData,
    forget: ForgetSet,
    *,
    policy: AuditPolicy | None = None,
    method: MethodSpec | None = None,
) -> Case:
    """Put together what an audit is given."""
    policy = policy or AuditPolicy()
    trainer = ReferenceTrainer(Runtime, lambda: parent, data, forget, policy, STORE, seed=3, progress=silent)  # type: ignore[arg-type]
    return Case(
        parent=parent,
        candidate=candidate,
        data=data,
        forget=forget,
        method=method or external_method("graph", Guarantee.EMPIRICAL),
        parameters={},
        seed=3,
        unlearning_seconds=0.5,
        progress=silent,
        policy=policy,
        references=trainer,
    )
