"""One run of a job's process, and what follows from its end."""

import logging
import threading
import time
from pathlib import Path

from app.database import database_now
from app.logs import LogStyle, bound_values
from app.runtime import Runtime
from app.tables.job import JobKind
from app.telemetry.tracing import Tracing
from app.worker.claims import Assignment, resume, urgent_work_waits
from app.worker.executor import Executor, Running
from app.worker.heartbeat import Heartbeat
from app.worker.job_records import record_progress
from app.worker.leases import CancelledMeanwhileError, LeaseLostError, hold
from app.worker.outages import OUTAGE, through_outages
from app.worker.publication import ParentMovedError, keep_for_review, publish
from app.worker.reference_keeping import discard_damaged, keep_reference
from app.worker.settlement import (
    release,
    settle_audit,
    settle_bad_targets,
    settle_cancellation,
    settle_failure,
    settle_nothing_to_do,
    settle_references,
)
from app.worker.task import (
    Failure,
    FailureKind,
    Finished,
    Message,
    Progress,
    ReferenceDamaged,
    ReferenceStaged,
    Workplace,
)

PUMP_SECONDS = 0.1
"""Longest wait for a message before looking at the clock, the lease and the stop signal."""

GIVE_WAY_SECONDS = 0.5
"""Pause between looks for work that a job of low priority must give way to."""

STOPPED = "Its worker was stopped; it is tried again."
GAVE_WAY = "It gave way to other work; what it has trained is kept, and the rest is tried again."
PARENT_MOVED = "The model got a newer version meanwhile; it is tried again on that one."

logger = logging.getLogger(__name__)


class _StoppedError(Exception):
    """The worker shall stop, so the job is given back."""


class _GaveWayError(Exception):
    """More urgent work waits than this job is."""


class Attempt:
    """Runs a job once. Its process is gone before anything is decided about it."""

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        assignment: Assignment,
        heartbeat: Heartbeat,
        stop: threading.Event,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing or Tracing()
        self._runtime = runtime
        self._executor = executor
        self._assignment = assignment
        self._heartbeat = heartbeat
        self._stop = stop
        self._next_look = 0.0

    def run(self) -> Assignment | None:
        """Run the job and settle it; return what is left of it once cancelled requests have gone.

        Raises:
            LeaseLostError: The job is another worker's by now; its result is thrown away.
        """
        try:
            with self._runtime.storage.staging(self._assignment.lease.token.hex) as staging:
                self._settle(self._outcome(staging), staging)
        except CancelledMeanwhileError:
            return through_outages(self._without_cancelled, self._heartbeat.lost)
        except _StoppedError:
            self._release(STOPPED)
        except _GaveWayError:
            self._release(GAVE_WAY)
        except ParentMovedError:
            self._release(PARENT_MOVED)
        except OSError as error:
            logger.warning("Job %s met a fault of the system.", self._assignment.lease.job_id, exc_info=error)
            reason = f"The storage or the system could not serve it ({type(error).__name__})."
            self._fail(Failure(FailureKind.STORAGE, reason))
        return None

    def _outcome(self, staging: Path) -> Finished | Failure:
        settings = self._runtime.settings
        workplace = Workplace(
            storage_url=settings.storage_url,
            cache_dir=settings.cache_dir,
            staging=staging,
            memory_bytes=settings.job_memory_bytes,
            log=LogStyle(settings.log_format, settings.log_level, bound_values()),
        )
        running = self._executor.submit(self._assignment.task, workplace)
        try:
            return self._pump(running, staging)
        finally:
            running.cancel()

    def _pump(self, running: Running, staging: Path) -> Finished | Failure:
        seconds = self._runtime.settings.job_timeout_seconds
        deadline = time.monotonic() + seconds
        while True:
            message = running.poll(PUMP_SECONDS)
            if self._heartbeat.lost.is_set():
                raise LeaseLostError(str(self._assignment.lease.job_id))
            if isinstance(message, Finished):
                return message
            if self._stop.is_set():
                raise _StoppedError
            if self._heartbeat.cancelled.is_set():
                raise CancelledMeanwhileError
            if isinstance(message, Failure):
                return message
            self._take(message, staging)
            if time.monotonic() >= deadline:
                return Failure(FailureKind.TIMEOUT, f"It ran for longer than {seconds:g} seconds.")
            self._give_way()

    def _take(self, message: Message | None, staging: Path) -> None:
        """Take note of what a job under way tells. References are kept at once: no end of the job can lose them."""
        if isinstance(message, Progress):
            self._note(message)
        elif isinstance(message, ReferenceStaged):
            keep_reference(self._runtime, self._assignment, message, staging)
        elif isinstance(message, ReferenceDamaged):
            discard_damaged(self._runtime, self._assignment, message)

    def _give_way(self) -> None:
        if self._assignment.task.kind is not JobKind.REFERENCE or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + GIVE_WAY_SECONDS
        try:
            with self._runtime.database.read() as session:
                urgent = urgent_work_waits(session)
        except OUTAGE:
            return  # a database that is away has no work to hand out
        if urgent:
            raise _GaveWayError

    def _note(self, progress: Progress) -> None:
        note = {
            "stage": progress.stage,
            "step": progress.step,
            "of": progress.of,
            "seconds_left": progress.seconds_left,
        }
        try:
            with self._runtime.database.write() as session:
                job = hold(session, self._assignment.lease)
                record_progress(session, job, note, database_now(session))
        except OUTAGE as error:
            logger.warning("Progress was not noted: the database is away (%s).", type(error).__name__)

    def _settle(self, outcome: Finished | Failure, staging: Path) -> None:
        self._trace_rungs(outcome)
        if isinstance(outcome, Finished):
            self._conclude(outcome, staging)
        else:
            logger.warning("Job %s failed: %s.", self._assignment.lease.job_id, outcome.kind.value)
            self._fail(outcome)

    def _trace_rungs(self, outcome: Finished | Failure) -> None:
        """Make spans of what the job's process has tried: it exports none itself, as it ends too soon to send them."""
        for rung in outcome.rungs:
            if rung.get("began_at") is not None:
                verdict = str(rung["audit"]["verdict"]) if rung["audit"] is not None else "failed"
                self._tracing.past(
                    "rung", rung["began_at"], rung["seconds"], method=rung["method"], verdict=verdict
                )

    def _conclude(self, finished: Finished, staging: Path) -> None:
        database, assignment, lost = self._runtime.database, self._assignment, self._heartbeat.lost
        audit, kind = finished.audit, assignment.task.kind
        if audit is not None:
            through_outages(lambda: settle_audit(database, assignment, audit), lost)
        elif kind is JobKind.REFERENCE:
            through_outages(lambda: settle_references(database, assignment), lost)
        elif finished.candidate is not None and finished.passed:
            with self._tracing.span("publish", method=finished.candidate.method):
                number = publish(self._runtime, assignment, finished, staging, lost)
            logger.info("Job %s published version %s.", assignment.lease.job_id, number)
        elif finished.rungs:
            keep_for_review(self._runtime, assignment, finished, staging, lost)
        elif kind is JobKind.UPDATE:
            through_outages(lambda: settle_nothing_to_do(database, assignment), lost)
        else:
            through_outages(lambda: settle_bad_targets(database, assignment, finished), lost)

    def _fail(self, failure: Failure) -> None:
        through_outages(
            lambda: settle_failure(self._runtime.database, self._assignment, failure, self._runtime.settings),
            self._heartbeat.lost,
        )

    def _release(self, reason: str) -> None:
        through_outages(
            lambda: release(self._runtime.database, self._assignment, reason), self._heartbeat.lost
        )

    def _without_cancelled(self) -> Assignment | None:
        database = self._runtime.database
        if not settle_cancellation(database, self._assignment):
            return None
        self._heartbeat.cancelled.clear()
        return resume(database, self._runtime.settings, self._assignment.lease)
