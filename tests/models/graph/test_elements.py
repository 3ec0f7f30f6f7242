import pytest

from models.graph.elements import Named, edge_record, feature_record, node_record, parse_records

STRANGE = ["1", "01", "node:x", 'edge:["a","b"]', '"', "[", "é", " ", "\\", "a,b"]


def test_every_id_has_a_name_of_its_own_that_reads_back():
    nodes = [node_record(name) for name in STRANGE]
    assert len(set(nodes)) == len(STRANGE)
    assert parse_records(nodes, directed=False).nodes == STRANGE
    pairs = [(one, other) for one in STRANGE for other in STRANGE if one != other]
    edges = [edge_record(*pair, directed=True) for pair in pairs]
    assert len(set(edges)) == len(pairs)
    assert parse_records(edges, directed=True).edges == pairs
    features = [feature_record(*pair) for pair in pairs]
    assert parse_records(features, directed=False).features == pairs


def test_both_directions_name_one_undirected_edge():
    assert edge_record("b", "a", directed=False) == edge_record("a", "b", directed=False)
    assert edge_record("b", "a", directed=True) != edge_record("a", "b", directed=True)


def test_ends_are_sorted_as_strings_not_as_numbers():
    assert edge_record("9", "10", directed=False) == 'edge:["10","9"]'


@pytest.mark.parametrize(
    "strange",
    [
        "r7",
        "edge:",
        "edge:a",
        'edge:["a"]',
        'edge:["a",1]',
        'edge:["a", "b"]',
        'edge:["b","a"]',
        'feature:["a","f0","f1"]',
        'feature:["\\u0061","f0"]',
    ],
)
def test_what_is_no_record_id_names_nothing(strange):
    assert parse_records([strange], directed=False) == Named()
