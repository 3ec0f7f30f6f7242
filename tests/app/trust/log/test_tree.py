"""The log in the database: append-only, without gaps, and the tree that RFC 6962 says, on both databases."""

import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError

from app.tables import LogLeaf, LogSubtree
from app.trust.canonical import parse_canonical
from app.trust.log.merkle import ProofError, verify_consistency, verify_inclusion
from app.trust.log.tree import (
    Entry,
    append_leaf,
    append_leaves,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    log_root,
    log_size,
)
from tests.reference import merkle as slow

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def append(runtime, count, start=0):
    entries = [Entry("test", {"number": number}) for number in range(start, start + count)]
    with runtime.database.write() as session:
        return append_leaves(session, entries, NOW)


def payloads(session):
    return [leaf.payload.encode() for leaf in session.scalars(select(LogLeaf).order_by(LogLeaf.position))]


def test_an_empty_log_has_the_empty_root(runtime):
    with runtime.database.write() as session:
        assert append_leaves(session, [], NOW) == 0
        assert (log_size(session), log_root(session, 0)) == (0, slow.root([]))


def test_a_leaf_is_canonical_json_that_names_its_index(runtime):
    append(runtime, 3)
    with runtime.database.write() as session:
        assert append_leaf(session, "version", {"state": "published"}, NOW) == 3
    with runtime.database.read() as session:
        value = parse_canonical(session.get_one(LogLeaf, 3).payload.encode())
    assert value == {
        "body": {"state": "published"},
        "index": 3,
        "kind": "version",
        "time": "2026-03-01T12:00:00.000000+00:00",
    }


def test_roots_and_proofs_of_every_size_are_those_of_the_recursive_tree(runtime):
    for count, start in ((1, 0), (1, 1), (5, 2), (13, 7), (3, 20)):
        append(runtime, count, start)
    with runtime.database.read() as session:
        leaves = payloads(session)
        assert len(leaves) == log_size(session) == 23
        for size in range(24):
            root = log_root(session, size)
            assert root == slow.root(leaves[:size])
            for index in range(0, size, 4):
                proof = inclusion_proof(session, index, size)
                verify_inclusion(leaf_hash(leaves[index]), index, size, proof, root)
            for first in range(0, size + 1, 3):
                proof = consistency_proof(session, first, size)
                verify_consistency(first, size, proof, slow.root(leaves[:first]), root)


def test_a_proof_beyond_the_tree_is_refused(runtime):
    append(runtime, 2)
    with runtime.database.read() as session:
        with pytest.raises(ProofError):
            inclusion_proof(session, 2, 2)
        with pytest.raises(ProofError):
            consistency_proof(session, 3, 2)


def test_appending_and_proving_read_few_rows(runtime):
    append(runtime, 1000)
    queries = []
    event.listen(
        runtime.database.engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2])
    )
    append(runtime, 1, 1000)
    with runtime.database.read() as session:
        verify_inclusion(
            leaf_hash(session.get_one(LogLeaf, 517).payload.encode()),
            517,
            1001,
            inclusion_proof(session, 517, 1001),
            log_root(session, 1001),
        )
    assert len(queries) < 20


def test_a_rolled_back_append_leaves_no_gap(runtime):
    append(runtime, 3)
    with pytest.raises(RuntimeError), runtime.database.write() as session:
        append_leaf(session, "test", {}, NOW)
        raise RuntimeError
    append(runtime, 2, 3)
    with runtime.database.read() as session:
        assert [json.loads(leaf)["index"] for leaf in payloads(session)] == [0, 1, 2, 3, 4]


CHANGES = [
    "UPDATE log_leaves SET payload = '{}' WHERE position = 1",
    "DELETE FROM log_leaves WHERE position = 4",
    "DELETE FROM log_leaves",
    "UPDATE log_subtrees SET place = 9 WHERE level = 1",
    "DELETE FROM log_subtrees",
    "INSERT INTO log_leaves VALUES (6, 'test', '{}', '2026-01-01 00:00:00')",
    "INSERT INTO log_leaves VALUES (-1, 'test', '{}', '2026-01-01 00:00:00')",
    "INSERT INTO log_leaves VALUES (4, 'test', '{}', '2026-01-01 00:00:00')",
]
CHANGES_OF = {
    "sqlite": ["INSERT OR REPLACE INTO log_subtrees VALUES (1, 0, x'00')"],
    "postgresql": ["TRUNCATE log_leaves CASCADE", "TRUNCATE log_subtrees"],
}


def test_the_database_refuses_every_change_but_the_next_leaf(runtime, subtests):
    append(runtime, 5)
    with runtime.database.read() as session:
        before = payloads(session)
    for statement in [*CHANGES, *CHANGES_OF[runtime.database.dialect]]:
        with subtests.test(statement):
            with (
                pytest.raises(DBAPIError, match=r"never changed or deleted|not the next one"),
                runtime.database.write() as session,
            ):
                session.execute(text(statement))
            with runtime.database.read() as session:
                assert payloads(session) == before


def test_concurrent_appends_give_one_tree_without_gaps(runtime):
    """Eight writers of three leaves each, twelve times over; each leaf appears once, in its transaction's order."""
    barrier = threading.Barrier(8)

    def write(writer):
        barrier.wait()
        for turn in range(12):
            entries = [Entry("test", {"leaf": leaf, "turn": turn, "writer": writer}) for leaf in range(3)]
            with runtime.database.write() as session:
                first = append_leaves(session, entries, NOW)
                assert first % 3 == 0

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(write, writer) for writer in range(8)]:
            future.result()
    with runtime.database.read() as session:
        leaves = payloads(session)
        assert [json.loads(leaf)["index"] for leaf in leaves] == list(range(8 * 12 * 3))
        bodies = [json.loads(leaf)["body"] for leaf in leaves]
        assert [body["leaf"] for body in bodies] == [0, 1, 2] * 96
        for writer in range(8):
            mine = [body["turn"] for body in bodies if body["writer"] == writer]
            assert mine == [turn for turn in range(12) for _ in range(3)]
        assert log_root(session, len(leaves)) == slow.root(leaves)
        known = {(row.level, row.place) for row in session.scalars(select(LogSubtree))}
        assert len(known) == sum(len(leaves) >> level for level in range(1, 9))
