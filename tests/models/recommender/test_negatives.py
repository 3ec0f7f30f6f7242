import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.negatives import NegativeSampler


def graph(users, items, pairs):
    edges = torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2)
    return InteractionGraph(users, items, edges[:, 0], edges[:, 1])


def draw(sampler, users, seed=0):
    return sampler.draw(torch.tensor(users), torch.Generator().manual_seed(seed)).tolist()


@given(
    items=st.integers(2, 9),
    pairs=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=30),
    seed=st.integers(0, 1000),
)
def test_a_negative_is_never_what_the_user_has_taken(items, pairs, seed):
    pairs = {(user, item) for user, item in pairs if item < items}
    sampler = NegativeSampler(graph(4, items, pairs))
    users = [user for user in range(4) for _ in range(20) if sampler.remaining[user] > 0]
    drawn = draw(sampler, users, seed) if users else []
    assert all(0 <= item < items for item in drawn)
    assert not pairs & set(zip(users, drawn, strict=True))


def test_every_other_item_is_drawn_equally_often():
    sampler = NegativeSampler(graph(2, 6, {(0, 0), (0, 3), (0, 5), (1, 2)}))
    assert sampler.remaining.tolist() == [3, 5]
    for user, others in ((0, [1, 2, 4]), (1, [0, 1, 3, 4, 5])):
        counts = torch.bincount(torch.tensor(draw(sampler, [user] * 30_000)), minlength=6)
        assert counts[others].sum() == 30_000
        expected = 30_000 / len(others)
        assert (counts[others] - expected).abs().max() < 5 * expected**0.5


def test_the_order_of_the_edges_does_not_matter():
    pairs = [(0, 4), (1, 1), (0, 0), (1, 0)]
    edges = torch.tensor(pairs)
    shuffled = NegativeSampler(InteractionGraph(2, 6, edges[:, 0], edges[:, 1]))
    assert draw(shuffled, [0, 1] * 50) == draw(NegativeSampler(graph(2, 6, pairs)), [0, 1] * 50)


def test_a_user_who_has_everything_is_refused():
    sampler = NegativeSampler(graph(2, 2, {(0, 0), (0, 1), (1, 0)}))
    with pytest.raises(ValueError, match="has taken every item"):
        draw(sampler, [1, 0])
    assert draw(sampler, [1]) == [1]


def test_nobody_needs_no_negatives():
    assert (
        NegativeSampler(graph(1, 2, {(0, 0)}))
        .draw(torch.tensor([], dtype=torch.int64), torch.Generator())
        .numel()
        == 0
    )
