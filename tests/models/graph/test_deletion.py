import pytest
import torch

from models.graph.deletion import Deletion, deletions_of, node_keys

NAMES = ["a", "b", "c", "1", "node:1", "\ud800"]


def keys(*names):
    return node_keys(names).sort().values


def test_a_key_depends_on_the_id_alone_and_tells_ids_apart():
    together = node_keys(NAMES)
    assert together.tolist() == [node_keys([name]).item() for name in NAMES]
    assert len(set(together.tolist())) == len(NAMES)


def test_an_operator_finds_its_nodes_in_any_order_and_leaves_the_others_alone():
    deletion = Deletion([2 * torch.eye(2)], [keys("a", "c")])
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    names = node_keys(["c", "b", "a"])
    assert torch.equal(deletion(0, rows, names), torch.tensor([[2.0, 4.0], [3.0, 4.0], [10.0, 12.0]]))
    assert torch.equal(deletion(0, rows[1:2], names[1:2]), rows[1:2])
    assert torch.equal(rows, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))


def test_a_node_that_stands_there_twice_is_not_taken_for_one_that_is_concerned():
    deletion = Deletion([2 * torch.eye(1)], [keys(*(f"n{place}" for place in range(50)))])
    twice = node_keys([f"n{place}" for place in range(40, 60)]).repeat(2)
    expected = torch.ones(20, 1)
    expected[:10] = 2.0
    assert torch.equal(deletion(0, torch.ones(40, 1), twice), expected.repeat(2, 1))


def test_keys_further_apart_than_63_bits_are_still_sorted():
    """Subtracting them would overflow and make an ascending pair look descending."""
    far = torch.tensor([-(2**63), 2**63 - 1])
    assert torch.equal(Deletion([torch.eye(1)], [far]).keys(0), far)


@pytest.mark.parametrize(
    ("weight", "names", "fault"),
    [
        (torch.ones(2, 3), keys("a"), "not a square matrix"),
        (torch.eye(2), keys("a", "b").flip(0), "not distinct, sorted"),
        (torch.eye(2), keys("a", "a"), "not distinct, sorted"),
        (torch.eye(2), torch.tensor([1.0]), "not distinct, sorted int64"),
    ],
)
def test_what_is_no_operator_is_refused(weight, names, fault):
    with pytest.raises(ValueError, match=fault):
        Deletion([weight], [names])


def test_a_node_that_is_gone_is_no_longer_named():
    deletion = Deletion([torch.eye(2), torch.eye(3)], [keys("a", "b"), keys("b", "c")]).without(keys("b"))
    assert torch.equal(deletion.keys(0), keys("a"))
    assert torch.equal(deletion.keys(1), keys("c"))


def test_operators_are_read_back_in_their_order():
    deletions = [Deletion([number * torch.eye(2)], [keys("a")]) for number in range(12)]
    tensors = torch.nn.ModuleList(deletions).state_dict()
    read = deletions_of(tensors, 1)
    assert [deletion.weight(0)[0, 0].item() for deletion in read] == list(range(12))
    assert all(torch.equal(deletion.keys(0), keys("a")) for deletion in read)


@pytest.mark.parametrize("change", ["missing", "extra", "renamed"])
def test_a_checkpoint_with_other_tensors_is_refused(change):
    tensors = dict(torch.nn.ModuleList([Deletion([torch.eye(2)], [keys("a")])]).state_dict())
    if change == "extra":
        tensors["1.weight_0"] = torch.eye(2)
    else:
        tensor = tensors.pop("0.keys_0")
        if change == "renamed":
            tensors["0.keys_1"] = tensor
    with pytest.raises(ValueError, match="deletion tensor"):
        deletions_of(tensors, 1)
