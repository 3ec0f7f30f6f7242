"""EASE: an item-item model in closed form, whose statistics are whole numbers (Steck 2019, arXiv 1905.03375).

With X the users' histories and A = XᵀX + λI, the weights are B_ij = -P_ij / P_jj for P = A⁻¹, and B_jj = 0 (equation
8). A user's scores are x B. The model is the counts XᵀX, exact, and P, of which B is a reading: kept up to date by
low-rank changes, and always told from A⁻¹ by a bound. It keeps to `models.architectures.ArchitectureRuntime`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import CONFIG_NAME
from models.contracts import Progress
from models.errors import CheckpointError
from models.recommender.closed_form import (
    WEIGHTS_NAME,
    Change,
    Histories,
    Positions,
    read_tables,
    read_tensors,
    table_tensors,
)
from models.recommender.configuration import EaseConfig, EaseRecipe, read_config, read_recipe, too_large
from models.recommender.data import RecommenderData
from models.recommender.pair_sums import PairSums

PROBES = 10
_MISS = 10.0
_FEW_PIECES = 64


@dataclass(frozen=True)
class EaseRecommender:
    """A fitted EASE model. Immutable: a change makes a new one.

    Attributes:
        users: Ids of the users whose histories are counted, sorted as text.
        items: Ids of the items, sorted as text; the rows and columns of everything here.
        counts: XᵀX: how many users have taken both items of a pair.
        inverse: P, shape (items, items), float64.
    """

    config: EaseConfig
    users: tuple[str, ...]
    items: tuple[str, ...]
    counts: PairSums
    inverse: Tensor
    _histories: Histories = field(init=False, repr=False, compare=False)

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

    def scores(self, user_positions: Tensor, data: RecommenderData) -> Tensor:
        """Score every item for some users by their training interactions in `data`.

        Args:
            user_positions: Positions in `users`, shape (n,).
            data: Where the users' histories are read.

        Returns:
            x B, shape (n, items), float64.

        Raises:
            ValueError: As `histories`.
        """
        rows = self.histories(data)[user_positions.numpy()]
        diagonal = self.inverse.diagonal()
        products = torch.from_numpy(rows @ self.inverse.numpy())  # (n, items): x P
        # B_jj = 0: an item says nothing of itself.
        products -= torch.from_numpy(rows.toarray()) * diagonal
        return products.div_(-diagonal)

    def weights(self) -> Tensor:
        """Return B, shape (items, items), float64."""
        weights = self.inverse / -self.inverse.diagonal()
        weights.fill_diagonal_(0.0)
        return weights


@dataclass(frozen=True)
class InverseError:
    """How far P may be from A⁻¹, by what is left of I - AP alone.

    Attributes:
        residual: An upper bound on ‖I - AP‖₂. From `PROBES` random vectors z: ‖I - AP‖₂ ≤ 10 √(2/π) max ‖(I - AP) z‖
            except with probability 10^-PROBES (Halko, Martinsson and Tropp 2011, lemma 4.1).
        inverse: ‖P - A⁻¹‖₂ ≤ residual / λ, as no eigenvalue of A is below λ.
        weights: max |B - B*| ≤ δ (1 + b) / (min P_jj - δ), with δ that bound and b = √(max P_jj / min P_jj) + δ / min P_jj,
            which no |B_ij| exceeds as P is positive definite up to δ. Infinite where δ is not below min P_jj.
    """

    residual: float
    inverse: float
    weights: float

    @classmethod
    def of(cls, histories: Any, regularisation: float, inverse: Tensor) -> "InverseError":
        """Bound the error of an inverse.

        A is applied as Xᵀ(Xz) + λz, from the histories themselves: exact whatever the counts say, and cheap.

        Args:
            histories: X, `csr_array` (users, items).
            regularisation: λ.
            inverse: P, shape (items, items).
        """
        size = len(inverse)
        draws = torch.randn(size, PROBES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        solved = (inverse @ draws).numpy()  # (items, PROBES)
        left = draws.numpy() - histories.T @ (histories @ solved) - regularisation * solved
        residual = _MISS * math.sqrt(2 / math.pi) * float(np.linalg.norm(left, axis=0).max())
        delta = residual / regularisation
        diagonal = inverse.diagonal()
        least, most = float(diagonal.min()), float(diagonal.max())
        if not delta < least:  # NaN too
            return cls(residual, delta, math.inf)
        ratio = math.sqrt(most / least) + delta / least
        return cls(residual, delta, delta * (1 + ratio) / (least - delta))


def invert(counts: PairSums, regularisation: float) -> Tensor:
    """Return (XᵀX + λI)⁻¹ from scratch, shape (items, items).

    Equal counts give bit-identical inverses on one machine, library and number of threads.
    """
    dense = torch.zeros(counts.items, counts.items, dtype=torch.float64)
    rows, columns = counts.rows_and_columns()
    # Cholesky's factorisation reads the lower half alone.
    dense[torch.from_numpy(columns), torch.from_numpy(rows)] = torch.from_numpy(counts.values).to(
        torch.float64
    )
    dense.diagonal().add_(regularisation)
    inverse: Tensor = torch.cholesky_inverse(torch.linalg.cholesky(dense))
    # LAPACK leaves it column by column. Being symmetric, it is its own transpose, which lies row by row at no cost: sparse
    # products would otherwise copy all of it each time.
    return inverse.mT.contiguous()


def updated_inverse(inverse: Tensor, change: Change, regularisation: float) -> Tensor:
    """Carry a change of histories into P: P - PV (D + VᵀPV)⁻¹ VᵀP, V the changed histories, D their signs.

    Items that are new start as λI; items that nobody has taken any more are left out.

    Args:
        inverse: P over the items before, shape (items before, items before).
        change: What changes.
        regularisation: λ.

    Returns:
        Shape (items after, items after).
    """
    size = len(change.items)
    if len(inverse) < size:
        inverse = _expanded(inverse, torch.from_numpy(change.before), size, 1 / regularisation)
    sides = [part for part in (change.removed, change.added) if part.shape[0]]
    rows = torch.cat([torch.from_numpy(part @ inverse.numpy()) for part in sides])  # (k, items): VᵀP
    inner = torch.cat([torch.from_numpy(part @ rows.T.numpy()) for part in sides])  # (k, k): VᵀPV
    removed = change.removed.shape[0]
    inner.diagonal()[:removed] -= 1.0
    inner.diagonal()[removed:] += 1.0
    correction = torch.linalg.solve(inner, rows)  # (k, items)
    after = torch.from_numpy(change.after)
    if len(after) < size:
        rows, correction = rows[:, after], correction[:, after]
    return _submatrix(inverse, change.after).addmm_(rows.T, correction, alpha=-1)


def fit(data: RecommenderData, recipe: EaseRecipe, progress: Progress) -> EaseRecommender:
    """Fit on the training interactions of `data`.

    Raises:
        ValueError: There are none, or the catalogue is too large for the matrix allowed.
    """
    known = data.learned()
    if not len(known):
        raise ValueError("there are no training interactions")
    if refusal := too_large(len(known.items), recipe.max_matrix_bytes):
        raise ValueError(refusal)
    progress("counting pairs of items", 0, 2)
    counts = count_pairs(known)
    progress("inverting", 1, 2)
    inverse = invert(counts, recipe.regularisation)
    progress("inverting", 2, 2)
    return EaseRecommender(config_for(recipe, known), known.users, known.items, counts, inverse)


def count_pairs(known: RecommenderData) -> PairSums:
    """Count how many users have taken both items of each pair; `known` are data as they are learned."""
    histories = known.matrix()
    return PairSums.of(histories, one_each(histories))


def one_each(histories: Any) -> Positions:
    """Return what each user adds to every pair of items taken, shape (users,): one."""
    return np.ones(histories.shape[0], np.int64)


def config_for(recipe: EaseRecipe, known: RecommenderData) -> EaseConfig:
    """Return the configuration of a model by this recipe on data as they are learned."""
    return EaseConfig(
        users=len(known.users),
        items=len(known.items),
        interactions=len(known),
        regularisation=recipe.regularisation,
        max_matrix_bytes=recipe.max_matrix_bytes,
    )


def recipe_of(model: EaseRecommender) -> EaseRecipe:
    """Return the recipe that a model was fitted by."""
    return EaseRecipe(
        regularisation=model.config.regularisation, max_matrix_bytes=model.config.max_matrix_bytes
    )


def train(
    data: RecommenderData,
    recipe: Mapping[str, Any],
    *,
    seed: int,  # noqa: ARG001 - nothing here is left to chance
    progress: Progress,
) -> EaseRecommender:
    """Fit by a recipe.

    Raises:
        ValueError: The recipe has an unknown or wrong field, or does not fit the data.
    """
    return fit(data, read_recipe(EaseRecipe, recipe), progress)


def retrain(
    model: EaseRecommender,
    data: RecommenderData,
    *,
    seed: int,  # noqa: ARG001 - nothing here is left to chance
    progress: Progress,
) -> EaseRecommender:
    """Fit afresh on the training interactions of `data`; it knows nobody else.

    Raises:
        ValueError: As `fit`.
    """
    return fit(data, recipe_of(model), progress)


def config(model: EaseRecommender) -> Mapping[str, Any]:
    """Return what `config.json` holds."""
    return model.config.model_dump(mode="json")


def recipe(model: EaseRecommender) -> Mapping[str, Any]:
    """Return what `retrain` depends on besides its data."""
    return recipe_of(model).model_dump(mode="json")


def save_model(model: EaseRecommender, directory: Path) -> None:
    """Write `config.json` and `model.safetensors`."""
    (directory / CONFIG_NAME).write_text(json.dumps(config(model), indent=2, sort_keys=True) + "\n")
    tensors = table_tensors(model.users, model.items, model.counts) | {"inverse": model.inverse.contiguous()}
    save_file(tensors, directory / WEIGHTS_NAME)


def load_model(directory: Path, config: Mapping[str, Any]) -> EaseRecommender:
    """Read a checkpoint and check that its counts are such as users could have led to.

    Raises:
        CheckpointError: A tensor is missing, has a wrong shape or type, or cannot be what it says.
    """
    parsed = read_config(EaseConfig, config)
    if refusal := too_large(parsed.items, parsed.max_matrix_bytes):
        raise CheckpointError(f"config.json contradicts itself: {refusal}.")
    tensors = read_tensors(directory, {"inverse": ((parsed.items, parsed.items), torch.float64)})
    users, items, counts = read_tables(tensors, parsed.users, parsed.items)
    if int(counts.diagonal().sum()) != parsed.interactions:
        raise CheckpointError("The counts are not those of as many interactions as config.json says.")
    inverse = tensors["inverse"]
    if not bool((inverse.diagonal() > 0).all()) or not bool(inverse.isfinite().all()):
        raise CheckpointError("The tensor inverse is no inverse of a positive definite matrix.")
    return EaseRecommender(parsed, users, items, counts, inverse)


def _expanded(inverse: Tensor, places: Tensor, size: int, own: float) -> Tensor:
    """Return the matrix over a larger table, `own` on the diagonal of what is new."""
    larger = _memory(size)
    larger.zero_().diagonal().fill_(own)
    larger[places.unsqueeze(1), places] = inverse
    return larger


def _submatrix(matrix: Tensor, kept: Positions) -> Tensor:
    """Copy the rows and columns `kept`, ascending."""
    size = len(kept)
    copy = _memory(size)
    breaks = np.flatnonzero(np.diff(kept) > 1) + 1
    if len(breaks) > _FEW_PIECES:
        places = torch.from_numpy(kept)
        return copy.copy_(matrix.index_select(0, places).index_select(1, places))
    starts, stops = [0, *breaks.tolist()], [*breaks.tolist(), size]
    # Where few are left out, whole blocks are copied at the memory's speed; looking up single entries is slower.
    for start, stop in zip(starts, stops, strict=True):
        for left, right in zip(starts, stops, strict=True):
            copy[start:stop, left:right] = matrix[
                kept[start] : kept[stop - 1] + 1, kept[left] : kept[right - 1] + 1
            ]
    return copy


def _memory(size: int) -> Tensor:
    # numpy asks the kernel for huge pages, torch does not: page faults of fresh memory would take as long as the copy.
    return torch.from_numpy(np.empty((size, size)))
