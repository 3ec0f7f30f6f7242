"""How an OpenDSR request stands, from how its forget requests stand."""

from collections.abc import Collection
from types import MappingProxyType
from typing import Literal

from app.tables.forget_request import RequestStatus

OpenDsrStatus = Literal["pending", "in_progress", "completed", "cancelled"]

STATUSES = MappingProxyType(
    {
        RequestStatus.PENDING: "pending",
        RequestStatus.RUNNING: "in_progress",
        RequestStatus.NEEDS_REVIEW: "in_progress",
        RequestStatus.FAILED: "in_progress",
        RequestStatus.COMPLETED: "completed",
        RequestStatus.CANCELLED: "cancelled",
        RequestStatus.REFUSED: "cancelled",
    }
)
"""OpenDSR knows no refusal: a refused request will never be carried out, so it is `cancelled` there."""


def status_of(statuses: Collection[RequestStatus]) -> OpenDsrStatus:
    """Return one status for all: completed only where every model has forgotten.

    >>> status_of([RequestStatus.COMPLETED, RequestStatus.RUNNING])
    'in_progress'
    >>> status_of([RequestStatus.COMPLETED, RequestStatus.REFUSED])
    'cancelled'
    """
    found = {STATUSES[status] for status in statuses}
    if found == {"pending"}:
        return "pending"
    if found == {"completed"}:
        return "completed"
    return "cancelled" if found <= {"completed", "cancelled"} else "in_progress"
