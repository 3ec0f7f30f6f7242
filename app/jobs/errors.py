"""Refusals about jobs."""

import uuid

from app.errors import ServiceError
from app.tables import Job


class JobNotFoundError(ServiceError):
    """There is no such job, or none that the key may see."""

    status, slug, title = 404, "job-not-found", "Job not found"

    def __init__(self, job_id: uuid.UUID) -> None:
        super().__init__(f"There is no job {job_id}.")


class NothingToLearnError(ServiceError):
    """The model stands where its dataset stands."""

    status, slug, title = 409, "nothing-to-learn", "Nothing to learn"

    def __init__(self, model: str, version: int, snapshot: int) -> None:
        super().__init__(
            f"Version {version} of the model {model!r} has learned snapshot {snapshot}, the head of its dataset."
        )


class CannotUpdateError(ServiceError):
    """No method can bring this model to another state of its data."""

    status, slug, title = 422, "no-suitable-method", "No suitable method"

    def __init__(self, model: str, architecture: str) -> None:
        super().__init__(
            f"No installed method updates models of the architecture {architecture!r}, such as {model!r}; "
            "train it elsewhere and register the result as a new version."
        )


class JobNotCancellableError(ServiceError):
    """The job has ended, or belongs to forget requests."""

    status, slug, title = 409, "job-not-cancellable", "Job cannot be cancelled"

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"Job {job.id} serves forget requests: cancel those."
            if job.kind == "unlearn"
            else f"Job {job.id} is {job.state.value}; it cannot be cancelled any more."
        )
