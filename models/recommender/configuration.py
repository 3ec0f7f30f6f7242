"""Torch-free: what describes a closed-form recommender: the recipes and the `config.json` of EASE and GF-CF."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import CheckpointError

Model = TypeVar("Model", bound=BaseModel)

FLOAT64_BYTES = 8
_MAX_COUNT = 1 << 40
_KIBI = 1024


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EaseRecipe(_Part):
    """How to fit EASE (Steck 2019, arXiv 1905.03375)."""

    architecture: Literal["ease"] = "ease"
    regularisation: float = Field(
        250.0, gt=0, le=1e9, description="λ of G = XᵀX + λI; the paper's figures lie between 200 and 1,000."
    )
    max_matrix_bytes: int = Field(
        4 << 30,
        ge=FLOAT64_BYTES,
        le=1 << 45,
        description="A catalogue whose matrix, 8 · items² bytes, is larger is refused. Fitting takes three such.",
    )


class GfcfRecipe(_Part):
    """How to fit GF-CF (Shen et al. 2021, arXiv 2108.07567)."""

    architecture: Literal["gfcf"] = "gfcf"
    factors: int = Field(
        256, ge=0, le=1 << 14, description="Singular vectors of the ideal low-pass; the paper's 256. 0: none."
    )
    alpha: float = Field(0.3, ge=0, le=1e3, description="Weight of the ideal low-pass; the paper's 0.3.")
    max_users: int = Field(
        1 << 20,
        ge=1,
        le=1 << 40,
        description="Most users the model may ever hold; decides how finely the weights of users are rounded.",
    )


class _Counts(_Part):
    family: Literal["recommender"] = "recommender"
    format: Literal[1] = 1
    users: int = Field(ge=1, le=_MAX_COUNT)
    items: int = Field(ge=1, le=_MAX_COUNT)
    interactions: int = Field(ge=1, le=_MAX_COUNT)


class EaseConfig(_Counts):
    """An EASE model's `config.json`: the recipe and the sizes."""

    architecture: Literal["ease"] = "ease"
    regularisation: float = Field(gt=0, le=1e9)
    max_matrix_bytes: int = Field(ge=FLOAT64_BYTES)


class GfcfConfig(_Counts):
    """A GF-CF model's `config.json`: the recipe, the sizes and the grid that the linear part lives on."""

    architecture: Literal["gfcf"] = "gfcf"
    factors: int = Field(ge=0, le=1 << 14)
    alpha: float = Field(ge=0, le=1e3)
    max_users: int = Field(ge=1, le=1 << 40)

    @property
    def weight_bits(self) -> int:
        """A user of degree n weighs 1/n, rounded to a multiple of 2^-weight_bits."""
        return weight_bits(self.max_users)


def weight_bits(max_users: int) -> int:
    """Return how fine the grid is: the finest with which sums over all users fit into 63 bits.

    >>> weight_bits(1 << 20)
    42
    """
    return min(52, 62 - (max_users - 1).bit_length())


def matrix_bytes(items: int) -> int:
    """Return the size of EASE's matrix.

    >>> matrix_bytes(4489)
    161208968
    """
    return items * items * FLOAT64_BYTES


def too_large(items: int, most: int) -> str | None:
    """Say how much memory EASE's matrix would need, where that is more than the limit.

    >>> print(too_large(1_000_000, 4 << 30))
    1000000 items need a matrix of 7.3 TiB (8 · items² bytes), more than max_matrix_bytes, 4.0 GiB; choose gfcf or raise it
    >>> too_large(1000, 4 << 30)
    """
    if matrix_bytes(items) <= most:
        return None
    return (
        f"{items} items need a matrix of {_readable(matrix_bytes(items))} (8 · items² bytes), more than "
        f"max_matrix_bytes, {_readable(most)}; choose gfcf or raise it"
    )


def read_recipe(model: type[Model], recipe: Mapping[str, Any]) -> Model:
    """Read a recipe.

    Raises:
        ValueError: A field is unknown or wrong; the message names the first fault.
    """
    try:
        return model.model_validate(recipe)
    except ValidationError as error:
        raise ValueError(f"The recipe is wrong: {_first_fault(error)}.") from None


def read_config(model: type[Model], config: Mapping[str, Any]) -> Model:
    """Read a parsed `config.json`.

    Raises:
        CheckpointError: It is not that of such a model; the message names the first fault.
    """
    try:
        return model.model_validate(config)
    except ValidationError as error:
        kind = model.model_fields["architecture"].default
        raise CheckpointError(
            f"config.json is not a recommender's of kind {kind}: {_first_fault(error)}."
        ) from None


def describe_ease(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner and the certificate want to know of an EASE model.

    Raises:
        CheckpointError: `config` is not an EASE model's.
    """
    parsed = read_config(EaseConfig, config)
    items = float(parsed.items)
    return {
        **_sizes(parsed),
        "regularisation": parsed.regularisation,
        "flops_per_record": parsed.interactions / parsed.users,
        # A Cholesky factor and the inverse from it: n³/3 and 2n³/3.
        "flops_to_finish": items**3,
        # Every entry of P is changed once for each history that is taken away or added.
        "flops_per_history": 2 * items**2,
        # P is copied and read once more, however little changes; reading a number costs as much as some operations.
        "flops_per_request": 40 * items**2,
    }


def describe_gfcf(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what the planner and the certificate want to know of a GF-CF model.

    Raises:
        CheckpointError: `config` is not a GF-CF model's.
    """
    parsed = read_config(GfcfConfig, config)
    history = parsed.interactions / parsed.users
    pairs = parsed.interactions * history
    return {
        **_sizes(parsed),
        "factors": parsed.factors,
        "alpha": parsed.alpha,
        "flops_per_record": history,
        # Lanczos: some four products with the matrix per vector, and all vectors orthogonalised against each other.
        "flops_to_finish": float(8 * pairs * parsed.factors + 8 * parsed.items * parsed.factors**2),
    }


def _sizes(config: _Counts) -> dict[str, Any]:
    return {
        "family": config.family,
        "architecture": getattr(config, "architecture", None),
        "users": config.users,
        "items": config.items,
        "interactions": config.interactions,
    }


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"


def _readable(size: float) -> str:
    """Return a size with the unit in which it is at least one.

    >>> _readable(1536)
    '1.5 KiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < _KIBI:
            return f"{size:.1f} {unit}"
        size /= _KIBI
    return f"{size:.1f} PiB"
