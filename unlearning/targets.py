"""Torch-free: what can be forgotten."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from models.contracts import Asked, FamilyTargets, ForgetSet
from models.families import get_family
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


def missing_ids(family: str, index: IdIndex, target: AnyTarget, *, also: IdIndex | None = None) -> list[str]:
    """Return the ids of `target` that the index does not know, in the target's order; pairs as JSON.

    Args:
        family: The family of the data set; its mapping (`models.families.Family.targets`) knows what a target means.
        index: Index of the snapshot that the model has learned.
        target: Of one of the family's kinds.
        also: Index of another state of the same data set; an id that it knows is not missing.

    Raises:
        TargetError: The family does not know targets of this kind.
    """
    targets, asked = _targets(family, target), _asked(target)
    missing = targets.missing(index, asked)
    if not missing or also is None:
        return missing
    elsewhere = set(targets.missing(also, asked))
    return [name for name in missing if name in elsewhere]


def resolve_target(
    family: str, index: IdIndex, target: AnyTarget, *, also: IdIndex | None = None
) -> ForgetSet:
    """Find every record of the indexed snapshot, training or held out, that the target is about.

    Args:
        family: The family of the data set.
        index: Index of the snapshot that the model has learned; the answer holds records of it alone.
        target: Of one of the family's kinds.
        also: Index of another state of the same data set; what it knows counts as existing.

    Raises:
        TargetError: The family does not know targets of this kind, or the target names something that no longer
            exists; the message counts without naming.
    """
    missing = missing_ids(family, index, target, also=also)
    if missing:
        raise TargetError(
            # They are not named: the message ends up in events, which outlive the target's ids.
            f"{len(missing)} of the target's {target.count} {target.kind} no longer exist in the data set."
        )
    targets, asked = _targets(family, target), _asked(target)
    return ForgetSet(record_ids=tuple(sorted(targets.records(index, asked))), classes=targets.classes(asked))


def count_records(family: str, index: IdIndex, target: AnyTarget) -> int:
    """Count the records that `resolve_target` would find, without reading their ids; unknown ids count nothing.

    Raises:
        TargetError: The family does not know targets of this kind.
    """
    return _targets(family, target).count(index, _asked(target))


def _targets(family: str, target: AnyTarget) -> FamilyTargets:
    known = get_family(family)
    if target.kind not in known.target_kinds:
        raise TargetError(f"The family {family!r} knows no targets of kind {target.kind}.")
    return known.targets()


def _asked(target: AnyTarget) -> Asked:
    match target:
        case IdTarget(kind=kind, ids=ids):
            return Asked(kind, ids=ids)
        case PairTarget(kind=kind, pairs=pairs):
            return Asked(kind, pairs=pairs)
        case NodeFeaturesTarget(kind=kind, ids=ids, features=features):
            return Asked(kind, ids=ids, features=features)
        case ExamplesTarget(kind=kind, dataset=dataset):
            return Asked(kind, ids=(dataset,))
