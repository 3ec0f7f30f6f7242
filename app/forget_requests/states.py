"""The one table of legal changes of a forget request's status, and the one place that changes it."""

import datetime as dt
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from app.errors import ServiceError
from app.tables import Event, ForgetRequest
from app.tables.forget_request import RequestStatus as S
from app.telemetry import metrics
from app.webhooks.outbox import announce

TRANSITIONS: Mapping[S, frozenset[S]] = MappingProxyType(
    {
        S.PENDING: frozenset({S.RUNNING, S.NEEDS_REVIEW, S.CANCELLED, S.REFUSED}),
        S.RUNNING: frozenset({S.COMPLETED, S.NEEDS_REVIEW, S.FAILED, S.CANCELLED, S.PENDING}),
        S.NEEDS_REVIEW: frozenset({S.PENDING, S.COMPLETED, S.REFUSED, S.CANCELLED}),
        S.FAILED: frozenset({S.PENDING}),
        S.COMPLETED: frozenset(),
        S.CANCELLED: frozenset(),
        S.REFUSED: frozenset(),
    }
)

FINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
"""States that nothing leads out of."""


class IllegalChangeError(ServiceError):
    """The request's status does not allow what was asked."""

    status, slug, title = 409, "illegal-status-change", "Status does not allow this"

    def __init__(self, request: ForgetRequest, to: S) -> None:
        super().__init__(
            f"Forget request {request.id} is {request.status.value}; it cannot become {to.value}.",
            current=request.status.value,
        )


def change_status(
    session: Session,
    requests: Iterable[ForgetRequest],
    to: S,
    reason: str,
    now: dt.datetime,
    details: dict[str, Any] | None = None,
) -> None:
    """Move requests to status `to`, each with an event that says why. The rows must be locked or fenced.

    Raises:
        IllegalChangeError: One of them cannot go there; the transaction must be rolled back.
    """
    changed, events = list(requests), []
    for request in changed:
        if to not in TRANSITIONS[request.status]:
            raise IllegalChangeError(request, to)
        request.status = to
        request.reason = reason
        request.updated_at = now
        if to is S.COMPLETED:
            request.completed_at = now
        events.append(status_event(request, reason, now, details))
    session.add_all(events)
    if events:
        metrics.when_committed(session, lambda: metrics.status_changes.labels(to.value).inc(len(events)))
    if events and to is not S.PENDING:  # that it waits again is no news to anybody outside
        announce(session, changed, to.value, now)


def status_event(
    request: ForgetRequest, reason: str, now: dt.datetime, details: dict[str, Any] | None = None
) -> Event:
    """Return the event of a request that has just come to its status."""
    return Event(
        forget_request_id=request.id,
        type="status",
        status=request.status.value,
        reason=reason,
        details=details,
        created_at=now,
    )
