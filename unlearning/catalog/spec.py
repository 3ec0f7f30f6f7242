"""What the service knows of a method without importing it."""

import enum
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from unlearning.errors import ConfigurationError


class Guarantee(enum.StrEnum):
    """What a method promises of its result."""

    EXACT = "exact"
    """The result equals training on what remains."""
    CERTIFIED = "certified"
    """(ε, δ)-indistinguishable from training on what remains, by the method's own accounting."""
    EMPIRICAL = "empirical"
    """Nothing beyond what the audit measures."""


class MethodConfig(BaseModel):
    """Base of every method's configuration: immutable, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class CostInput:
    """Sizes that a cost estimate is made from."""

    records: int
    """Training records before forgetting."""
    forget: int
    """Training records to forget."""
    architecture: dict[str, Any]
    """What `FamilyRuntime.describe` says of the model."""


@dataclass(frozen=True)
class Way:
    """How a method goes about a request of some size."""

    reason: str
    """In a sentence, for the plan."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What is chosen of its configuration; a client's own parameters come first."""


@dataclass(frozen=True)
class MethodSpec:
    """One row of the catalog.

    Attributes:
        implementation: `module:function` with the signature
            `(model, data, forget, config, *, generator, progress) -> model`.
        cost: Estimated floating-point operations; the planner ranks methods of equal guarantee by it.
        update: `module:function` that brings a model from one snapshot's records to another's with the same
            guarantee, or None where the method only forgets.
        fallback: True for the method that ends every ladder.
        way: Chooses how to go about a request by its size, or None where there is one way only.
    """

    family: str
    name: str
    title: str
    summary: str
    targets: frozenset[str]
    guarantee: Guarantee
    architectures: frozenset[str] | None
    """Architectures it works on; None for every one of its family."""
    needs: frozenset[str]
    """Of `forget_data`, `retained_data`, `statistics`."""
    config: type[MethodConfig]
    paper: str
    implementation: str
    cost: Callable[[CostInput], float]
    update: str | None = None
    fallback: bool = False
    way: Callable[[CostInput], Way] | None = None

    def configure(self, parameters: dict[str, Any]) -> MethodConfig:
        """Build the configuration, defaults filled in.

        Raises:
            ConfigurationError: A parameter is unknown or out of range; the message names it.
        """
        try:
            return self.config.model_validate(parameters)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, part['loc'])) or 'parameters'}: {part['msg']}" for part in error.errors()
            )
            raise ConfigurationError(
                f"Parameters of {self.family}/{self.name} are wrong: {problems}."
            ) from None

    def load(self) -> Callable[..., Any]:
        """Import the algorithm; this is where torch comes in."""
        return load_object(self.implementation)


def load_object(path: str) -> Callable[..., Any]:
    """Import `module:name`."""
    module, _, name = path.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), name))
