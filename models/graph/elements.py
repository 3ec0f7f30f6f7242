"""The names of a graph's nodes, edges and node features as records; torch-free.

The service knows records, each by one string. A graph's are `node:ID`, `edge:["U","V"]` and, for one feature of one
node, `feature:["ID","FEATURE"]`. Ids are any strings and stand in these names unchanged, so that the nodes "1", "01" and
"node:1" have three distinct ones. An undirected edge has one name, whichever end is given first.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

NODE: Final = "node:"
EDGE: Final = "edge:"
FEATURE: Final = "feature:"

_PAIR = 2
_JSON = json.JSONEncoder(
    ensure_ascii=False
)  # once: `json.dumps` makes one for every call that wants its letters as they are


@dataclass
class Named:
    """What some record ids name, by the ids that clients use."""

    nodes: list[str] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    features: list[tuple[str, str]] = field(default_factory=list)
    """A node and the name of a feature."""


def node_record(node: str) -> str:
    """Return the record id of a node.

    >>> node_record("007")
    'node:007'
    """
    return NODE + node


def edge_record(source: str, target: str, *, directed: bool) -> str:
    """Return the record id of an edge.

    >>> edge_record("b", "a", directed=False), edge_record("b", "a", directed=True)
    ('edge:["a","b"]', 'edge:["b","a"]')
    """
    ends = (source, target) if directed or source <= target else (target, source)
    return EDGE + pair_text(ends)


def edge_records(
    ids: Sequence[str], sources: Sequence[int], targets: Sequence[int], *, directed: bool
) -> list[str]:
    """Return the record ids of many edges between the nodes at these positions of `ids`.

    >>> edge_records(["b", "a"], [0], [1], directed=False)
    ['edge:["a","b"]']
    """
    quote: dict[int, str] = {place: quoted(ids[place]) for place in {*sources, *targets}}
    return [
        f"{EDGE}[{quote[source]},{quote[target]}]"
        if directed or ids[source] <= ids[target]
        else f"{EDGE}[{quote[target]},{quote[source]}]"
        for source, target in zip(sources, targets, strict=True)
    ]


def feature_record(node: str, feature: str) -> str:
    """Return the record id of one feature of one node.

    >>> feature_record("007", "f3")
    'feature:["007","f3"]'
    """
    return FEATURE + pair_text((node, feature))


def parse_records(record_ids: Iterable[str], *, directed: bool) -> Named:
    """Sort record ids by what they name; what is no record id of a graph names nothing.

    >>> parse_records(["node:1", 'edge:["a","b"]', "r7"], directed=False)
    Named(nodes=['1'], edges=[('a', 'b')], features=[])
    """
    named = Named()
    for record_id in record_ids:
        if record_id.startswith(NODE):
            named.nodes.append(record_id.removeprefix(NODE))
        elif record_id.startswith(EDGE):
            pair = _pair(record_id.removeprefix(EDGE))
            # One thing has one name: another spelling of an edge would pass for a second edge.
            if pair is not None and edge_record(*pair, directed=directed) == record_id:
                named.edges.append(pair)
        elif record_id.startswith(FEATURE):
            pair = _pair(record_id.removeprefix(FEATURE))
            if pair is not None and feature_record(*pair) == record_id:
                named.features.append(pair)
    return named


def quoted(name: str) -> str:
    """Return an id as it stands within the record id of an edge or a feature."""
    return _JSON.encode(name)


def pair_text(pair: tuple[str, str]) -> str:
    """Return a pair of ids as compact JSON.

    >>> pair_text(("007", "é"))
    '["007","é"]'
    """
    return f"[{quoted(pair[0])},{quoted(pair[1])}]"


def _pair(text: str) -> tuple[str, str] | None:
    try:
        pair = json.loads(text)
    except ValueError:
        return None
    if isinstance(pair, list) and len(pair) == _PAIR and all(isinstance(name, str) for name in pair):
        return pair[0], pair[1]
    return None
