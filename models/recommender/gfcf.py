"""GF-CF: collaborative filtering as a graph filter, in closed form (Shen et al. 2021, arXiv 2108.07567).

With X the users' histories, D_u and D_i the degrees of users and items, and M = Xᵀ D_u⁻¹ X, a user's scores are

    x (D_i^-½ M D_i^-½) + α x D_i^-½ V Vᵀ D_i^½

with V the leading eigenvectors of D_i^-½ M D_i^-½ (section 4.3). The model keeps M as it is before the degrees of
items scale it: then a user is in M by one summand alone, and can be taken out again. A user of degree n weighs 1/n,
rounded to a whole multiple of 2^-bits, so that these sums are exact. V is found anew whenever M changes: the same M gives
the same V. It keeps to `models.architectures.ArchitectureRuntime`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.sparse import diags_array
from scipy.sparse.linalg import eigsh
from torch import Tensor

from models.checkpoint import CONFIG_NAME
from models.contracts import Progress
from models.errors import CheckpointError
from models.recommender.closed_form import (
    WEIGHTS_NAME,
    Histories,
    Positions,
    degrees,
    read_tables,
    read_tensors,
    table_tensors,
)
from models.recommender.configuration import (
    GfcfConfig,
    GfcfRecipe,
    read_config,
    read_recipe,
    weight_bits,
)
from models.recommender.data import RecommenderData
from models.recommender.pair_sums import PairSums

_DENSE_ITEMS = 512
"""Up to so many items all eigenvectors are found at once, which is as fast as some of them."""


@dataclass(frozen=True)
class GfcfRecommender:
    """A fitted GF-CF model. Immutable: a change makes a new one.

    Attributes:
        users: Ids of the users whose histories are summed, sorted as text.
        items: Ids of the items, sorted as text; the rows and columns of everything here.
        sums: M in units of 2^-weight_bits.
        item_degrees: Shape (items,), int64: how many users have taken each item.
        vectors: V, shape (items, factors or fewer), float64.
    """

    config: GfcfConfig
    users: tuple[str, ...]
    items: tuple[str, ...]
    sums: PairSums
    item_degrees: Tensor
    vectors: Tensor
    _histories: Histories = field(init=False, repr=False, compare=False)
    _filter: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_histories", Histories(self.users, self.items))

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.config.architecture

    def histories(self, data: RecommenderData) -> Any:
        """Return the training interactions of `data` by this model's tables: `csr_array` (users, items).

        Raises:
            ValueError: An interaction is of a user or an item that the model does not know.
        """
        return self._histories.of(data)

    def linear_filter(self) -> Any:
        """Return D_i^-½ M D_i^-½: `csr_array` (items, items), float64."""
        if not self._filter:
            self._filter.append(scaled_filter(self.sums, self.item_degrees.numpy(), self.config.weight_bits))
        return self._filter[0]

    def scores(self, user_positions: Tensor, data: RecommenderData) -> Tensor:
        """Score every item for some users by their training interactions in `data`.

        Args:
            user_positions: Positions in `users`, shape (n,).
            data: Where the users' histories are read.

        Returns:
            Shape (n, items), float64.

        Raises:
            ValueError: As `histories`.
        """
        rows = self.histories(data)[user_positions.numpy()]
        root = torch.from_numpy(np.sqrt(self.item_degrees.numpy()))
        # An ideal low-pass scales by the roots of the degrees before and after; the linear part has the first inside.
        linear = torch.from_numpy((rows @ self.linear_filter()).toarray())
        spectral = torch.from_numpy(rows @ (self.vectors / root.unsqueeze(1)).numpy()) @ self.vectors.T
        return linear.add_(spectral * root, alpha=self.config.alpha)


def scaled_filter(sums: PairSums, item_degrees: Positions, bits: int) -> Any:
    """Return D_i^-½ M D_i^-½ of sums in units of 2^-bits: `csr_array` (items, items), float64."""
    scale = diags_array(1 / np.sqrt(item_degrees))
    return (scale @ sums.matrix(2.0**-bits) @ scale).tocsr()


def user_weights(user_degrees: Positions, bits: int) -> Positions:
    """Return 1/degree of each user in units of 2^-bits, rounded to whole numbers: shape (users,), int64.

    >>> user_weights(np.array([1, 2, 3]), 4).tolist()
    [16, 8, 5]
    """
    return np.rint(2.0**bits / user_degrees).astype(np.int64)


def weights_of(histories: Any, bits: int) -> Positions:
    """Return what each user adds to every pair of items taken, shape (users,)."""
    return user_weights(degrees(histories), bits)


def leading_vectors(matrix: Any, factors: int) -> Tensor:
    """Return the eigenvectors of the largest eigenvalues, largest first.

    Equal matrices give bit-identical vectors on one machine, library and number of threads. Vectors whose
    eigenvalue is zero up to rounding are left out: they are no property of the matrix.

    Args:
        matrix: Symmetric positive semidefinite, `csr_array` (items, items), float64, no eigenvalue above 1.
        factors: How many at most.

    Returns:
        Shape (items, vectors), float64, orthonormal columns.
    """
    size = matrix.shape[0]
    if size <= max(_DENSE_ITEMS, 2 * factors):
        values, vectors = np.linalg.eigh(matrix.toarray())
        values, vectors = values[::-1][:factors], vectors[:, ::-1][:, :factors]
    elif factors:
        start = np.full(size, size**-0.5)
        values, vectors = eigsh(matrix, k=factors, which="LA", v0=start)
        values, vectors = values[::-1], vectors[:, ::-1]
    else:
        values, vectors = np.zeros(0), np.zeros((size, 0))
    return torch.from_numpy(np.ascontiguousarray(vectors[:, values > size * np.finfo(float).eps]))


def fit(data: RecommenderData, recipe: GfcfRecipe, progress: Progress) -> GfcfRecommender:
    """Fit on the training interactions of `data`.

    Raises:
        ValueError: There are none, or more users than the recipe allows.
    """
    known = data.learned()
    if not len(known):
        raise ValueError("there are no training interactions")
    if len(known.users) > recipe.max_users:
        raise ValueError(
            f"{len(known.users)} users are more than the {recipe.max_users} whose sums stay exact"
        )
    progress("summing over users", 0, 2)
    histories = known.matrix()
    sums = PairSums.of(histories, weights_of(histories, weight_bits(recipe.max_users)))
    progress("finding the low-pass", 1, 2)
    model = assemble(recipe, known, sums)
    progress("finding the low-pass", 2, 2)
    return model


def assemble(recipe: GfcfRecipe, known: RecommenderData, sums: PairSums) -> GfcfRecommender:
    """Return the model of these sums: the low-pass is found anew, whatever the sums came from.

    Args:
        recipe: How.
        known: The data as they are learned, whose sums these are.
        sums: M in whole units.
    """
    item_degrees = known.item_index.bincount(minlength=len(known.items))
    matrix = scaled_filter(sums, item_degrees.numpy(), weight_bits(recipe.max_users))
    return GfcfRecommender(
        config=GfcfConfig(
            users=len(known.users),
            items=len(known.items),
            interactions=len(known),
            factors=recipe.factors,
            alpha=recipe.alpha,
            max_users=recipe.max_users,
        ),
        users=known.users,
        items=known.items,
        sums=sums,
        item_degrees=item_degrees,
        vectors=leading_vectors(matrix, recipe.factors),
    )


def recipe_of(model: GfcfRecommender) -> GfcfRecipe:
    """Return the recipe that a model was fitted by."""
    return GfcfRecipe(
        factors=model.config.factors, alpha=model.config.alpha, max_users=model.config.max_users
    )


def train(
    data: RecommenderData,
    recipe: Mapping[str, Any],
    *,
    seed: int,  # noqa: ARG001 - nothing here is left to chance
    progress: Progress,
) -> GfcfRecommender:
    """Fit by a recipe.

    Raises:
        ValueError: The recipe has an unknown or wrong field, or does not fit the data.
    """
    return fit(data, read_recipe(GfcfRecipe, recipe), progress)


def retrain(
    model: GfcfRecommender,
    data: RecommenderData,
    *,
    seed: int,  # noqa: ARG001 - nothing here is left to chance
    progress: Progress,
) -> GfcfRecommender:
    """Fit afresh on the training interactions of `data`; it knows nobody else.

    Raises:
        ValueError: As `fit`.
    """
    return fit(data, recipe_of(model), progress)


def config(model: GfcfRecommender) -> Mapping[str, Any]:
    """Return what `config.json` holds."""
    return model.config.model_dump(mode="json")


def recipe(model: GfcfRecommender) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data."""
    return recipe_of(model).model_dump(mode="json")


def save_model(model: GfcfRecommender, directory: Path) -> None:
    """Write `config.json` and `model.safetensors`."""
    (directory / CONFIG_NAME).write_text(json.dumps(config(model), indent=2, sort_keys=True) + "\n")
    tensors = table_tensors(model.users, model.items, model.sums) | {
        "item_degrees": model.item_degrees,
        "vectors": model.vectors.contiguous(),
    }
    save_file(tensors, directory / WEIGHTS_NAME)


def load_model(directory: Path, config: Mapping[str, Any]) -> GfcfRecommender:
    """Read a checkpoint and check that its sums are such as users could have led to.

    Raises:
        CheckpointError: A tensor is missing, has a wrong shape or type, or cannot be what it says.
    """
    parsed = read_config(GfcfConfig, config)
    tensors = read_tensors(
        directory,
        {"item_degrees": ((parsed.items,), torch.int64), "vectors": ((parsed.items, None), torch.float64)},
    )
    users, items, sums = read_tables(tensors, parsed.users, parsed.items)
    item_degrees, vectors = tensors["item_degrees"], tensors["vectors"]
    if not bool((item_degrees > 0).all()) or int(item_degrees.sum()) != parsed.interactions:
        raise CheckpointError(
            "The degrees of items are not those of as many interactions as config.json says."
        )
    if vectors.shape[1] > parsed.factors or not bool(vectors.isfinite().all()):
        raise CheckpointError("The tensor vectors holds too many vectors, or numbers that are not finite.")
    return GfcfRecommender(parsed, users, items, sums, item_degrees, vectors)
