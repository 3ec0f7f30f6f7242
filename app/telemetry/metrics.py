"""Counters and histograms of one process. Their labels come from closed sets: no id, no name a client chooses.

The API answers its own and those of the database (`app.telemetry.collector`) at `/metrics`, a worker its own at the
port that `EXPUNGE_WORKER_METRICS_PORT` names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Histogram
from sqlalchemy import event
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from app.retention.sweeper import Swept

CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOB_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 21_600.0)

calls = Histogram(
    "expunge_http_request_duration_seconds",
    "HTTP calls by route template and status, from the first byte to the last.",
    ["method", "route", "status"],
    buckets=CALL_SECONDS,
)
jobs = Counter("expunge_jobs", "Runs of jobs by what they came to.", ["kind", "outcome"])
job_seconds = Histogram(
    "expunge_job_duration_seconds", "Jobs from claim to end.", ["kind"], buckets=JOB_SECONDS
)
rung_seconds = Histogram(
    "expunge_method_duration_seconds",
    "Methods tried, from their start to the end of their audit.",
    ["method"],
    buckets=JOB_SECONDS,
)
audits = Counter("expunge_audit_verdicts", "Verdicts on what methods have made.", ["method", "verdict"])
status_changes = Counter(
    "expunge_forget_request_changes", "Forget requests that came to a status.", ["status"]
)
expired_leases = Counter("expunge_leases_expired", "Jobs taken away from workers that had fallen silent.")
lost_leases = Counter("expunge_leases_lost", "Jobs whose result this worker had to throw away.")
webhooks = Counter("expunge_webhook_attempts", "Webhook messages sent, by outcome.", ["outcome"])
swept = Counter("expunge_swept", "What the sweeper erased, destroyed or deleted.", ["what"])


def when_committed(session: Session, action: Callable[[], None]) -> None:
    """Do something once the session's transaction is committed, and never if it is not."""
    event.listen(session, "after_commit", lambda _session: action(), once=True)


def count_rungs(rungs: Sequence[Mapping[str, Any]]) -> None:
    """Count what a job has tried, as its outcome describes it."""
    for rung in rungs:
        rung_seconds.labels(rung["method"]).observe(rung["seconds"])
        audit = rung["audit"]
        audits.labels(rung["method"], str(audit["verdict"]) if audit is not None else "failed").inc()


def count_sweep(done: "Swept") -> None:
    """Count what a sweep did."""
    for field in fields(done):
        number = int(getattr(done, field.name))
        if number:
            swept.labels(field.name).inc(number)
