"""The worker: one loop that claims a job, has it run, and publishes or settles what came of it.

Each step is a transaction of its own, none of them is open while a job runs, and each is fenced by the lease.
The process imports no torch: jobs run in processes of their own (`app.worker.executor`).
"""

import logging
import os
import socket
import threading
import uuid

from app.logs import NAMED_AT_MOST, bound
from app.retention.sweeper import sweeping
from app.runtime import Runtime
from app.schema import require_current_schema
from app.settings import Settings
from app.tables.job import JobKind
from app.telemetry import metrics
from app.telemetry.exposition import worker_metrics
from app.telemetry.tracing import Tracing
from app.webhooks.dispatcher import start_dispatcher
from app.worker.admission import claim_within_limits
from app.worker.attempt import Attempt
from app.worker.claims import Assignment, work_waits
from app.worker.executor import Executor
from app.worker.heartbeat import Heartbeat
from app.worker.judged_uploads import discard_judged_uploads
from app.worker.leases import LeaseLostError
from app.worker.left_candidates import discard_left_candidates
from app.worker.local_process import LocalProcessExecutor
from app.worker.outages import LONGEST_PAUSE_SECONDS, OUTAGE, through_outages
from app.worker.settlement import reap, settle_failure
from app.worker.task import Failure, FailureKind

logger = logging.getLogger(__name__)


def run_worker(
    settings: Settings,
    *,
    stop: threading.Event,
    executor: Executor | None = None,
    ready: threading.Event | None = None,
) -> None:
    """Work until `stop` is set; a job under way is then given back at once.

    Args:
        settings: Where database and storage are.
        stop: Ends the worker.
        executor: What runs jobs; processes of this machine by default.
        ready: Set once a job would start without delay.

    Raises:
        SchemaError: The database's schema is not the one this code needs.
        SigningKeyError: There is no key to sign certificates with.
    """
    runtime = Runtime.open(settings)
    try:
        require_current_schema(runtime.database)
        runtime.signing.require()  # nothing can be published without: found out now, not after hours of work
        executor = executor or LocalProcessExecutor()
        executor.start()
        tracing = Tracing.start(settings, "worker")
        try:
            with worker_metrics(runtime), sweeping(runtime, whole=True):
                if ready is not None:
                    ready.set()
                logger.info("The worker is ready.")
                dispatcher = start_dispatcher(runtime, stop)
                Worker(runtime, executor, stop, tracing).run()
                dispatcher.join()
        finally:
            tracing.close()
            executor.close()
    finally:
        runtime.close()


class Worker:
    """One worker. It serves one job at a time."""

    def __init__(
        self, runtime: Runtime, executor: Executor, stop: threading.Event, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing or Tracing()
        self._runtime = runtime
        self._executor = executor
        self._stop = stop
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"

    def run(self) -> None:
        """Work until told to stop; a database that is away is waited for."""
        pause = self._runtime.settings.poll_seconds
        while not self._stop.is_set():
            try:
                busy = self.step()
                pause = self._runtime.settings.poll_seconds
            except (*OUTAGE, OSError) as error:
                logger.warning(
                    "The database or the storage is away (%s); trying again soon.", type(error).__name__
                )
                busy, pause = False, min(2 * pause, LONGEST_PAUSE_SECONDS)
            if not busy:
                self._stop.wait(pause)

    def run_until_idle(self) -> int:
        """Serve what there is and return how many jobs it took."""
        jobs = 0
        while self.step():
            jobs += 1
        return jobs

    def step(self) -> bool:
        """Take over what dead workers left, claim one job and serve it; False where there is nothing to do."""
        with self._runtime.database.read() as session:
            if not work_waits(session):
                return False
        for token in reap(self._runtime.database, self._runtime.settings):
            metrics.expired_leases.inc()
            logger.warning("A job was taken away from a worker that had fallen silent.")
            self._runtime.storage.discard_staging(token)
        with self._tracing.span("claim"):
            assignment = claim_within_limits(self._runtime, self._owner)
        if assignment is None:
            return False
        discard_left_candidates(self._runtime)
        discard_judged_uploads(self._runtime)
        requests = [str(request_id) for request_id in assignment.request_ids]
        with bound(
            job_id=str(assignment.lease.job_id),
            model=assignment.model_name,
            forget_requests=requests[:NAMED_AT_MOST],
            forget_request_count=len(requests),
        ):
            logger.info("Job %s of model %s begins.", assignment.lease.job_id, assignment.model_name)
            self._serve(assignment)
        if assignment.task.kind is JobKind.AUDIT:
            discard_judged_uploads(self._runtime)
        return True

    def _serve(self, assignment: Assignment) -> None:
        job_id, settings = assignment.lease.job_id, self._runtime.settings
        with Heartbeat(self._runtime.database, assignment.lease, settings.lease_seconds) as heartbeat:
            try:
                left: Assignment | None = assignment
                while left is not None:
                    left = self._attempt(left, heartbeat)
            except LeaseLostError:
                metrics.lost_leases.inc()
                logger.warning("Job %s was lost; its result is discarded.", job_id)
            except Exception:  # a fault of the service's own, met by this job, must not take the worker down
                logger.exception("Job %s met a fault of the service.", job_id)
                self._give_up(assignment, heartbeat)

    def _attempt(self, assignment: Assignment, heartbeat: Heartbeat) -> Assignment | None:
        requests = len(assignment.request_ids)
        with self._tracing.span(
            "job",
            follows=assignment.traceparents,
            job_id=str(assignment.lease.job_id),
            kind=assignment.task.kind.value,
            requests=requests,
        ):
            return Attempt(
                self._runtime, self._executor, assignment, heartbeat, self._stop, self._tracing
            ).run()

    def _give_up(self, assignment: Assignment, heartbeat: Heartbeat) -> None:
        """Let a job that the service itself could not handle count as one more death."""
        failure = Failure(FailureKind.CRASHED, "The service failed; its log says how.")
        try:
            through_outages(
                lambda: settle_failure(self._runtime.database, assignment, failure, self._runtime.settings),
                heartbeat.lost,
            )
        except LeaseLostError:
            logger.warning("Job %s was lost.", assignment.lease.job_id)
