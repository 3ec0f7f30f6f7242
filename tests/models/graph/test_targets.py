import numpy as np
import pytest

from models.graph.elements import edge_record, feature_record, node_record
from models.graph.snapshots import append, ingest, without
from models.graph.targets import absent, remembered, returning
from models.id_index import INDEX_NAME, IdIndex
from tests.reference.graph_files import small_graph, write_csv
from unlearning.errors import TargetError
from unlearning.targets import TARGET, count_records, missing_ids, resolve_target


@pytest.fixture
def snapshot(fresh):
    """Return a function that writes the small graph, or another, as a snapshot."""

    def write(graph=None):
        out = fresh()
        ingest((graph or small_graph()).write(fresh()), out, data_schema=None)
        return out

    return write


@pytest.fixture
def index(snapshot):
    with IdIndex.open(snapshot() / INDEX_NAME) as opened:
        yield opened


def target(kind, *ids, **fields):
    return TARGET.validate_python({"kind": kind, **({"ids": ids} if ids else {}), **fields})


RESOLVED = {
    "nodes": (target("nodes", "1", "node:x"), {node_record("1"), node_record("node:x")}, ()),
    "ids that look like numbers are strings": (target("nodes", "01"), {node_record("01")}, ()),
    "edges, in either direction": (
        target("edges", pairs=[["01", "1"], ["é", 'a "b", c']]),
        {edge_record("1", "01", directed=False), edge_record("é", 'a "b", c', directed=False)},
        (),
    ),
    "both directions of one edge": (
        target("edges", pairs=[["01", "1"], ["1", "01"]]),
        {edge_record("1", "01", directed=False)},
        (),
    ),
    "node features": (
        target("node_features", "1", "é", features=["f0", "f2"]),
        {feature_record(node, name) for node in ("1", "é") for name in ("f0", "f2")},
        (),
    ),
    "node classes": (target("node_classes", "math"), {node_record("1"), node_record("01")}, ("node:math",)),
    "edge classes": (
        target("edge_classes", "likes"),
        {edge_record("node:x", 'a "b", c', directed=False), edge_record("é", 'a "b", c', directed=False)},
        ("edge:likes",),
    ),
    "subjects": (target("subjects", "cy", "bob"), {node_record(name) for name in ("é", "10", "01")}, ()),
}


@pytest.mark.parametrize(("asked", "records", "classes"), RESOLVED.values(), ids=RESOLVED.keys())
def test_every_kind_of_target_comes_to_records(index, asked, records, classes):
    resolved = resolve_target("graph", index, asked)
    assert set(resolved.record_ids) == records
    assert resolved.classes == classes
    assert count_records("graph", index, asked) == len(records)
    assert missing_ids("graph", index, asked) == []


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        (target("nodes", "001", "1", "zz"), ["001", "zz"]),
        (target("edges", pairs=[["1", "zz"], ["1", "01"], ["é", "1"]]), ['["1","zz"]', '["é","1"]']),
        (target("edges", pairs=[["1", "1"]]), ['["1","1"]']),
        (target("node_features", "1", "zz", features=["f0", "f3"]), ["zz", "f3"]),
        (target("node_classes", "likes", "math"), ["likes"]),
        (target("edge_classes", "math", "cites"), ["math"]),
        (target("subjects", "zoe", "ann"), ["zoe"]),
    ],
)
def test_what_is_missing_is_named_as_the_client_wrote_it(index, asked, missing):
    assert missing_ids("graph", index, asked) == missing
    with pytest.raises(TargetError, match=f"{len(missing)} of the target's"):
        resolve_target("graph", index, asked)


def test_a_directed_edge_has_one_direction(snapshot):
    with IdIndex.open(snapshot(small_graph(directed=True)) / INDEX_NAME) as index:
        assert missing_ids("graph", index, target("edges", pairs=[["1", "01"], ["01", "1"]])) == [
            '["01","1"]'
        ]


def test_records_of_another_state_count_as_existing(snapshot, fresh):
    base, out = snapshot(), fresh()
    without(base, [node_record("1")], out)
    asked = target("edges", pairs=[["1", "01"], ["01", "node:x"]])
    with IdIndex.open(base / INDEX_NAME) as before, IdIndex.open(out / INDEX_NAME) as after:
        assert missing_ids("graph", after, asked) == ['["1","01"]']
        assert missing_ids("graph", after, asked, also=before) == []
        assert resolve_target("graph", after, asked, also=before).record_ids == (
            edge_record("01", "node:x", directed=False),
        )


@pytest.mark.parametrize("kind", ["records", "classes", "users"])
def test_kinds_of_other_families_are_refused(index, kind):
    with pytest.raises(TargetError, match=f"'graph' knows no targets of kind {kind}"):
        missing_ids("graph", index, target(kind, "1"))


def test_features_are_there_as_long_as_their_node_is(index):
    names = [
        feature_record("1", "f0"),
        feature_record("zz", "f0"),
        feature_record("1", "f9"),
        node_record("1"),
    ]
    assert absent(index, names) == names[1:3]


def known_to(record_ids):
    """Return a stand-in for the commitments that a data set keeps."""
    kept = set(remembered(record_ids))
    return lambda names: iter([name for name in names if name in kept])


def test_what_was_forgotten_is_noticed_when_it_comes_back(snapshot, fresh, tmp_path):
    base = snapshot()
    forgotten = [node_record("10"), edge_record("1", "01", directed=False), feature_record("é", "f1")]
    assert list(returning(base.joinpath, 0, known_to(forgotten))) == forgotten
    left = fresh()
    without(base, forgotten, left)
    assert list(returning(left.joinpath, 0, known_to(forgotten))) == []
    with IdIndex.open(left / INDEX_NAME) as index:
        known = index.records
    again = fresh()
    append(
        left, [write_csv(tmp_path / "e.csv", ["source", "target", "relation"], [["01", "1", "cites"]])], again
    )
    assert list(returning(again.joinpath, known, known_to(forgotten))) == forgotten[1:2]


def test_a_feature_that_stays_zero_does_not_come_back(snapshot):
    zero = feature_record("1", "f1")
    assert list(returning(snapshot().joinpath, 0, known_to([zero]))) == []


def test_names_of_features_can_be_given(fresh, tmp_path):
    files, out = small_graph().write(fresh()), fresh()
    np.savez(
        files[2],
        features=np.array(list(small_graph().features.values())),
        feature_names=["age", "01", "f0"],
    )
    ingest(files, out, data_schema=None)
    with IdIndex.open(out / INDEX_NAME) as index:
        asked = target("node_features", "1", features=["f0", "f1", "age"])
        assert missing_ids("graph", index, asked) == ["f1"]
    assert list(returning(out.joinpath, 0, known_to([feature_record("1", "f0")]))) == ['feature:["1","f0"]']
