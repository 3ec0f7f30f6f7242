"""The thread that keeps a lease alive while its worker is busy, and listens for cancellations."""

import contextvars
import logging
import threading
import time
from types import TracebackType
from typing import Self

from app.database import Database
from app.worker.leases import Lease, LeaseLostError, cancel_requested, renew
from app.worker.outages import OUTAGE

RENEWALS_PER_LEASE = 3
LOOK_SECONDS = 0.25
"""Pause between looks for a cancellation: one indexed read each."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renews a lease for as long as the `with` block runs.

    Attributes:
        lost: Set once the lease is lost, or must be taken for lost because the database could not be reached
            for as long as it lasts. That the time is taken before each renewal is sent errs on the safe side.
        cancelled: Set while somebody wants the job, or one of its requests, stopped.
    """

    def __init__(self, database: Database, lease: Lease, lease_seconds: float) -> None:
        self.lost = threading.Event()
        self.cancelled = threading.Event()
        self._database = database
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._renewed = time.monotonic()
        self._done = threading.Event()
        # Its lines in the log shall name the job, too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._beat,), name="heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        try:
            self._renew_while_it_lasts()
        finally:
            # Whatever ends this thread early, nobody renews the lease any more.
            if not self._done.is_set():
                self.lost.set()

    def _renew_while_it_lasts(self) -> None:
        pause = min(LOOK_SECONDS, self._lease_seconds / RENEWALS_PER_LEASE)
        while not self._done.wait(pause):
            try:
                self._renew_when_due()
                self._look_for_cancellation()
            except LeaseLostError:
                return
            except OUTAGE as error:
                logger.warning("The database is away (%s); the job goes on meanwhile.", type(error).__name__)
            if time.monotonic() - self._renewed >= self._lease_seconds:
                return

    def _renew_when_due(self) -> None:
        now = time.monotonic()
        if now - self._renewed < self._lease_seconds / RENEWALS_PER_LEASE:
            return
        with self._database.write() as session:
            renew(session, self._lease, self._lease_seconds)
        self._renewed = now

    def _look_for_cancellation(self) -> None:
        with self._database.read() as session:
            if cancel_requested(session, self._lease):
                self.cancelled.set()
