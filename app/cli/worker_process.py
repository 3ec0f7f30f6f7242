"""The worker that `expunge serve` runs beside its API: a process of its own, watched and started again."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from types import TracebackType
from typing import Self

from app.cli.logs import configure_logging
from app.cli.output import say
from app.cli.signals import on_stop_signals
from app.settings import Settings

SHORT_LIFE_SECONDS = 10.0
MOST_SHORT_LIVES = 3
"""So many deaths within a short life, one after the other, and the worker is given up."""
STOP_SECONDS = 20.0
"""How long a worker may take to put its job away; then it is killed, and its lease runs out."""


class WorkerProcess:
    """Keeps one worker running while the `with` block runs.

    A job whose worker dies is taken over by the next one, so starting again is always safe; a worker that dies
    at once every time has a cause that starting again does not cure.
    """

    def __init__(self, settings: Settings, *, on_giving_up: Callable[[], None]) -> None:
        self._settings = settings
        self._on_giving_up = on_giving_up
        self._stop_receiver, self._stop_sender = multiprocessing.Pipe(duplex=False)
        self._watcher = threading.Thread(target=self._watch, name="worker-watcher")
        self.gave_up = False

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_sender.close()
        self._watcher.join()
        self._stop_receiver.close()

    def _watch(self) -> None:
        # Ctrl-C reaches every process of a terminal, but what it means is the serving process's decision. The
        # worker and its children inherit this thread's mask, from their first instruction on.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        short_lives = 0
        while short_lives < MOST_SHORT_LIVES:
            started = time.monotonic()
            process = self._start()
            if self._stop_receiver in wait([process.sentinel, self._stop_receiver]):
                _stop(process)
                return
            process.join()
            say(f"The worker ended with status {process.exitcode}.")
            short_lives = short_lives + 1 if time.monotonic() - started < SHORT_LIFE_SECONDS else 0
        self.gave_up = True
        self._on_giving_up()

    def _start(self) -> SpawnProcess:
        # Spawned, not forked: the parent has threads, and a fork would copy their locks in whatever state.
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_run, args=(self._settings,), name="expunge-worker")
        process.start()
        return process


def _stop(process: SpawnProcess) -> None:
    process.terminate()
    process.join(STOP_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()


def _run(settings: Settings) -> None:
    """Be the worker: stop when told to, and when the serving process is gone without a word."""
    stop = threading.Event()

    def stop_with_parent() -> None:
        parent = parent_process()
        if parent is not None:
            wait([parent.sentinel])
            stop.set()

    threading.Thread(target=stop_with_parent, name="parent-watcher", daemon=True).start()
    configure_logging(settings)
    with on_stop_signals(stop.set):
        from app.worker.worker import run_worker  # noqa: PLC0415 - the serving process needs none of its modules

        run_worker(settings, stop=stop)
