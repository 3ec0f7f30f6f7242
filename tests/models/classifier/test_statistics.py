import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.classifier.statistics import PANEL_ROWS, Statistics, SymmetricMatrix


def on_grid(records: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**15, (records, size), generator=generator).to(torch.float64) * 2.0**-13


def test_sums_are_those_worked_by_hand():
    statistics = Statistics.zeros(2, 3)
    statistics.add_(torch.tensor([[1.0, 2.0], [0.5, 0.0]], dtype=torch.float64), torch.tensor([2, 0]))
    assert statistics.gram.lower().tolist() == [[1.25, 2.0], [2.0, 4.0]]
    assert statistics.cross.tolist() == [[0.5, 0.0, 1.0], [0.0, 0.0, 2.0]]
    assert statistics.counts.tolist() == [1, 0, 1]
    assert statistics.records == 2


@pytest.mark.parametrize("size", [1, PANEL_ROWS - 1, PANEL_ROWS, PANEL_ROWS + 1, 2 * PANEL_ROWS + 44])
def test_panels_agree_with_the_dense_matrix(size):
    rows = on_grid(7, size)
    matrix = SymmetricMatrix.zeros(size)
    matrix.add_gram_(rows, 1)
    dense = rows.T @ rows
    right = on_grid(size, 3, seed=1)
    assert torch.equal(matrix.lower().tril(), dense.tril())
    assert torch.equal(matrix.diagonal(), dense.diagonal())
    torch.testing.assert_close(matrix.times(right), dense @ right, rtol=1e-13, atol=0)
    assert matrix.is_symmetric()
    assert (
        sum(panel.numel() for _, _, panel in matrix.panels()) == matrix.values.numel() == matrix.storage(size)
    )


def test_an_asymmetric_diagonal_block_is_noticed():
    matrix = SymmetricMatrix.zeros(3)
    matrix.values[1] = 1.0
    assert not matrix.is_symmetric()


@given(
    order=st.permutations(range(12)),
    cuts=st.sets(st.integers(1, 11)),
    forgotten=st.sets(st.integers(0, 11), max_size=11),
)
def test_any_interleaving_of_learning_and_unlearning_leaves_the_bits_of_a_fresh_sum(order, cuts, forgotten):
    rows, labels = on_grid(12, 5), torch.arange(12) % 3
    statistics = Statistics.zeros(5, 3)
    edges = [0, *sorted(cuts), 12]
    learned: set[int] = set()
    for start, stop in itertools.pairwise(edges):
        batch = list(order[start:stop])
        statistics.add_(rows[batch], labels[batch])
        learned.update(batch)
        for record in sorted(learned & forgotten):
            statistics.add_(rows[[record]], labels[[record]], sign=-1)
            learned.remove(record)
    kept = [record for record in range(12) if record in learned]
    fresh = Statistics.zeros(5, 3)
    fresh.add_(rows[kept], labels[kept])
    assert statistics.equal(fresh)


def test_one_unit_in_the_last_place_is_a_difference():
    statistics = Statistics.zeros(3, 2)
    statistics.add_(on_grid(4, 3), torch.tensor([0, 1, 0, 1]))
    other = statistics.clone()
    assert statistics.equal(other)
    other.gram.values[4] = torch.nextafter(other.gram.values[4], torch.tensor(torch.inf, dtype=torch.float64))
    assert not statistics.equal(other)
