"""What targets mean in a graph: from what clients write to record ids, and back; torch-free.

See `models.contracts.FamilyTargets`. The index notes whether edges have a direction and what the features are called.
A deleted node takes its edges along without their being listed: they are in every list of what is to be deleted by way
of their node, and none of them can come back without it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from models.contracts import Asked
from models.graph.elements import (
    EDGE,
    NODE,
    edge_record,
    feature_record,
    node_record,
    pair_text,
    parse_records,
)
from models.graph.feature_names import FeatureNames
from models.graph.records import GRAPH_NAME, feature_values
from models.id_index import INDEX_NAME, IdIndex

DIRECTED: Final = "directed"
"""The fact in a graph's index that says whether edges have a direction; the others are `FeatureNames`."""

_OF_FEATURES: Final = "features of "
"""Begins a name that is no record id: that of a node of which some feature was forgotten."""


def missing(index: IdIndex, asked: Asked) -> list[str]:
    """Return what the index does not know; see `models.contracts.FamilyTargets.missing`."""
    match asked.kind:
        case "subjects":
            return index.missing_subjects(asked.ids)
        case "nodes":
            return _missing_nodes(index, asked.ids)
        case "node_features":
            known = FeatureNames.from_facts(index.facts)
            return [
                *_missing_nodes(index, asked.ids),
                *(name for name in asked.features if name not in known),
            ]
        case "edges":
            gone = set(index.missing_records(_edges(index, asked)))
            pairs = zip(asked.pairs, _edges(index, asked), strict=True)
            return [pair_text(pair) for pair, record_id in pairs if record_id in gone]
        case "node_classes" | "edge_classes":
            prefix = _class_prefix(asked.kind)
            absent = index.missing_classes(prefix + name for name in asked.ids)
            return [name.removeprefix(prefix) for name in absent]
    raise ValueError(f"{asked.kind} are not targets of graphs")


def records(index: IdIndex, asked: Asked) -> set[str]:
    """Return the records that a target is about; see `models.contracts.FamilyTargets.records`."""
    match asked.kind:
        case "subjects":
            return set(index.records_of_subjects(asked.ids))
        case "nodes":
            return _held(index, map(node_record, asked.ids))
        case "node_features":
            known = FeatureNames.from_facts(index.facts)
            gone = set(_missing_nodes(index, asked.ids))
            return {
                feature_record(node, feature)
                for node in asked.ids
                if node not in gone
                for feature in asked.features
                if feature in known
            }
        case "edges":
            return _held(index, _edges(index, asked))
        case "node_classes" | "edge_classes":
            return set(index.records_of_classes(classes(asked)))
    raise ValueError(f"{asked.kind} are not targets of graphs")


def count(index: IdIndex, asked: Asked) -> int:
    """Count them without reading the ids of many; see `models.contracts.FamilyTargets.count`."""
    match asked.kind:
        case "subjects":
            return index.count_of_subjects(asked.ids)
        case "node_classes" | "edge_classes":
            return index.count_of_classes(classes(asked))
    return len(records(index, asked))


def classes(asked: Asked) -> tuple[str, ...]:
    """Return the classes that are forgotten whole, as the index names them: `node:LABEL`, `edge:RELATION`."""
    if asked.kind not in {"node_classes", "edge_classes"}:
        return ()
    return tuple(sorted(_class_prefix(asked.kind) + name for name in asked.ids))


def absent(index: IdIndex, record_ids: Collection[str]) -> list[str]:
    """Return the records that a snapshot does not hold; see `models.contracts.FamilyTargets.absent`."""
    named = parse_records(record_ids, directed=index.facts[DIRECTED])
    nodes = {node for node, _ in named.features}
    known, gone = FeatureNames.from_facts(index.facts), set(_missing_nodes(index, nodes))
    held = {
        feature_record(node, feature)
        for node, feature in named.features
        if node not in gone and feature in known
    }
    return index.missing_records(record_id for record_id in record_ids if record_id not in held)


def remembered(record_ids: Iterable[str]) -> Iterator[str]:
    """Return what is committed to for these records; see `models.contracts.FamilyTargets.remembered`.

    Beside a forgotten feature its node is remembered as one whose features must be looked at: otherwise every value of
    every new graph would have to be.
    """
    for record_id in record_ids:
        yield record_id
        for node, _ in parse_records([record_id], directed=True).features:
            yield _OF_FEATURES + node


def returning(
    fetch: Callable[[str], Path], start: int, forgotten: Callable[[Iterable[str]], Iterator[str]]
) -> Iterator[str]:
    """Yield what was forgotten and is there again; see `models.contracts.FamilyTargets.returning`."""
    with IdIndex.open(fetch(INDEX_NAME)) as index:
        yield from forgotten(index.record_ids(start))
        nodes = (name.removeprefix(NODE) for name in index.record_ids(start) if name.startswith(NODE))
        suspected = [
            name.removeprefix(_OF_FEATURES) for name in forgotten(_OF_FEATURES + node for node in nodes)
        ]
        if suspected:
            names = FeatureNames.from_facts(index.facts)
            yield from forgotten(
                feature_record(node, feature)
                for node, feature in feature_values(fetch(GRAPH_NAME), suspected, names)
            )


def _missing_nodes(index: IdIndex, nodes: Iterable[str]) -> list[str]:
    return [name.removeprefix(NODE) for name in index.missing_records(map(node_record, nodes))]


def _edges(index: IdIndex, asked: Asked) -> list[str]:
    return [edge_record(*pair, directed=index.facts[DIRECTED]) for pair in asked.pairs]


def _held(index: IdIndex, record_ids: Iterable[str]) -> set[str]:
    wanted = set(record_ids)
    return wanted.difference(index.missing_records(wanted))


def _class_prefix(kind: str) -> str:
    return NODE if kind == "node_classes" else EDGE
