import math

import pytest
import torch
from scipy.sparse import csr_array

from models.recommender import ranking
from models.recommender.ranking import ranking_quality, top_items


def sparse(rows):
    return csr_array(torch.tensor(rows, dtype=torch.float32).numpy())


SCORES = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.9]])
SEEN = sparse([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
WANTED = sparse([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]])


def test_recall_and_gain_are_what_a_hand_works_out():
    # User 0: the seen item 0 is left out, so 1 and 2 are in front: one of two wanted. User 1: 3 and 2, one of one,
    # in the second place. User 2 wants nothing and does not count.
    quality = ranking_quality(lambda rows: SCORES[rows], SEEN, WANTED, k=2)
    second = 1 / math.log2(3)
    assert quality.users == 2
    assert quality.recall == pytest.approx((1 / 2 + 1) / 2)
    assert quality.ndcg == pytest.approx((1 / (1 + second) + second) / 2)


def test_a_list_longer_than_the_catalogue_has_everything_in_it():
    quality = ranking_quality(lambda rows: SCORES[rows], SEEN, WANTED, k=20)
    assert quality.recall == 1.0


def test_chunks_of_users_do_not_change_the_figures(monkeypatch):
    whole = ranking_quality(lambda rows: SCORES[rows], SEEN, WANTED, k=2)
    monkeypatch.setattr(ranking, "_SCORES", 1)
    assert ranking_quality(lambda rows: SCORES[rows], SEEN, WANTED, k=2) == whole


def test_seen_items_are_left_out_and_the_scores_stay_as_they_were():
    before = SCORES.clone()
    assert top_items(SCORES, SEEN, 2).tolist()[:2] == [[1, 2], [3, 2]]
    assert torch.equal(SCORES, before)


def test_a_ranking_that_nobody_wants_anything_of_has_no_quality():
    with pytest.raises(ValueError, match="no user has"):
        ranking_quality(lambda rows: SCORES[rows], SEEN, sparse([[0] * 4] * 3))
