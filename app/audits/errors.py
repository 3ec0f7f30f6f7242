"""Refusals of audits."""

import uuid

from app.errors import ServiceError
from app.tables import Dataset, Model, Snapshot, Version


class AuditRunNotFoundError(ServiceError):
    """There is no such audit, or none that the key may see."""

    status, slug, title = 404, "audit-not-found", "Audit not found"

    def __init__(self, audit_id: uuid.UUID) -> None:
        super().__init__(f"There is no audit {audit_id}.")


class UnknownVersionError(ServiceError):
    """The body names a version that the model does not have."""

    status, slug, title = 422, "unknown-version", "Unknown version"

    def __init__(self, model: Model, number: int) -> None:
        super().__init__(
            f"The model {model.name!r} has no version {number}; both versions of an audit are of one model, whose "
            f"latest is {model.latest_version}."
        )


class VersionGoneError(ServiceError):
    """The files of a version were destroyed, so nobody can judge it or by it."""

    status, slug, title = 409, "version-gone", "Version gone"

    def __init__(self, model: Model, version: Version) -> None:
        super().__init__(
            f"Version {version.number} of the model {model.name!r} was destroyed; an audit needs its files."
        )


class SnapshotGoneError(ServiceError):
    """What the original had learned was destroyed, so nothing can be measured."""

    status, slug, title = 409, "snapshot-destroyed", "Snapshot destroyed"

    def __init__(self, dataset: Dataset, version: Version, snapshot: Snapshot) -> None:
        super().__init__(
            f"Snapshot {snapshot.number} of the dataset {dataset.name!r}, which version {version.number} has learned, "
            "was destroyed; an audit measures on its records."
        )


class NoSuiteError(ServiceError):
    """The family's models cannot be audited."""

    status, slug, title = 422, "no-audit-of-family", "No audit for this family"

    def __init__(self, model: Model) -> None:
        super().__init__(
            f"There is no audit for models of the family {model.family!r}, such as {model.name!r}."
        )
