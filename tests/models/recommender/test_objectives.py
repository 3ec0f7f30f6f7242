"""Every objective against its formula, written out with loops in float64."""

import math
from types import SimpleNamespace

import pytest
import torch

from models.recommender.interaction_graph import InteractionGraph
from models.recommender.lightgcl import LightGcl, low_rank
from models.recommender.lightgcn import LightGcn
from models.recommender.neural_configuration import (
    LightGclRecipe,
    LightGcnRecipe,
    SimGclRecipe,
    UltraGcnRecipe,
)
from models.recommender.objectives import at_most, bpr_loss, info_nce
from models.recommender.simgcl import SimGcl, perturbed
from models.recommender.ultragcn import UltraGcn, similar_items
from tests.reference.lightgcn import StraightforwardLightGcn

PAIRS = [(0, 0), (0, 1), (0, 4), (1, 1), (1, 2), (2, 0), (2, 1), (2, 3), (3, 2), (3, 4), (3, 5)]
EDGES = torch.tensor(PAIRS)
GRAPH = InteractionGraph(4, 6, EDGES[:, 0], EDGES[:, 1])
BATCH = (torch.tensor([0, 0, 2, 3]), torch.tensor([1, 4, 3, 2]))


def factors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, generator=generator) / 2, torch.randn(6, 3, generator=generator) / 2


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def fixed_negatives(objective, negatives):
    """Let an objective draw what the test knows."""
    object.__setattr__(
        objective, "_negatives", SimpleNamespace(draw=lambda users, generator: torch.tensor(negatives))
    )
    return objective


def test_lightgcn_has_the_straightforward_implementations_loss_and_gradient():
    recipe = LightGcnRecipe(width=3, weight_decay=0.3)
    slow = StraightforwardLightGcn(4, 6, PAIRS, width=3, weight_decay=0.3)
    negatives = [2, 5, 4, 0]
    triples = list(zip(BATCH[0].tolist(), BATCH[1].tolist(), negatives, strict=True))
    expected = slow.loss(triples)
    expected.backward()
    users, items = (
        tensor.detach().clone().requires_grad_() for tensor in (slow.user_embedding, slow.item_embedding)
    )
    objective = fixed_negatives(LightGcn(recipe, GRAPH), negatives)
    loss = objective.loss(users, items, BATCH, generator())
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(users.grad, slow.user_embedding.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(items.grad, slow.item_embedding.grad, rtol=1e-4, atol=1e-7)
    for mine, theirs in zip(objective.embed(users, items), slow.propagate(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_ranking_loss_does_not_overflow():
    assert bpr_loss(torch.tensor([-1e4]), torch.tensor([1e4])).item() == pytest.approx(2e4)
    assert bpr_loss(torch.tensor([1e4]), torch.tensor([-1e4])).item() == 0.0


def test_contrast_is_least_where_views_agree():
    view = torch.randn(6, 4, generator=generator())
    assert info_nce(view, view, 0.2) < info_nce(view, view.roll(1, 0), 0.2)
    torch.testing.assert_close(
        info_nce(view, view * 7, 0.2), info_nce(view, view, 0.2)
    )  # cosines have no length


def test_no_more_rows_are_contrasted_than_are_allowed():
    rows = torch.arange(10, 30)
    chosen = at_most(rows, 6, generator()).tolist()
    assert len(set(chosen)) == 6
    assert set(chosen) <= set(rows.tolist())
    assert at_most(rows, 6, generator(4)).tolist() != chosen
    assert at_most(rows, 20, generator()) is rows
    users, items = factors()
    recipes = [
        SimGclRecipe(width=3, contrast_weight=1.0, noise=0.0, contrast_rows=count) for count in (2, 100)
    ]
    few, all_of_them = (
        fixed_negatives(SimGcl(recipe, GRAPH), [2, 5, 4, 0]).loss(users, items, BATCH, generator()).item()
        for recipe in recipes
    )
    assert few < all_of_them  # the fewer there are, the easier each is told from the others


def test_noise_has_its_length_and_stays_in_the_embeddings_orthant():
    embeddings = torch.randn(50, 8, generator=generator(1))
    noise = perturbed(embeddings, 0.1, generator()) - embeddings
    torch.testing.assert_close(noise.norm(dim=1), torch.full((50,), 0.1))
    assert ((noise.sign() == embeddings.sign()) | (noise.abs() < 1e-6)).all()


def test_simgcl_leaves_the_initial_embeddings_out_and_is_lightgcn_without_contrast():
    users, items = factors()
    recipe = SimGclRecipe(width=3, layers=2, contrast_weight=0.0)
    one = GRAPH.step(users, items)
    two = GRAPH.step(*one)
    final = SimGcl(recipe, GRAPH).embed(users, items)
    torch.testing.assert_close(final[0], (one[0] + two[0]) / 2)
    torch.testing.assert_close(final[1], (one[1] + two[1]) / 2)
    negatives = [2, 5, 4, 0]
    bare = fixed_negatives(SimGcl(recipe, GRAPH), negatives).loss(users, items, BATCH, generator())
    scores = final[0] @ final[1].T
    ranking = sum(
        math.log1p(math.exp(scores[user, other] - scores[user, item]))
        for user, item, other in zip(BATCH[0], BATCH[1], negatives, strict=True)
    )
    squares = sum(
        users[user].square().sum() + items[item].square().sum() + items[other].square().sum()
        for user, item, other in zip(BATCH[0], BATCH[1], negatives, strict=True)
    )
    assert bare.item() == pytest.approx(float(ranking) / 4 + 1e-4 * float(squares) / 8, rel=1e-5)


def test_simgcl_adds_the_contrast_of_two_noisy_views():
    users, items = factors()
    recipes = [SimGclRecipe(width=3, layers=2, contrast_weight=weight) for weight in (0.0, 0.5, 1.0)]
    losses = [
        fixed_negatives(SimGcl(recipe, GRAPH), [2, 5, 4, 0]).loss(users, items, BATCH, generator()).item()
        for recipe in recipes
    ]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-5)
    # Without noise both views are the same, so what is left is the spread of one view.
    silent = SimGcl(SimGclRecipe(width=3, layers=2, contrast_weight=1.0, noise=0.0), GRAPH)
    final = silent.embed(users, items)
    bare = fixed_negatives(SimGcl(recipes[0], GRAPH), [2, 5, 4, 0]).loss(users, items, BATCH, generator())
    contrast = sum(
        info_nce(side[rows], side[rows], 0.2)
        for side, rows in zip(final, (torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3, 4])), strict=True)
    )
    whole = fixed_negatives(silent, [2, 5, 4, 0]).loss(users, items, BATCH, generator())
    torch.testing.assert_close(whole, bare + contrast)


def test_ultragcn_is_what_its_formulas_say():
    recipe = UltraGcnRecipe(
        width=3, negatives=5, negative_weight=2.0, base_weight=0.3, constraint_weight=0.7,
        item_weight=0.4, item_neighbours=2, weight_decay=0.01,
    )  # fmt: skip
    users, items = factors()
    pool = torch.randint(6, (5,), generator=generator()).tolist()
    user_degrees = [sum(user == each for each, _ in PAIRS) for user in range(4)]
    item_degrees = [sum(item == each for _, each in PAIRS) for item in range(6)]

    def weight(user, item):
        beta = math.sqrt(user_degrees[user] + 1) / user_degrees[user] / math.sqrt(item_degrees[item] + 1)
        return 0.3 + 0.7 * beta

    def score(user, item):
        return float(users[user].double() @ items[item].double())

    neighbours, omega = similar_items(GRAPH, 2)
    expected = 0.005 * float(users.square().sum() + items.square().sum())
    for user, item in zip(*(side.tolist() for side in BATCH), strict=True):
        expected += weight(user, item) * math.log1p(math.exp(-score(user, item)))
        expected += (
            2.0 * sum(weight(user, other) * math.log1p(math.exp(score(user, other))) for other in pool) / 5
        )
        for near, strength in zip(neighbours[item].tolist(), omega[item].tolist(), strict=True):
            expected += 0.4 * strength * math.log1p(math.exp(-score(user, near)))
    loss = UltraGcn(recipe, GRAPH).loss(users, items, BATCH, generator())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert UltraGcn(recipe, GRAPH).embed(users, items) == (users, items)


def test_similar_items_are_those_most_often_taken_together():
    common = [
        [sum((user, i) in PAIRS and (user, j) in PAIRS for user in range(4)) for j in range(6)]
        for i in range(6)
    ]
    sums = [sum(row) for row in common]
    neighbours, omega = similar_items(GRAPH, 3)
    for item in range(6):
        expected = {
            other: common[item][other]
            / (sums[item] - common[item][item])
            * math.sqrt(sums[item] / sums[other])
            for other in range(6)
            if other != item
        }
        best = sorted(expected.values(), reverse=True)[:3]
        assert omega[item].tolist() == pytest.approx(best, rel=1e-5)
        for other, strength in zip(neighbours[item].tolist(), omega[item].tolist(), strict=True):
            assert strength == 0 or strength == pytest.approx(expected[other], rel=1e-5)


def test_an_item_that_goes_with_nothing_has_no_similar_ones():
    alone = InteractionGraph(2, 3, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]))
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(similar_items(alone, 2)[1], expected)


def test_lightgcls_low_rank_is_the_leading_part_of_the_singular_value_decomposition():
    matrix = torch.from_numpy(GRAPH.to_users.toarray()).double()
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    expected = left[:, :2] * singular[:2] @ right[:2]
    users, items = low_rank(GRAPH, 2)
    torch.testing.assert_close((users @ items.T).double(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no rank beyond 3"):
        low_rank(GRAPH, 4)


def test_lightgcl_is_what_its_formulas_say():
    recipe = LightGclRecipe(
        width=3, layers=2, contrast_weight=0.5, temperature=0.7, rank=2, weight_decay=0.01
    )
    users, items = factors()
    negatives = [2, 5, 4, 0]
    one = GRAPH.step(users, items)
    two = GRAPH.step(*one)
    local = users + one[0] + two[0], items + one[1] + two[1]
    left, right = low_rank(GRAPH, 2)
    approximation = left @ right.T
    broad = (
        users + approximation @ items + approximation @ one[1],
        items + approximation.T @ users + approximation.T @ one[0],
    )
    scores = local[0] @ local[1].T
    expected = sum(
        math.log1p(math.exp(scores[user, other] - scores[user, item])) / 4
        for user, item, other in zip(BATCH[0], BATCH[1], negatives, strict=True)
    )
    expected += 0.01 * float(users.square().sum() + items.square().sum())
    for side, rows in ((0, [0, 2, 3]), (1, [0, 1, 2, 3, 4, 5])):
        mean = 0.0
        for row in rows:
            cosines = [
                float(torch.cosine_similarity(broad[side][row], other, dim=0)) / 0.7 for other in local[side]
            ]
            mean += -cosines[row] + math.log(sum(map(math.exp, cosines)))
        expected += 0.5 * mean / len(rows)
    objective = fixed_negatives(LightGcl(recipe, GRAPH), negatives)
    assert objective.loss(users, items, BATCH, generator()).item() == pytest.approx(float(expected), rel=1e-5)
    for mine, theirs in zip(objective.embed(users, items), local, strict=True):
        torch.testing.assert_close(mine, theirs)
