"""Refusals of forget requests."""

import datetime as dt
import uuid
from collections.abc import Sequence

from app.errors import ServiceError
from app.tables import ForgetRequest
from models.families import Family

NAMED_AT_MOST = 20
"""How many offending ids an answer names."""


class ForgetRequestNotFoundError(ServiceError):
    """There is no such request, or none that the key may see."""

    status, slug, title = 404, "forget-request-not-found", "Forget request not found"

    def __init__(self, request_id: uuid.UUID) -> None:
        super().__init__(f"There is no forget request {request_id}.")


class UnknownModelError(ServiceError):
    """The body names a model that is not registered."""

    status, slug, title = 422, "unknown-model", "Unknown model"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no model {name!r}; GET /v1/models lists those there are.")


class DatasetWithoutModelsError(ServiceError):
    """The body names a dataset that is not there, or that no model was made from."""

    status, slug, title = 422, "dataset-without-models", "Dataset without models"

    def __init__(self, dataset_id: uuid.UUID) -> None:
        super().__init__(
            f"There is no model over a dataset {dataset_id}; GET /v1/models lists the models there are."
        )


class DueTooEarlyError(ServiceError):
    """The deadline is over already."""

    status, slug, title = 422, "due-in-the-past", "Due date in the past"

    def __init__(self, due_at: dt.datetime) -> None:
        super().__init__(f"'due_at' must lie in the future; {due_at.isoformat()} does not.")


class UnsuitableTargetError(ServiceError):
    """Models of this family hold no such things."""

    status, slug, title = 422, "unsuitable-target", "Target does not suit the model"

    def __init__(self, model: str, family: Family, kind: str) -> None:
        super().__init__(
            f"The model {model!r} is of the family {family.name!r}, which forgets "
            f"{', '.join(sorted(family.target_kinds))}; it cannot forget {kind}.",
            target_kinds=sorted(family.target_kinds),
        )


class TargetTooLargeError(ServiceError):
    """One request names more than the service accepts."""

    status, slug, title = 422, "target-too-large", "Target too large"

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"The target names {count} things; one request may name {limit}. Send several.")


class UnknownIdsError(ServiceError):
    """The target names what the model never learned and its dataset does not hold."""

    status, slug, title = 422, "unknown-ids", "Unknown ids"

    def __init__(self, model: str, kind: str, missing: Sequence[str]) -> None:
        named, more = list(missing[:NAMED_AT_MOST]), max(0, len(missing) - NAMED_AT_MOST)
        super().__init__(
            f"{len(missing)} of the target's {kind} are known neither to the model {model!r} nor to its dataset: "
            f"{', '.join(map(repr, named))}{f' and {more} more' if more else ''}. Nothing was stored.",
            unknown=named,
            more=more,
        )


class TargetErasedError(ServiceError):
    """The ids were erased at the end of their retention, so nothing can be tried again."""

    status, slug, title = 409, "target-erased", "Target erased"

    def __init__(self, request: ForgetRequest) -> None:
        super().__init__(f"The target of forget request {request.id} was erased; submit a new request.")


class RetrainingNotAllowedError(ServiceError):
    """Only retraining could serve the request, and the model's policy forbids it."""

    status, slug, title = 422, "retraining-not-allowed", "Retraining not allowed"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Nothing but retraining can give what was asked, and the policy of the model {model!r} does not allow it; "
            "ask for a weaker guarantee or another method, or have the policy changed."
        )


class NotOpenError(ServiceError):
    """Nobody waits for the request any more, so its due date means nothing."""

    status, slug, title = 409, "request-not-open", "Request not open"

    def __init__(self, request: ForgetRequest) -> None:
        super().__init__(
            f"Forget request {request.id} is {request.status.value}; only an open request has a due date to put off.",
            current=request.status.value,
        )


class AlreadyExtendedError(ServiceError):
    """A due date is put off once."""

    status, slug, title = 409, "already-extended", "Already extended"

    def __init__(self, request: ForgetRequest) -> None:
        super().__init__(
            f"The due date of forget request {request.id} was put off before, to {request.due_at.isoformat()}; "
            "that can happen once."
        )


class TooManyStreamsError(ServiceError):
    """Every event stream costs a connection; the process has as many as it takes."""

    status, slug, title = 503, "too-many-streams", "Too many event streams"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This process already serves {limit} event streams; try again, or read the events as a JSON list."
        )
        self.headers["Retry-After"] = "5"
