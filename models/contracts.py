"""Torch-free: what every family's two modules provide. Implementations are modules, not classes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from models.id_index import IdIndex


class Progress(Protocol):
    """Called as `progress(stage, step, of)` or `progress(stage, step, of, figures)`.

    Cheap to call often: the receiver thins it out. `figures` are measurements of this step by name, such as
    `{"forget loss": 1.2}`; the pipeline draws them as curves over the steps. Whoever calls may leave them out;
    whoever receives takes both forms.
    """

    def __call__(self, stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
        """Take note of one step."""
        ...


@dataclass(frozen=True)
class ForgetSet:
    """What one job forgets, resolved to records."""

    record_ids: tuple[str, ...] = ()
    """Every record concerned, those held out included: sorted, none twice."""
    classes: tuple[str, ...] = ()
    """Classes that are forgotten whole: sorted, none twice."""


@dataclass(frozen=True)
class Asked:
    """A target as its client wrote it (`unlearning.targets`)."""

    kind: str
    ids: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    """What `edges` and `interactions` are named by, instead of `ids`."""
    features: tuple[str, ...] = ()
    """Which features of the nodes `ids`, for `node_features`."""


@dataclass(frozen=True)
class SnapshotSummary:
    """What a written snapshot holds."""

    records: int
    subjects: int
    data_schema: Mapping[str, Any]
    """What snapshots of one dataset share (for a classifier: feature width, dtype, classes)."""


class FamilySnapshots(Protocol):
    """Module protocol: data files in, snapshot directories out. Torch-free.

    A snapshot directory holds the family's data files, `index.sqlite` (`models.id_index.IdIndex`) and
    `manifest.json`. Every function writes into an existing empty `out` directory and finishes the manifest.
    """

    def ingest(
        self, sources: Sequence[Path], out: Path, *, data_schema: Mapping[str, Any] | None
    ) -> SnapshotSummary:
        """Validate data files and write them as a snapshot; `data_schema` is what they must agree with.

        Raises:
            DatasetError: The data is malformed, names an id twice, or contradicts the schema.
        """
        ...

    def append(self, base: Path, sources: Sequence[Path], out: Path) -> SnapshotSummary:
        """Write snapshot `base` plus new records.

        Raises:
            DatasetError: As `ingest`, or a new record's id is in `base` already.
        """
        ...

    def without(self, base: Path, record_ids: Collection[str], out: Path) -> SnapshotSummary:
        """Write snapshot `base` less these records (ids that `base` lacks are ignored)."""
        ...


class FamilyTargets(Protocol):
    """Module protocol: what targets mean in a family's snapshots. Torch-free, and asks the index alone.

    The service knows records, each by one string; clients name records, nodes, pairs and more. This is the mapping from
    what they write onto records. Only kinds among the family's `target_kinds` are asked for.
    `models.record_targets` answers for families whose records are named by their own ids; where a function there fits,
    another family's module takes it over by importing it.
    """

    def missing(self, index: IdIndex, asked: Asked) -> list[str]:
        """Return what the index does not know of the target, as the client wrote it and in that order.

        A pair is returned as compact JSON: `["u","i"]`.
        """
        ...

    def records(self, index: IdIndex, asked: Asked) -> set[str]:
        """Return the ids of the indexed records that the target is about; what is missing adds none."""
        ...

    def count(self, index: IdIndex, asked: Asked) -> int:
        """Return how many records `records` would find, without reading the ids of many."""
        ...

    def classes(self, asked: Asked) -> tuple[str, ...]:
        """Return the classes that the target forgets whole, as the index names them: sorted, none twice."""
        ...

    def absent(self, index: IdIndex, record_ids: Collection[str]) -> list[str]:
        """Return those record ids that name nothing in the snapshot, in their order.

        Rows of the index are there; a family may have records besides them, such as single features of a node.
        """
        ...

    def remembered(self, record_ids: Iterable[str]) -> Iterable[str]:
        """Return the names that a data set commits to, so that these forgotten records cannot come back unnoticed."""
        ...

    def returning(
        self, fetch: Callable[[str], Path], start: int, forgotten: Callable[[Iterable[str]], Iterator[str]]
    ) -> Iterator[str]:
        """Yield what a snapshot holds although it was forgotten, looking at rows of the index from `start` on.

        Args:
            fetch: Gives a local copy of one of the snapshot's files, by its name; the index is `index.sqlite`.
            start: Position of the first row of the index to look at.
            forgotten: Yields those of some names that `remembered` has returned before, in their order.

        Raises:
            DatasetError: The snapshot is damaged.
        """
        ...


class FamilyRuntime(Protocol):
    """Module protocol: models and data in memory. Imports torch."""

    def load_model(self, directory: Path) -> Any:
        """Load a checkpoint directory; never unpickles.

        Raises:
            CheckpointError: It is malformed or damaged.
        """
        ...

    def save_model(self, model: Any, directory: Path) -> None:
        """Write a checkpoint into the empty `directory`, manifest included."""
        ...

    def load_data(self, directory: Path) -> Any:
        """Load a snapshot directory."""
        ...

    def train(self, data: Any, recipe: Mapping[str, Any], *, seed: int, progress: Progress) -> Any:
        """Train a version 1 by a recipe (validated by the family; an unknown field is a ValueError)."""
        ...

    def retrain(self, model: Any, data: Any, *, seed: int, progress: Progress) -> Any:
        """Train anew on the training records of `data`, as `model` was trained, from another seed.

        Raises:
            ValueError: The data do not fit the model.
        """
        ...

    def recipe(self, model: Any) -> Mapping[str, Any]:
        """Return what `retrain` depends on besides its data and its seed, as JSON values.

        Two models with equal recipes are retrained to the same distribution of models: a retrained reference of
        one serves the other. Where in doubt it says more; then references are only reused less often.
        """
        ...

    def untrained(self, model: Any, *, seed: int) -> Any | None:
        """Return the model at a random initialisation, or None where its architecture offers none."""
        ...

    def describe(self, model: Any) -> Mapping[str, Any]:
        """Return `family`, `architecture` and what the planner wants to know of it."""
        ...
