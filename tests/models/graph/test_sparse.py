import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from models.graph.sparse import SparseMatrix, from_dense, from_pairs, offsets_of


def draw(seed, rows=5, columns=4):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return dense * (torch.rand(rows, columns, generator=generator) < 0.4), generator


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_product_is_the_dense_one_and_so_is_the_transpose(seed, rows, columns):
    dense, generator = draw(seed, rows, columns)
    other = torch.randn(columns, 3, generator=generator, dtype=torch.float64)
    sparse = from_dense(dense)
    torch.testing.assert_close(sparse @ other, dense @ other)
    torch.testing.assert_close(sparse.transposed @ torch.eye(rows, dtype=torch.float64), dense.T)
    assert sparse.transposed.transposed is sparse


def test_rows_without_entries_and_matrices_without_any_give_zeros():
    empty = SparseMatrix(
        offsets_of(torch.zeros(3, dtype=torch.int64)), torch.empty(0, dtype=torch.int64), None, 2
    )
    assert torch.equal(empty @ torch.ones(2, 4), torch.zeros(3, 4))
    assert torch.equal(empty.transposed @ torch.ones(3, 4), torch.zeros(2, 4))
    assert (from_dense(torch.zeros(2, 0)) @ torch.ones(0, 4)).shape == (2, 4)


def test_pairs_count_as_often_as_they_come_and_are_sorted():
    matrix = from_pairs(torch.tensor([1, 0, 1]), torch.tensor([2, 1, 0]), (2, 3))
    assert matrix.columns.tolist() == [1, 0, 2]
    twice = from_pairs(torch.tensor([0, 0]), torch.tensor([1, 1]), (1, 2))
    assert (twice @ torch.eye(2)).tolist() == [[0.0, 2.0]]


def test_first_and_second_derivatives_of_products_are_right():
    dense, generator = draw(3)
    sparse = from_dense(dense)
    other = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(len(sparse.columns), generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda matrix: (sparse @ matrix).square(), other)
    assert gradcheck(sparse.weighted, (weights, other))
    assert gradgradcheck(sparse.weighted, (weights, other))


def test_a_symmetric_matrix_takes_weights_that_are_not():
    pairs = torch.tensor([[0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1]])
    plain = from_pairs(*pairs, (3, 3))
    symmetric = SparseMatrix(plain.offsets, plain.columns, None, 3, symmetric=True)
    weights = torch.arange(6.0, dtype=torch.float64).requires_grad_()
    other = torch.randn(
        3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    assert symmetric.transposed is symmetric
    assert gradcheck(symmetric.weighted, (weights, other))


def test_other_values_keep_the_places_forwards_and_backwards():
    dense, _ = draw(4)
    sparse = from_dense(dense)
    doubled = sparse.with_values(2.0 * sparse.entries)
    torch.testing.assert_close(doubled @ torch.eye(4, dtype=torch.float64), 2.0 * dense)
    torch.testing.assert_close(doubled.transposed @ torch.eye(5, dtype=torch.float64), 2.0 * dense.T)
    torch.testing.assert_close(sparse.transposed @ torch.eye(5, dtype=torch.float64), dense.T)
