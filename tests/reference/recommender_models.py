"""EASE and GF-CF written out slowly, from the formulas alone."""

import torch
from torch import Tensor


def ease_weights(histories: Tensor, regularisation: float) -> Tensor:
    """Return B of EASE (arXiv 1905.03375, equation 8): histories (users, items) -> (items, items)."""
    gram = histories.T @ histories + regularisation * torch.eye(histories.shape[1], dtype=torch.float64)
    inverse = torch.linalg.inv(gram)
    weights = torch.zeros_like(inverse)
    for i in range(len(inverse)):
        for j in range(len(inverse)):
            if i != j:
                weights[i, j] = -inverse[i, j] / inverse[j, j]
    return weights


def gfcf_scores(histories: Tensor, factors: int, alpha: float) -> Tensor:
    """Return all users' scores by GF-CF (arXiv 2108.07567, section 4.3): (users, items) -> (users, items)."""
    user_root = histories.sum(1).rsqrt().diag()
    item_degrees = histories.sum(0)
    normalised = user_root @ histories @ item_degrees.rsqrt().diag()
    similarity = normalised.T @ normalised
    basis = torch.linalg.svd(normalised).Vh[:factors].T
    low_pass = item_degrees.rsqrt().diag() @ basis @ basis.T @ item_degrees.sqrt().diag()
    return histories @ similarity + alpha * histories @ low_pass
