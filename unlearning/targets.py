"""Torch-free: what can be forgotten."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from models.contracts import ForgetSet
from models.id_index import IdIndex
from unlearning.errors import TargetError

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


AnyTarget = IdTarget | PairTarget | NodeFeaturesTarget | ExamplesTarget
Target = Annotated[AnyTarget, Field(discriminator="kind", description="What is to be forgotten.")]
TARGET = TypeAdapter[AnyTarget](Target)
"""Reads a target from JSON or Python values."""


def missing_ids(index: IdIndex, target: AnyTarget, *, also: IdIndex | None = None) -> list[str]:
    """Return the ids of `target` that the index does not know, in the target's order.

    Args:
        index: Index of the snapshot that the model has learned.
        target: Records, subjects or classes.
        also: Index of another state of the same data set; an id that it knows is not missing.

    Raises:
        TargetError: The target is of a kind that is not about records.
    """
    missing = _missing(index, target)
    if not missing or also is None:
        return missing
    elsewhere = set(_missing(also, target))
    return [name for name in missing if name in elsewhere]


def resolve_target(index: IdIndex, target: AnyTarget, *, also: IdIndex | None = None) -> ForgetSet:
    """Find every record of the indexed snapshot, training or held out, that the target is about.

    Args:
        index: Index of the snapshot that the model has learned; the answer holds records of it alone.
        target: Records, subjects or classes.
        also: Index of another state of the same data set; what it knows counts as existing.

    Raises:
        TargetError: The target is of a kind that is not about records, or names something that no longer
            exists; the message counts without naming.
    """
    missing = missing_ids(index, target, also=also)
    if missing:
        raise TargetError(
            # They are not named: the message ends up in events, which outlive the target's ids.
            f"{len(missing)} of the target's {target.count} {target.kind} no longer exist in the data set."
        )
    return ForgetSet(record_ids=tuple(sorted(_records(index, target))), classes=_classes(target))


def count_records(index: IdIndex, target: AnyTarget) -> int:
    """Count the records that `resolve_target` would find, without reading their ids; unknown ids count nothing.

    Raises:
        TargetError: The target is of a kind that is not about records.
    """
    match target:
        case IdTarget(kind="records", ids=ids):
            return len(ids) - len(index.missing_records(ids))
        case IdTarget(kind="subjects", ids=ids):
            return index.count_of_subjects(ids)
        case IdTarget(kind="classes", ids=ids):
            return index.count_of_classes(ids)
    raise TargetError(f"A target of kind {target.kind} does not name records.")


def _missing(index: IdIndex, target: AnyTarget) -> list[str]:
    match target:
        case IdTarget(kind="records", ids=ids):
            return index.missing_records(ids)
        case IdTarget(kind="subjects", ids=ids):
            return index.missing_subjects(ids)
        case IdTarget(kind="classes", ids=ids):
            return index.missing_classes(ids)
    raise TargetError(f"A target of kind {target.kind} does not name records.")


def _records(index: IdIndex, target: AnyTarget) -> set[str]:
    """Return the records of a target whose kind `_missing` has accepted."""
    ids = cast("IdTarget", target).ids
    if target.kind == "records":
        return set(ids).difference(index.missing_records(ids))
    if target.kind == "subjects":
        return set(index.records_of_subjects(ids))
    return set(index.records_of_classes(ids))


def _classes(target: AnyTarget) -> tuple[str, ...]:
    return tuple(sorted(target.ids)) if isinstance(target, IdTarget) and target.kind == "classes" else ()
