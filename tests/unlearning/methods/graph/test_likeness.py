import torch

from models.graph.adjacency import messages_along
from unlearning.methods.graph.likeness import edge_facts, expected_scores, node_facts


def generator():
    return torch.Generator().manual_seed(0)


def test_items_that_the_facts_explain_get_what_the_facts_say():
    known = torch.linspace(-1, 1, 40)[:, None]
    expected = expected_scores(known, 3 * known[:, 0], torch.tensor([[0.5], [-0.5]]), torch.zeros(2))
    torch.testing.assert_close(expected, torch.tensor([1.5, -1.5], dtype=torch.float64), atol=0.1, rtol=0)


def test_what_the_facts_leave_open_is_spread_as_among_the_known_items_in_the_items_own_order():
    facts = torch.zeros(400, 1)
    known = torch.randn(400, generator=generator())
    own = torch.tensor([9.0, 7.0, 8.0])
    expected = expected_scores(facts, known, torch.zeros(3, 1), own)
    wanted = torch.quantile(known.double(), torch.tensor([5 / 6, 1 / 6, 3 / 6], dtype=torch.float64))
    torch.testing.assert_close(expected, wanted, atol=1e-6, rtol=0)


def test_facts_beyond_the_known_ones_are_taken_for_the_nearest():
    known = torch.linspace(0, 1, 20)[:, None]
    far, near = (
        expected_scores(known, known[:, 0], torch.tensor([[at]]), torch.zeros(1)) for at in (50.0, 1.0)
    )
    assert torch.equal(far, near)


def test_one_known_item_and_facts_without_spread_are_no_division_by_zero():
    expected = expected_scores(
        torch.ones(1, 3), torch.tensor([2.0]), torch.ones(2, 3), torch.tensor([0.0, 1.0])
    )
    torch.testing.assert_close(expected, torch.full((2,), 2.0, dtype=torch.float64))


def test_ends_with_the_same_words_are_alike_whatever_the_direction():
    features = torch.eye(4).repeat(2, 8)  # nodes 0 and 4 have the same words, 0 and 1 none in common
    messages = messages_along(torch.tensor([[0, 1], [1, 0]]), 8)
    alike, apart, turned = edge_facts(
        features,
        messages,
        [torch.tensor([[0], [4]]), torch.tensor([[0], [1]]), torch.tensor([[4], [0]])],
        generator(),
    )
    assert alike.shape == (1, 6)
    assert alike[0, 0] > 0.99
    assert apart[0, 0] < 0.5
    assert torch.allclose(alike, turned)


def test_a_nodes_own_label_says_nothing_of_itself():
    """On the path 0-1-2 the node 1 hears of class 0 alone; over two hops 0 hears of 2 alone, not of itself."""
    messages = messages_along(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    labels = torch.tensor([0, 1, 0])
    [facts] = node_facts(
        messages, labels, torch.arange(3), [(torch.tensor([1, 0, 1]), torch.tensor([0, 0, 1]))]
    )
    assert facts[0, 0] == 1.0
    assert facts[2, 0] == 0.0
    assert facts[1, 1] == 1.0
    unknown = node_facts(
        messages, labels, torch.tensor([], dtype=torch.int64), [(torch.tensor([1]), torch.tensor([0]))]
    )
    assert unknown[0][0, :2].tolist() == [0.5, 0.5]
