"""A worker that carries faults: the real one, with some of its functions wrapped in this process alone.

Workers are forked from a server that has every module imported, and so are their own forkservers, which costs
20 ms instead of three seconds; the forkserver that a worker starts anew after its first one was killed is a cold
one. What a worker does with them is the service's own code, executor included.
"""

import datetime as dt
import errno
import functools
import json
import logging
import mmap
import os
import pickle
import signal
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import forkserver, util
from multiprocessing.connection import wait
from multiprocessing.process import parent_process
from pathlib import Path
from typing import Any

from sqlalchemy import text

import app.database
from app.cli.logs import configure_logging
from app.cli.signals import on_stop_signals
from app.settings import Settings
from app.worker.claims import Assignment
from app.worker.local_process import LocalProcessExecutor
from app.worker.outages import OUTAGE
from app.worker.task import Finished
from app.worker.worker import run_worker
from benchmarks.faults.points import Action, Fault, Provocation, Victim, resolve

LINGER_LEASES = 0.6
"""How long a lingering job takes, in leases: longer than the pause between two renewals."""

START_AGAIN_SECONDS = 0.2

LAYOUT = struct.Struct("<i32s")
"""How many of the faults have struck, and the id of the job at hand in hexadecimal."""

true_time = time.time
TrueDatetime = dt.datetime

CLAIM = "app.worker.worker:claim_within_limits"
SUBMIT = "app.worker.local_process:LocalProcessExecutor.submit"
POLL = "app.worker.local_process:LocalProcess.poll"
OUTCOME = "app.worker.attempt:Attempt._outcome"
COMMIT = "app.worker.publication:_Publication._commit"
RUN_PLAN = "app.worker.child_job:run_plan"


@dataclass(frozen=True)
class Order:
    """What a worker is to be."""

    name: str
    settings: Settings
    faults: tuple[Fault, ...]
    """They strike one after the other, each when its point is next passed."""
    journal: Path
    """Gets a line of JSON before each strike and after each publication."""
    log: Path
    database_clock_seconds: float = 0.0
    """How far the database's clock is off, as this worker sees it."""
    own_clock_seconds: float = 0.0
    """How far this process's clock is off, for what asks it in Python."""
    faketime_seconds: float = 0.0
    """How far libfaketime shall set this process's clocks off; it needs a fresh process."""


class Launcher:
    """Arms a worker's functions."""

    def __init__(self, order: Order, stop: threading.Event) -> None:
        self._order = order
        self._stop = stop
        self._job_pid: int | None = None
        # Shared with the job's processes, which are forked from this one by way of its forkserver.
        self._shared = mmap.mmap(-1, LAYOUT.size)
        self._remember(0, "")

    def arm(self) -> None:
        """Wrap every function that matters."""
        _wrap(CLAIM, after=self._claimed)
        _wrap(SUBMIT, after=self._submitted)
        _wrap(COMMIT, after=self._committed)
        places: dict[str, list[int]] = {}
        for place, fault in enumerate(self._order.faults):
            places.setdefault(fault.point.where, []).append(place)
        for where, wanted in places.items():
            _wrap(
                where,
                before=functools.partial(self._pass, wanted, "before"),
                after=functools.partial(self._pass, wanted, "after"),
            )
        # Outermost, so that what they arrange is arranged before a fault at the same function strikes.
        provoked = {fault.point.provoke for fault in self._order.faults}
        if provoked & {Provocation.FAIL, Provocation.STOP}:
            _wrap(POLL, before=self._disturb)
        if Provocation.DOUBT in provoked:
            _wrap(OUTCOME, change=self._doubt)
        if Provocation.LINGER in provoked:
            _wrap(RUN_PLAN, before=self._linger)

    def note(self, **fields: Any) -> None:
        """Write a line to the journal."""
        line = {"time": true_time(), "pid": os.getpid(), "worker": self._order.name, **fields}
        descriptor = os.open(self._order.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.close(descriptor)

    def _next(self) -> Fault | None:
        struck, _ = self._recall()
        return self._order.faults[struck] if struck < len(self._order.faults) else None

    def _pass(
        self, places: Sequence[int], when: str, arguments: tuple[Any, ...], _result: Any = None
    ) -> None:
        struck, _ = self._recall()
        fault = self._next()
        if fault is not None and struck in places and fault.point.when == when:
            self._strike(fault, arguments)

    def _strike(self, fault: Fault, arguments: tuple[Any, ...]) -> None:
        struck, job = self._recall()
        self._remember(struck + 1, job)
        point = fault.point
        self.note(strike=point.name, action=fault.action, victim=point.victim, job=job or None)
        match fault.action:
            case Action.KILL | Action.STOP:
                number = signal.SIGKILL if fault.action is Action.KILL else signal.SIGSTOP
                with suppress(ProcessLookupError):  # the job's process may have ended by itself just now
                    os.kill(self._pid_of(point.victim, inside_job=point.inside_job), number)
            case Action.FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case Action.FLIP | Action.TEAR:
                damage(largest_file(arguments[3] / "version"), tear=fault.action is Action.TEAR)

    def _pid_of(self, victim: Victim, *, inside_job: bool) -> int:
        if victim is Victim.WORKER or inside_job:
            return os.getpid()
        forkserver_pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # noqa: SLF001 - nobody else knows
        pid = self._job_pid if victim is Victim.JOB else forkserver_pid
        if pid is None:
            raise RuntimeError(f"there is no {victim}")
        return pid

    def _claimed(self, _arguments: tuple[Any, ...], assignment: Assignment | None) -> None:
        struck, _ = self._recall()
        self._remember(struck, assignment.lease.job_id.hex if assignment is not None else "")

    def _submitted(self, _arguments: tuple[Any, ...], running: Any) -> None:
        self._job_pid = running._process.pid  # noqa: SLF001 - the victim of later faults

    def _committed(self, arguments: tuple[Any, ...], number: int | None) -> None:
        if number is not None:
            lease = arguments[0]._assignment.lease  # noqa: SLF001 - what the publication was fenced by
            self.note(published=number, job=lease.job_id.hex, token=lease.token.hex)

    def _disturb(self, arguments: tuple[Any, ...]) -> None:
        fault = self._next()
        if fault is None:
            return
        if fault.point.provoke is Provocation.FAIL:
            arguments[0]._process.kill()  # noqa: SLF001 - as the system's out-of-memory killer would
        if fault.point.provoke is Provocation.STOP:
            self._stop.set()

    def _doubt(self, outcome: Any) -> Any:
        fault = self._next()
        doubted = fault is not None and fault.point.provoke is Provocation.DOUBT
        if doubted and isinstance(outcome, Finished) and outcome.rungs:
            return replace(outcome, passed=False)
        return outcome

    def _linger(self, _arguments: tuple[Any, ...]) -> None:
        fault = self._next()
        if fault is not None and fault.point.provoke is Provocation.LINGER:
            time.sleep(LINGER_LEASES * self._order.settings.lease_seconds)

    def _recall(self) -> tuple[int, str]:
        struck, job = LAYOUT.unpack(self._shared[:])
        return struck, job.rstrip(b"\0").decode()

    def _remember(self, struck: int, job: str) -> None:
        self._shared[:] = LAYOUT.pack(struck, job.encode())


def launch(order: Order) -> None:
    """Be a worker; the entry point of its process."""
    os.setpgid(0, 0)
    output = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    configure_logging()
    logging.getLogger().setLevel(logging.WARNING)
    stop = threading.Event()
    launcher = Launcher(order, stop)
    launcher.arm()
    _set_clocks(order)
    executor = LocalProcessExecutor()
    # Ahead of the worker's own start, which then finds it running: nothing is open yet that a fork would copy.
    with _forked_forkserver():
        executor.start()
    _end_with_parent()
    with on_stop_signals(stop.set):
        launcher.note(ready=True)
        while not stop.is_set():
            try:
                run_worker(order.settings, stop=stop, executor=executor)
            except OUTAGE:
                # A worker that finds no database at its start ends; whatever runs it starts it again.
                launcher.note(started_again=True)
                stop.wait(START_AGAIN_SECONDS)


def job_of(line: dict[str, Any]) -> uuid.UUID | None:
    """Return the job that a line of the journal is about."""
    return uuid.UUID(line["job"]) if line.get("job") else None


def largest_file(directory: Path) -> Path:
    """Return the file that holds most of what a directory is about: the weights, the records."""
    return max(
        (path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


def damage(path: Path, *, tear: bool = False) -> None:
    """Turn over one bit in the middle of a file, or cut the file in half."""
    middle = path.stat().st_size // 2
    if tear:
        os.truncate(path, middle)
        return
    with path.open("r+b") as file:
        file.seek(middle)
        [byte] = file.read(1)
        file.seek(middle)
        file.write(bytes([byte ^ 1]))


def _wrap(
    where: str,
    *,
    before: Callable[[tuple[Any, ...]], None] = lambda _arguments: None,
    after: Callable[[tuple[Any, ...], Any], None] = lambda _arguments, _result: None,
    change: Callable[[Any], Any] = lambda result: result,
) -> None:
    owner, name, function = resolve(where)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        before(args)
        result = change(function(*args, **kwargs))
        after(args, result)
        return result

    setattr(owner, name, wrapper)


def _end_with_parent() -> None:
    """Take the whole process group along when the campaign is gone without a word."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, name="campaign-watcher", daemon=True).start()


@contextmanager
def _forked_forkserver() -> Iterator[None]:
    """Let a server of processes begin as a fork of this one, which has imported everything it would import."""
    cold = util.spawnv_passfds

    def fork(_path: object, arguments: Sequence[Any], kept: Sequence[int]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            keep = sorted({0, 1, 2, *kept})
            for low, high in zip(keep, [*keep[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
                os.closerange(low + 1, high)
            forkserver._forkserver.__init__()  # type: ignore[misc] # noqa: SLF001 - its lock is held by the fork
            exec(os.fsdecode(arguments[-1]), {})  # noqa: S102 - the command line that multiprocessing has made
        finally:
            os._exit(1)

    util.spawnv_passfds = fork  # type: ignore[assignment]
    try:
        yield
    finally:
        util.spawnv_passfds = cold


def _set_clocks(order: Order) -> None:
    shift = order.database_clock_seconds
    if shift:
        clock = app.database.CLOCK
        clock["sqlite"] = text(f"SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '{shift:+} seconds')")
        clock["postgresql"] = text(f"SELECT clock_timestamp() + interval '{shift} seconds'")
    if order.own_clock_seconds:
        _shift_own_clock(order.own_clock_seconds)


def _shift_own_clock(seconds: float) -> None:
    """Let Python's wall clock be off; the monotonic one knows nothing of it, as on a real machine."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, TrueDatetime)

    class Shifted(TrueDatetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return TrueDatetime.now(tz) + dt.timedelta(seconds=seconds)

    time.time = lambda: true_time() + seconds
    dt.datetime = Shifted  # type: ignore[misc]


def main() -> None:
    """Be a worker that another program has started: its order comes through standard input, from the campaign."""
    order = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - written by the campaign, its parent
    launch(order)


if __name__ == "__main__":
    main()
