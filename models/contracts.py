"""Torch-free: what every family's two modules provide. Implementations are modules, not classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


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
