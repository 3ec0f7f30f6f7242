"""Gauges that only the database can tell, asked for when somebody looks.

Every query runs over an index of open work alone, so its cost is that of the backlog and not of the history. The
connection is one of its own: a scrape must neither wait for a busy pool nor take a call's place in it.
"""

import datetime as dt
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, NullPool, QueuePool, create_engine, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import Database, database_now
from app.forget_requests.schemas import OPEN
from app.tables import ForgetRequest, Job, WebhookMessage
from app.tables.forget_request import RequestStatus
from app.tables.job import JobState
from app.trust.log.tree import log_size

LONGEST_SECONDS = 2
"""So long a query, and the way to the database, may take."""

FRESH_SECONDS = 1.0
"""An answer serves all who ask so soon after: `/metrics` has no keys, and must be no way to load the database."""

WATCHED = (RequestStatus.PENDING, RequestStatus.RUNNING, RequestStatus.NEEDS_REVIEW, RequestStatus.FAILED)
ACTIVE_JOBS = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)


@dataclass(frozen=True)
class Backlog:
    """What waits, by the database."""

    requests: dict[str, int]
    """Status -> forget requests; what is over for good is not among them."""
    queue_age: float
    """Seconds that the oldest pending request has waited; 0 where none does."""
    overdue: int
    jobs: dict[str, int]
    webhooks: int
    """Messages that wait for their first or next attempt."""
    log_size: int


def read_backlog(session: Session) -> Backlog:
    """Ask the database for everything."""
    now = database_now(session)
    oldest = session.scalar(
        select(func.min(ForgetRequest.created_at)).where(ForgetRequest.status == RequestStatus.PENDING)
    )
    overdue = select(func.count()).where(ForgetRequest.status.in_(OPEN), ForgetRequest.due_at < now)
    waiting = select(func.count()).where(WebhookMessage.next_attempt_at.is_not(None))
    return Backlog(
        requests=_by(session, ForgetRequest.status, WATCHED),
        queue_age=max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0,
        overdue=session.scalars(overdue).one(),
        jobs=_by(session, Job.state, ACTIVE_JOBS),
        webhooks=session.scalars(waiting).one(),
        log_size=log_size(session),
    )


def _by(session: Session, column: Any, values: tuple[Any, ...]) -> dict[str, int]:
    query = select(column, func.count()).where(column.in_(values)).group_by(column)
    counted: dict[Any, int] = dict(session.execute(query).all())
    return {value.value: counted.get(value, 0) for value in values}


class DatabaseCollector(Collector):
    """Answers a scrape. A database that is away is a sample, never an error."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._lock = threading.Lock()
        self._asked_at = -FRESH_SECONDS
        self._latest: Backlog | None = None

    def collect(self) -> Iterator[Metric]:
        """Return the samples."""
        backlog = self._read()
        yield GaugeMetricFamily(
            "expunge_database_up", "Whether the database answered in time.", value=float(backlog is not None)
        )
        if backlog is None:
            return
        yield _family(
            "expunge_forget_requests", "Open and failed forget requests.", "status", backlog.requests
        )
        yield GaugeMetricFamily(
            "expunge_queue_age_seconds", "Wait of the oldest pending forget request.", value=backlog.queue_age
        )
        yield GaugeMetricFamily(
            "expunge_forget_requests_overdue", "Open requests past their due date.", value=backlog.overdue
        )
        yield _family("expunge_jobs_active", "Jobs that wait or run.", "state", backlog.jobs)
        yield GaugeMetricFamily(
            "expunge_webhook_messages_waiting", "Messages in the outbox.", value=backlog.webhooks
        )
        yield GaugeMetricFamily("expunge_log_size", "Leaves of the transparency log.", value=backlog.log_size)

    def close(self) -> None:
        """Close what is open."""
        self._engine.dispose()

    def _read(self) -> Backlog | None:
        with self._lock:
            if time.monotonic() - self._asked_at >= FRESH_SECONDS:
                try:
                    with Session(self._engine) as session:
                        self._latest = read_backlog(session)
                except SQLAlchemyError:
                    self._latest = None
                self._asked_at = time.monotonic()
            return self._latest


class PoolCollector(Collector):
    """Use of a process's own database connections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Return the samples."""
        pools = [pool for pool in self._database.pools if isinstance(pool, QueuePool)]
        numbers = {
            "size": sum(pool.size() for pool in pools),
            "in_use": sum(pool.checkedout() for pool in pools),
        }
        yield _family(
            "expunge_database_pool_connections", "Connections of this process's pool.", "state", numbers
        )


def overdue_requests(session: Session, most: int) -> tuple[int, list[str]]:
    """Count the requests that are past their due date, and name those that have been longest."""
    overdue = (ForgetRequest.status.in_(OPEN), ForgetRequest.due_at < database_now(session))
    number = session.scalars(select(func.count()).where(*overdue)).one()
    named = session.scalars(
        select(ForgetRequest.id).where(*overdue).order_by(ForgetRequest.due_at).limit(most)
    )
    return number, [str(request_id) for request_id in named]


def _family(name: str, what: str, label: str, numbers: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family


def _engine(url: str) -> Engine:
    arguments: dict[str, Any] = {"timeout": LONGEST_SECONDS}
    if make_url(url).get_backend_name() == "postgresql":
        milliseconds = int(dt.timedelta(seconds=LONGEST_SECONDS) / dt.timedelta(milliseconds=1))
        arguments = {
            "connect_timeout": LONGEST_SECONDS,
            "options": f"-c statement_timeout={milliseconds}",
        }
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
