"""Refusals of jobs that train references."""

from app.errors import ServiceError
from app.tables import Job, Model


class ReferencesNotWantedError(ServiceError):
    """No audit of the model would use them."""

    status, slug, title = 409, "references-not-wanted", "References not wanted"

    def __init__(self, model: Model) -> None:
        super().__init__(
            f"The policy of the model {model.name!r} never retrains references; set 'reference' to 'within_budget' or "
            "'always' first."
        )


class ReferenceJobExistsError(ServiceError):
    """Another such job of the model has not ended."""

    status, slug, title = 409, "reference-job-exists", "References are being trained"

    def __init__(self, model: Model, job: Job) -> None:
        super().__init__(
            f"Job {job.id} trains references of the model {model.name!r} already; wait for it, or cancel it.",
            job=str(job.id),
        )
