from pathlib import Path

import pytest

from app.cli.errors import CommandError
from app.cli.target import read_parameters, read_target


def test_ids_come_from_arguments_and_file(tmp_path: Path):
    file = tmp_path / "ids"
    file.write_text("b\n\nc d\n")
    assert read_target("records", ["a"], file, None) == {"kind": "records", "ids": ["a", "b", "c d"]}


def test_pairs_are_split_at_the_colon():
    assert read_target("edges", ["a:b", "c:d"], None, None) == {
        "kind": "edges",
        "pairs": [["a", "b"], ["c", "d"]],
    }


def test_node_features_carry_their_features():
    target = read_target("node_features", ["n"], None, ["age"])
    assert target == {"kind": "node_features", "ids": ["n"], "features": ["age"]}


def test_examples_name_a_dataset():
    assert read_target("examples", ["d"], None, None) == {"kind": "examples", "dataset": "d"}


@pytest.mark.parametrize(("kind", "ids"), [("records", None), ("edges", ["a"]), ("edges", ["a:"])])
def test_what_names_nothing_is_refused(kind, ids):
    with pytest.raises(CommandError):
        read_target(kind, ids, None, None)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    file = tmp_path / "ids"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="not UTF-8"):
        read_target("records", None, file, None)


def test_parameters_are_json_or_text():
    assert read_parameters(["a=1", "b=x", "c=null", "d=a=b"]) == {"a": 1, "b": "x", "c": None, "d": "a=b"}


@pytest.mark.parametrize("assignment", ["a", "=1", ""])
def test_a_parameter_without_name_or_value_is_refused(assignment):
    with pytest.raises(CommandError):
        read_parameters([assignment])


def test_a_pair_whose_ids_have_colons_is_written_as_json():
    target = read_target("edges", ['["node:1","2"]', "1:2:3"], None, None)
    assert target["pairs"] == [["node:1", "2"], ["1", "2:3"]]
