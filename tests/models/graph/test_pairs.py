import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from models.graph import pairs as module
from models.graph.pairs import pair_products

PAIRS = torch.tensor([[0, 1, 2, 3, 3, 0, 1], [1, 2, 3, 3, 0, 1, 0]])


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_products_and_both_derivatives_are_right_in_chunks_of_any_size(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    embeddings = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products = pair_products(embeddings, PAIRS)
    torch.testing.assert_close(products, (embeddings[PAIRS[0]] * embeddings[PAIRS[1]]).sum(dim=1))
    embeddings.requires_grad_()
    assert gradcheck(lambda rows: pair_products(rows, PAIRS).square(), embeddings)
    assert gradgradcheck(lambda rows: pair_products(rows, PAIRS).square(), embeddings)


def test_no_pairs_have_no_products_and_no_slope():
    embeddings = torch.ones(4, 3, requires_grad=True)
    products = pair_products(embeddings, torch.empty(2, 0, dtype=torch.int64))
    assert products.shape == (0,)
    products.sum().backward()
    assert not embeddings.grad.any()
