"""Interactions in memory: selections, halves and tables."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.recommender.data import RecommenderData
from models.recommender.pairs import interaction_id, parse_interaction_id
from tests.reference.recommender_data import random_interactions, table


def test_record_ids_are_compact_json_pairs():
    data = table([("b", "x"), ("a", 'q"')])
    assert data.ids == ('["b","x"]', '["a","q\\""]')
    assert [parse_interaction_id(name) for name in data.ids] == [("b", "x"), ("a", 'q"')]


@given(st.text(), st.text())
def test_any_two_strings_make_an_id_that_reads_back(user, item):
    assert parse_interaction_id(interaction_id(user, item)) == (user, item)


@pytest.mark.parametrize("text", ["", "[]", '["a"]', '["a", "b"]', '["a",1]', '["a","b","c"]', "7"])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_interaction_id(text)


def test_users_and_items_are_sorted_whatever_the_order_of_records():
    data = table([("b", "x"), ("a", "y"), ("b", "w")])
    assert (data.users, data.items) == (("a", "b"), ("w", "x", "y"))


def test_selections_keep_the_tables_and_the_order():
    data = table([("a", "x"), ("b", "y"), ("a", "y")])
    kept = data.without(['["a","x"]', '["nobody","x"]'])
    assert kept.ids == ('["b","y"]', '["a","y"]')
    assert kept.items == data.items
    assert data.only(['["a","x"]']).ids == ('["a","x"]',)
    assert data.missing(['["a","x"]', '["b","x"]']) == ['["b","x"]']


def test_learned_tables_name_only_who_is_in_training():
    data = table([("a", "x"), ("b", "y"), ("c", "z")], held_out=[("c", "x"), ("d", "z")])
    learned = data.without(['["c","z"]']).learned()
    assert learned.users == ("a", "b")
    assert learned.items == ("x", "y")
    assert learned.ids == ('["a","x"]', '["b","y"]')


def test_halves_part_the_held_out_interactions():
    data = random_interactions(users=30, items=20, share=0.4, held_out=0.5)
    calibration, audit = data.calibration(), data.audit()
    assert set(calibration.ids).isdisjoint(audit.ids)
    assert len(calibration) + len(audit) == int(data.held_out.sum()) > 20
    assert set(data.for_methods().ids) == set(data.ids).difference(audit.ids)


def test_the_matrix_holds_training_interactions_alone():
    data = table([("a", "y"), ("a", "x"), ("b", "y")], held_out=[("b", "x")])
    assert data.matrix().toarray().tolist() == [[1, 1], [0, 1]]


def test_the_digest_depends_on_what_is_learned_and_on_what_stops_training():
    data = random_interactions(users=30, items=20, share=0.4, held_out=0.5)
    assert data.training_digest() == data.without(data.audit().ids).training_digest()
    for part in (data.training(), data.calibration()):
        assert data.training_digest() != data.without(part.ids[:1]).training_digest()


def test_changes_name_what_to_unlearn_and_what_to_learn():
    before, after = table([("a", "x"), ("b", "y")]), table([("b", "y"), ("c", "x")])
    forgotten, learned = before.changes_to(after)
    assert (forgotten.ids, learned.ids) == (('["a","x"]',), ('["c","x"]',))


def test_a_selection_takes_times_along():
    data = RecommenderData(
        users=("a",),
        items=("x", "y"),
        user_index=torch.tensor([0, 0]),
        item_index=torch.tensor([0, 1]),
        timestamps=torch.tensor([1.0, 2.0], dtype=torch.float64),
        held_out=torch.tensor([False, True]),
    )
    assert data.training().timestamps.tolist() == [1.0]
    assert json.loads(data.calibration().ids[0] if len(data.calibration()) else data.audit().ids[0]) == [
        "a",
        "y",
    ]
