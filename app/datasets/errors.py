"""Refusals about datasets."""

import uuid
from collections.abc import Sequence

from app.errors import ServiceError
from app.tables import Dataset

NAMED_AT_MOST = 20
"""How many offending ids a refusal names."""


class DatasetNotFoundError(ServiceError):
    """No dataset has this id."""

    status, slug, title = 404, "dataset-not-found", "Dataset not found"

    def __init__(self, dataset_id: uuid.UUID) -> None:
        super().__init__(f"There is no dataset {dataset_id}; `GET /v1/datasets` lists those there are.")


class UnknownDatasetError(ServiceError):
    """A body names a dataset that does not exist."""

    status, slug, title = 422, "unknown-dataset", "Unknown dataset"

    def __init__(self, dataset_id: uuid.UUID) -> None:
        super().__init__(f"There is no dataset {dataset_id}; register the training records first.")


class SnapshotNotFoundError(ServiceError):
    """The dataset has no such snapshot."""

    status, slug, title = 404, "snapshot-not-found", "Snapshot not found"

    def __init__(self, dataset: Dataset, number: int) -> None:
        super().__init__(
            f"The dataset {dataset.name!r} has no snapshot {number}; its newest is {dataset.head_snapshot}."
        )


class DatasetExistsError(ServiceError):
    """The name is taken."""

    status, slug, title = 409, "dataset-exists", "Dataset exists"

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(
            f"There is a dataset {dataset.name!r} already, {dataset.id}: "
            f"send new records to `/v1/datasets/{dataset.id}/snapshots`, or choose another name.",
            dataset=str(dataset.id),
        )


class DatasetBusyError(ServiceError):
    """The head moved again and again while records were added."""

    status, slug, title = 409, "dataset-busy", "Dataset is changing"

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(
            f"The dataset {dataset.name!r} kept changing while the new snapshot was made; try again."
        )
        self.headers["Retry-After"] = "5"


class ForgottenRecordsError(ServiceError):
    """Forgotten records were to come back."""

    status, slug, title = 422, "forgotten-records", "Forgotten records"

    def __init__(self, dataset: Dataset, ids: Sequence[str]) -> None:
        more = " …" if len(ids) > NAMED_AT_MOST else ""
        super().__init__(
            f"{len(ids)} of these records were forgotten from the dataset {dataset.name!r} and cannot be "
            f"learned again: {', '.join(map(repr, ids[:NAMED_AT_MOST]))}{more}. Leave them out.",
            ids=list(ids[:NAMED_AT_MOST]),
            count=len(ids),
        )
