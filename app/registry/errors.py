"""Refusals about models, versions and downloads."""

from collections.abc import Sequence

from app.datasets.errors import NAMED_AT_MOST
from app.errors import ServiceError
from app.tables import Dataset, Model, Snapshot, Version


class ModelNotFoundError(ServiceError):
    """No model has this name."""

    status, slug, title = 404, "model-not-found", "Model not found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no model {name!r}; `GET /v1/models` lists those there are.")


class ModelExistsError(ServiceError):
    """The name is taken."""

    status, slug, title = 409, "model-exists", "Model exists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a model {name!r} already: send a new checkpoint of it to "
            f"`/v1/models/{name}/versions`, or choose another name."
        )


class FamilyMismatchError(ServiceError):
    """Model and dataset are of different families."""

    status, slug, title = 422, "family-mismatch", "Families differ"

    def __init__(self, family: str, dataset: Dataset) -> None:
        super().__init__(
            f"The model is of the family {family!r}, but the dataset {dataset.name!r} is of the family "
            f"{dataset.family!r}."
        )


class CheckpointMismatchError(ServiceError):
    """The checkpoint is sound, but not for this model or dataset."""

    status, slug, title = 422, "checkpoint-mismatch", "Checkpoint does not fit"


class SnapshotDestroyedError(ServiceError):
    """The snapshot's files are gone."""

    status, slug, title = 409, "snapshot-destroyed", "Snapshot destroyed"

    def __init__(self, dataset: Dataset, snapshot: Snapshot) -> None:
        super().__init__(
            f"Snapshot {snapshot.number} of the dataset {dataset.name!r} was destroyed; a version needs one that "
            f"exists, such as the newest, {dataset.head_snapshot}."
        )


class SnapshotForgottenError(ServiceError):
    """The snapshot holds records that the model was asked to forget."""

    status, slug, title = 422, "forgotten-records", "Forgotten records"

    def __init__(self, dataset: Dataset, snapshot: Snapshot, ids: Sequence[str]) -> None:
        more = " …" if len(ids) > NAMED_AT_MOST else ""
        super().__init__(
            f"Snapshot {snapshot.number} of the dataset {dataset.name!r} holds {len(ids)} records that were "
            f"forgotten since: {', '.join(map(repr, ids[:NAMED_AT_MOST]))}{more}. "
            f"Train on snapshot {dataset.head_snapshot}.",
            ids=list(ids[:NAMED_AT_MOST]),
            count=len(ids),
        )


class ModelBusyError(ServiceError):
    """A job works on the model."""

    status, slug, title = 409, "model-busy", "Model is being worked on"

    def __init__(self, model: Model) -> None:
        super().__init__(f"A job works on the model {model.name!r}; register the version once it has ended.")
        self.headers["Retry-After"] = "5"


class ModelMovedError(ServiceError):
    """Model or dataset changed while the checkpoint was checked."""

    status, slug, title = 409, "model-moved", "Model changed"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model {name!r} or its dataset changed while the checkpoint was checked. See whether "
            "the checkpoint still holds what is to be learned, then send it again."
        )


class VersionNotFoundError(ServiceError):
    """The model has no such version."""

    status, slug, title = 404, "version-not-found", "Version not found"

    def __init__(self, model: Model, number: int) -> None:
        super().__init__(
            f"The model {model.name!r} has no version {number}; its latest is {model.latest_version}."
        )


class SignatureNotFoundError(ServiceError):
    """The version was not made by the service."""

    status, slug, title = 404, "signature-not-found", "No signature"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} has no model.sig: the service signs what it has "
            "made itself."
        )


class AuditNotFoundError(ServiceError):
    """The version was not made by unlearning."""

    status, slug, title = 404, "audit-not-found", "No audit"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} has no audit: it was {version.origin.value}, "
            "not unlearned."
        )


class FileNotInVersionError(ServiceError):
    """The version has no such file."""

    status, slug, title = 404, "file-not-found", "File not found"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} has no such file; "
            f"`/v1/models/{model.name}/versions/{version.number}/manifest` lists those it has."
        )


class VersionQuarantinedError(ServiceError):
    """The version still holds what was forgotten."""

    status, slug, title = 403, "version-quarantined", "Version quarantined"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} holds data that was forgotten since and cannot be "
            f"downloaded any more; use version {model.latest_version}.",
            latest=model.latest_version,
        )


class VersionDestroyedError(ServiceError):
    """The version's files are gone for good."""

    status, slug, title = 410, "version-destroyed", "Version destroyed"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} was destroyed; use version {model.latest_version}.",
            latest=model.latest_version,
        )


class RangeNotSatisfiableError(ServiceError):
    """The requested range begins after the end."""

    status, slug, title = 416, "range-not-satisfiable", "Range not satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The requested range lies outside the {size} bytes there are.")
        self.headers["Content-Range"] = f"bytes */{size}"
        self.headers["Accept-Ranges"] = "bytes"
