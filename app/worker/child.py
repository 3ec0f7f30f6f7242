"""The process of one job: its limits, its messages, and what its end means.

Its module is what the forkserver imports ahead of every job, torch included.
"""

import ctypes
import errno
import hashlib
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from pathlib import Path
from typing import Self

from app.logs import configure_logging
from app.worker.child_job import JobFailedError, Tell, execute
from app.worker.task import Failure, FailureKind, Finished, JobTask, Message, Progress, Workplace
from models.contracts import Progress as Report
from models.errors import ModelsError
from unlearning.errors import UnlearningError

PROGRESS_SECONDS = 1 / 3
"""Pause between two reports, and before the first: most jobs on small models end sooner."""

PR_SET_PDEATHSIG = 1
KIBIBYTE = 1 << 10

logger = logging.getLogger(__name__)


def main(task: JobTask, workplace: Workplace, connection: Connection) -> None:
    """Run a job and send what came of it; the entry point of the process."""
    configure_logging(workplace.log)
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides.
    if workplace.memory_bytes is not None:
        limit_memory(workplace.memory_bytes)
    sending = threading.Lock()

    def send(message: Message) -> None:
        with sending:  # the reporter's thread sends too
            connection.send(message)

    with Reporter(send) as report:
        outcome = run(task, workplace, report, send)
    connection.send(outcome)
    connection.close()


def run(task: JobTask, workplace: Workplace, report: Report, tell: Tell) -> Finished | Failure:
    """Do the job and turn every way of failing into a `Failure`."""
    try:
        return execute(task, workplace, report, tell)
    except JobFailedError as error:
        return Failure(
            error.kind,
            error.reason,
            traceback_digest=_log_traceback(error),
            bad_targets=error.bad_targets,
            rungs=error.rungs,
            plan=error.plan,
            skipped=error.skipped,
        )
    except (UnlearningError, ModelsError) as error:
        return Failure(FailureKind.METHOD, str(error), traceback_digest=_log_traceback(error))
    except Exception as error:  # noqa: BLE001 - a job may run anybody's code; whatever it raises ends this job alone
        if is_out_of_memory(error):
            return Failure(FailureKind.OUT_OF_MEMORY, _memory_reason(workplace))
        digest = _log_traceback(error)
        # The message of a stranger's exception may hold ids of records, so only its type is passed on.
        reason = f"The job raised {type(error).__name__}; the worker's log has its traceback, {digest[:12]}."
        return Failure(FailureKind.METHOD, reason, traceback_digest=digest)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory could not be had, in the dialect of Python, C or torch."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in words or "out of memory" in words)
    )


class Reporter:
    """Sends the newest report a few times a second, from a thread of its own.

    So a report costs its caller two assignments, and the last one before a long silence is still sent.
    """

    def __init__(self, send: Callable[[Progress], None]) -> None:
        self._send = send
        self._latest: tuple[str, int, int] | None = None
        self._stage_began = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def __call__(
        self, stage: str, step: int, of: int, _figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Report that step `step` of `of` of a stage is done; the audit keeps the figures."""
        if self._latest is None or self._latest[0] != stage:
            self._stage_began = time.monotonic()
        self._latest = stage, step, of

    def _run(self) -> None:
        sent = None
        while not self._done.wait(PROGRESS_SECONDS):
            latest = self._latest
            if latest is not None and latest != sent:
                self._send(self._describe(*latest))
                sent = latest

    def _describe(self, stage: str, step: int, of: int) -> Progress:
        elapsed = time.monotonic() - self._stage_began
        return Progress(stage, step, of, elapsed * (of - step) / step if step > 0 else None)


def limit_memory(extra: int) -> None:
    """Let this process allocate `extra` bytes beyond what it holds.

    `RLIMIT_DATA` counts the private memory that can be written to, which is what a runaway method uses up;
    `RLIMIT_AS` would count mapped libraries and files too, many gigabytes of them with torch. Linux alone
    enforces it.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        logger.warning("This system cannot limit the memory of a job; the limit is ignored.")
        return
    held = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
    limit = int(held.split()[1]) * KIBIBYTE + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def die_with_parent() -> None:
    """End this process when its worker ends, however that dies.

    The worker's end shows as the end of a pipe, which a thread watches. The forkserver, this process's parent for
    the system, may be killed on its own; then nobody could tell the worker about this process's end, so the
    system is asked to kill it too (Linux).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    worker = parent_process()
    if worker is None:
        raise RuntimeError("a job's process must be started by a worker")

    def watch() -> None:
        wait([worker.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="worker-watcher", daemon=True).start()


def _log_traceback(error: BaseException) -> str:
    """Log where an exception came from and return the digest that finds it again.

    Messages are left out of the log and of the digest: they may hold ids, and differ between equal failures.
    """
    frames = "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__
    digest = hashlib.sha256(frames.encode()).hexdigest()
    logger.error("A job failed; traceback %s:\n%s", digest, frames)
    return digest


def _memory_reason(workplace: Workplace) -> str:
    if workplace.memory_bytes is None:
        return "The job ran out of memory."
    return f"The job needed more than the {workplace.memory_bytes} bytes of memory it may allocate."
