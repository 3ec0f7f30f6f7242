"""The store of references in a job's process: finds them in the storage, stages new ones. Imports torch."""

import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.storage import Storage
from app.worker.reference_rows import digest_of_ids
from app.worker.task import JobTask, KnownReference, ReferenceDamaged, ReferenceStaged, Workplace
from models.checkpoint import read_manifest, verify_directory
from models.contracts import FamilyRuntime
from models.errors import CheckpointError
from unlearning.audits.references import FIRST_SHADOW_SEED, Reference, ReferenceKey

PART = "references"

logger = logging.getLogger(__name__)


class StoredReferences:
    """A `ReferenceStore` over the service's storage.

    A reference is used only if its files agree with the digest in the database. A new one is written to the staging
    directory and the worker told of it, which moves it to its place and records it; where it is at a given moment is
    known to neither side, so both places are looked at.

    Args:
        task: Names the references that there are.
        workplace: Where they are, and where new ones are staged.
        runtime: The model's family.
        forgotten: Records that retrained references leave out.
        tell: Sends a message to the worker.
    """

    def __init__(
        self,
        task: JobTask,
        workplace: Workplace,
        runtime: FamilyRuntime,
        forgotten: Sequence[str],
        tell: Callable[[ReferenceStaged | ReferenceDamaged], None],
    ) -> None:
        self._storage = Storage(workplace.storage_url, workplace.cache_dir)
        self._staging = workplace.staging
        self._root = task.reference_root
        self._runtime = runtime
        self._left_out = digest_of_ids(forgotten)
        self._tell = tell
        self._known = {ReferenceKey(known.data, known.recipe, known.seed): known for known in task.references}
        self._staged: dict[ReferenceKey, tuple[ReferenceStaged, float]] = {}

    def find(self, key: ReferenceKey) -> Reference | None:
        """Return the reference of exactly this key, or None; a damaged one is reported and not there."""
        if key in self._staged:
            return self._find_staged(key)
        known = self._known.get(key)
        return self._find_known(key, known) if known is not None else None

    def keep(self, reference: Reference) -> None:
        """Stage a reference and tell the worker."""
        name = uuid.uuid4().hex
        part = f"{PART}/{name}"
        directory = self._staging / part
        directory.mkdir(parents=True)
        self._runtime.save_model(reference.model, directory)
        manifest = read_manifest(directory)
        key = reference.key
        staged = ReferenceStaged(
            part=part,
            location=f"{self._root}/{name}",
            data=key.data,
            recipe=key.recipe,
            seed=key.seed,
            digest=manifest.digest,
            size=manifest.size,
            seconds=reference.seconds,
            left_out=self._left_out if key.seed < FIRST_SHADOW_SEED else None,
        )
        self._staged[key] = staged, reference.seconds
        self._tell(staged)

    def _find_staged(self, key: ReferenceKey) -> Reference | None:
        staged, seconds = self._staged[key]
        for directory in (self._staging / staged.part, self._storage.materialise(staged.location)):
            try:
                return Reference(key, self._load(directory, staged.digest), seconds)
            except (CheckpointError, OSError):
                continue  # It is on its way to the other place, or could not be kept: then it is trained again.
        return None

    def _find_known(self, key: ReferenceKey, known: KnownReference) -> Reference | None:
        try:
            directory = self._storage.materialise(known.location)
            return Reference(key, self._load(directory, known.digest), known.seconds)
        except CheckpointError as error:
            # The message may quote names of files, never of records.
            logger.warning("A reference is damaged and is trained again: %s", error)
            self._tell(ReferenceDamaged(known.id))
        except OSError as error:
            logger.warning("A reference could not be read (%s) and is trained again.", type(error).__name__)
        return None

    def _load(self, directory: Path, digest: str) -> Any:
        if verify_directory(directory).digest != digest:
            raise CheckpointError("Its manifest was changed.")
        return self._runtime.load_model(directory)
