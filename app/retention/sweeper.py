"""The sweep: everything that retention asks for, again and again, by whichever process has its turn.

It runs in a thread of each worker's own process, so that neither a worker that is always busy nor the deletion of
a large directory keeps the other waiting. Each step is a few short transactions and safe to be done twice; a sweep
that is cut off anywhere leaves only work for the next one.
"""

import datetime as dt
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from app.backup.reconciliation import reconcile
from app.database import database_now
from app.retention.compaction import compact
from app.retention.litter import delete_litter, delete_local_litter
from app.retention.references import destroy_references
from app.retention.snapshots import destroy_snapshots, supersede_snapshots
from app.retention.targets import erase_leftovers, erase_targets, forget_answers
from app.retention.turns import Kind, turn
from app.retention.versions import destroy_due_versions
from app.runtime import Runtime
from app.telemetry import metrics
from app.telemetry.overdue import OverdueWarnings
from app.worker.left_candidates import discard_left_candidates
from app.worker.outages import OUTAGE

LISTINGS_PER_AGE = 24
"""Times that the whole storage is listed while litter grows old enough."""

logger = logging.getLogger(__name__)


@dataclass
class Swept:
    """What a sweep did."""

    targets: int = 0
    leftovers: int = 0
    answers: int = 0
    versions: int = 0
    superseded: int = 0
    snapshots: int = 0
    references: int = 0
    litter: int = 0
    local: int = 0
    keys: int = 0
    """Keys of backups that were shredded."""
    compacted: bool = False
    failed: int = 0
    """What could not be deleted; the log says why, and the next sweep tries again."""

    @property
    def changed(self) -> bool:
        """Whether there was anything to do, other than overwriting bytes."""
        idle = {"compacted", "failed"}
        return any(getattr(self, field.name) for field in fields(self) if field.name not in idle)

    def plus(self, other: "Swept") -> "Swept":
        """Return what two sweeps did together; what would not go is what did not go the last time."""
        added = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in {"compacted", "failed"}
        }
        return Swept(**added, compacted=self.compacted or other.compacted, failed=other.failed)


def sweep(
    runtime: Runtime, stop: threading.Event, *, at_once: bool = False, compact_now: bool = False
) -> Swept:
    """Do what is due.

    Args:
        runtime: Settings, database and storage.
        stop: Ends it early, between two things.
        at_once: Do not wait for a turn.
        compact_now: Overwrite erased bytes in any case.
    """
    settings, swept = runtime.settings, Swept()
    swept.local = delete_local_litter(runtime, stop)
    swept.keys = reconcile(runtime)
    pause = dt.timedelta(seconds=settings.sweep_seconds)
    with turn(runtime.database, Kind.ROWS, pause, at_once=at_once) as mine:
        if mine:
            _sweep_rows(runtime, stop, swept)
    pause = max(pause, dt.timedelta(seconds=settings.litter_seconds / LISTINGS_PER_AGE))
    with turn(runtime.database, Kind.LITTER, pause, at_once=at_once) as mine:
        if mine:
            swept.answers = forget_answers(runtime.database, settings)
            swept.litter, failed = delete_litter(runtime, stop)
            swept.failed += failed
    swept.compacted = compact(runtime.database, at_once=compact_now)
    return swept


def _sweep_rows(runtime: Runtime, stop: threading.Event, swept: Swept) -> None:
    with runtime.database.read() as session:
        begun = database_now(session)
    discard_left_candidates(runtime)
    swept.targets = erase_targets(runtime.database, runtime.settings)
    swept.leftovers = erase_leftovers(runtime.database)
    swept.versions, failed_versions = destroy_due_versions(runtime, stop)
    swept.references, failed_references = destroy_references(runtime, stop)
    # Those that an earlier sweep has marked: whoever was about to read one has had the time between the two.
    swept.snapshots, failed_snapshots = destroy_snapshots(runtime, stop, begun)
    swept.superseded = supersede_snapshots(runtime, stop)
    swept.failed = failed_versions + failed_references + failed_snapshots


class Sweeper:
    """Sweeps until it is stopped.

    Args:
        runtime: Settings, database and storage of the process.
        stop: Ends it.
        whole: Whether to sweep the service, or only what is on this machine and open in this process.
    """

    def __init__(self, runtime: Runtime, stop: threading.Event, *, whole: bool) -> None:
        self._runtime = runtime
        self._stop = stop
        self._whole = whole
        self._overdue = OverdueWarnings(runtime.database)

    def run(self) -> None:
        """Work until told to stop; a database or storage that is away is tried again at the next turn."""
        while not self._stop.is_set():
            try:
                self._sweep()
            except (*OUTAGE, OSError) as error:
                logger.warning("A sweep was cut short (%s); it goes on later.", type(error).__name__)
            except Exception:  # whatever it meets, the thread has to live on: retention is a promise
                logger.exception("A sweep met a fault of the service.")
            self._stop.wait(self._runtime.settings.sweep_seconds)

    def _sweep(self) -> None:
        if not self._whole:
            delete_local_litter(self._runtime, self._stop)
            return
        self._overdue.look()
        swept = sweep(self._runtime, self._stop)
        metrics.count_sweep(swept)
        if swept.changed:
            logger.info("Swept: %s.", swept)


@contextmanager
def sweeping(runtime: Runtime, *, whole: bool) -> Iterator[None]:
    """Sweep in a thread of its own while the block runs; its end waits for what is being deleted."""
    stop = threading.Event()
    thread = threading.Thread(target=Sweeper(runtime, stop, whole=whole).run, name="sweeper")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
