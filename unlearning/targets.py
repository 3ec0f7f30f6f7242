"""Torch-free: what can be forgotten."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Ids = Annotated[tuple[Id, ...], Field(min_length=1, description="Ids as strings, none twice.")]
Pair = tuple[Id, Id]
Pairs = Annotated[tuple[Pair, ...], Field(min_length=1, description="Pairs of ids, none twice.")]


class _Target(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def _refuse_duplicates(self, values: Iterable[object]) -> None:
        seen: set[object] = set()
        twice = list(dict.fromkeys(value for value in values if value in seen or seen.add(value)))  # type: ignore[func-returns-value]
        if twice:
            raise ValueError(f"named more than once: {', '.join(map(repr, twice[:20]))}")


class IdTarget(_Target):
    """Things named by one id each."""

    kind: Literal[
        "records", "subjects", "classes", "nodes", "node_classes", "edge_classes", "users", "items"
    ] = Field(description="What the ids name.")
    ids: Ids

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        self._refuse_duplicates(self.ids)
        return self

    @property
    def count(self) -> int:
        """How many things are named."""
        return len(self.ids)


class PairTarget(_Target):
    """Things named by two ids each."""

    kind: Literal["edges", "interactions"] = Field(description="What the pairs name.")
    pairs: Pairs

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        self._refuse_duplicates(self.pairs)
        return self

    @property
    def count(self) -> int:
        """How many things are named."""
        return len(self.pairs)


class NodeFeaturesTarget(_Target):
    """Some features of some nodes."""

    kind: Literal["node_features"]
    ids: Ids
    features: Ids

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        self._refuse_duplicates(self.ids)
        self._refuse_duplicates(self.features)
        return self

    @property
    def count(self) -> int:
        """How many node features are named."""
        return len(self.ids) * len(self.features)


class ExamplesTarget(_Target):
    """Whatever the records of another data set are examples of."""

    kind: Literal["examples"]
    dataset: Id = Field(description="Id of the data set that holds the examples.")

    @property
    def count(self) -> int:
        """One set of examples."""
        return 1


Target = Annotated[
    IdTarget | PairTarget | NodeFeaturesTarget | ExamplesTarget,
    Field(discriminator="kind", description="What is to be forgotten."),
]
TARGET = TypeAdapter[IdTarget | PairTarget | NodeFeaturesTarget | ExamplesTarget](Target)
"""Reads a target from JSON or Python values."""
