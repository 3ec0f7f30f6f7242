"""Workers that carry faults, replaced as they die."""

import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.settings import Settings, child_environment
from benchmarks.faults.house import read_journal
from benchmarks.faults.launcher import Order, launch
from benchmarks.faults.points import Action, Fault, Provocation, Victim

MOST_FAULTS = 8
"""Faults that one worker carries at most."""

HALT_LEASES = 2.5
"""How long a halted worker stays so, in leases: by then its job is another one's."""

STUCK_LEASES = 15
"""A worker that has not reached its next point for so many leases gives its faults to another one."""

SACRIFICE_LEASES = 3
"""How long no fault has struck, in leases, before a worker without faults is killed for those that wait for it."""

SOUND = {"poll_seconds": 0.4}
"""A sound worker looks seldom, so that most jobs are left to the armed ones."""

STATUS_UNKNOWN = 255
"""What multiprocessing says of a process whose status another thread of the campaign has read first."""

LOOK_SECONDS = 0.02
STOP_SECONDS = 20.0


class Deck:
    """Faults to be dealt to workers: every point as often as every other, in random order."""

    def __init__(self, faults: Sequence[Fault], *, kills: int, extras: Sequence[Fault], seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - the order of faults is no secret
        dealt: list[Fault] = []
        while len(dealt) < kills:
            cycle = list(faults)
            dice.shuffle(cycle)
            dealt.extend(cycle[: kills - len(dealt)])
        # The other faults lie evenly among the kills.
        for place, extra in enumerate(extras):
            dealt.insert((place + 1) * len(dealt) // (len(extras) + 1), extra)
        self._faults = deque(dealt)

    def __len__(self) -> int:
        return len(self._faults)

    def deal(self) -> tuple[Fault, ...]:
        """Return faults for one worker; those that it survives come first."""
        hand: list[Fault] = []
        left_out: list[Fault] = []
        while self._faults and len(hand) < MOST_FAULTS:
            fault = self._faults.popleft()
            # A job that shall linger carries its delay, which jobs of a cold forkserver do not.
            cold = any(held.point.victim is Victim.FORKSERVER for held in hand)
            if cold and fault.point.provoke is Provocation.LINGER:
                left_out.append(fault)
                continue
            hand.append(fault)
            if fault.ends_worker:
                break
        self._faults.extend(left_out)
        return tuple(sorted(hand, key=_order))

    def give_back(self, faults: Sequence[Fault]) -> None:
        """Put faults that did not strike under the deck."""
        self._faults.extend(faults)


def _order(fault: Fault) -> int:
    if fault.ends_worker:
        return 3
    # Jobs of a forkserver that was started anew carry no faults: those inside jobs come before its death.
    if fault.point.victim is Victim.FORKSERVER:
        return 2
    return 0 if fault.point.inside_job else 1


@dataclass
class Member:
    """A worker of the fleet."""

    order: Order
    process: ForkServerProcess
    struck: int = 0
    quiet_since: float = field(default_factory=time.monotonic)
    """When its last fault struck, or it was ready."""
    ready: bool = False
    resume_at: float | None = None
    """When it goes on, if it is halted."""
    retired: bool = False


class Fleet:
    """Keeps a number of workers running for the length of a `with` block: some armed, some always sound."""

    def __init__(
        self,
        settings: Settings,
        context: ForkServerContext,
        workspace: Path,
        deck: Deck,
        *,
        armed: int,
        sound: int,
    ) -> None:
        self.journal = workspace / "journal.jsonl"
        self.kills: Counter[str] = Counter()
        self.halts = 0
        self._settings = settings
        self._context = context
        self._workspace = workspace
        self._deck = deck
        self._left = len(deck)
        self._last_strike = self._last_sacrifice = time.monotonic()
        self._patience = STUCK_LEASES * settings.lease_seconds
        self._wanted = {"armed": armed, "sound": sound}
        self._members: dict[str, Member] = {}
        self._number = 0
        self._read = 0
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._supervise, name="fleet")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for member in self._members.values():
            _signal_group(member.process, signal.SIGCONT)
            member.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for member in self._members.values():
            member.process.join(max(0.0, deadline - time.monotonic()))
            _signal_group(member.process, signal.SIGKILL)
            member.process.join()

    @property
    def all_struck(self) -> bool:
        """Whether every fault has struck and every halted worker goes on.

        Raises:
            RuntimeError: The fleet itself has failed.
        """
        self.check()
        halted = any(member.resume_at is not None for member in list(self._members.values()))
        return self._left <= 0 and not halted

    @property
    def seconds_since_strike(self) -> float:
        """How long no fault has struck."""
        return time.monotonic() - self._last_strike

    def describe(self) -> str:
        """Say which faults have not struck, and who has them."""
        held = [
            f"{name}{'' if member.ready else ' (never ready)'}: "
            + ", ".join(fault.point.name for fault in member.order.faults[member.struck :])
            for name, member in list(self._members.items())
        ]
        return f"{len(self._deck)} faults not dealt; {'; '.join(held)}"

    def check(self) -> None:
        """Raise what has ended the fleet, if anything has.

        Raises:
            RuntimeError: The fleet itself has failed.
        """
        if self._error is not None:
            raise RuntimeError("the fleet failed") from self._error

    def _supervise(self) -> None:
        try:
            while not self._stop.wait(LOOK_SECONDS):
                self._follow_journal()
                self._replace_dead()
                self._resume_halted()
                self._retire_stuck()
                self._sacrifice()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the fleet
            self._error = error

    def _follow_journal(self) -> None:
        lines, self._read = read_journal(self.journal, self._read)
        for line in lines:
            member = self._members.get(line["worker"])
            if member is not None and "ready" in line:
                member.ready = True
                member.quiet_since = time.monotonic()
            if "strike" not in line:
                continue
            self._left -= 1
            self._last_strike = time.monotonic()
            if line["action"] == Action.KILL:
                self.kills[line["strike"]] += 1
            if member is None:
                continue
            member.struck += 1
            member.quiet_since = time.monotonic()
            if line["action"] == Action.STOP:
                self.halts += 1
                member.resume_at = time.monotonic() + HALT_LEASES * self._settings.lease_seconds

    def _replace_dead(self) -> None:
        for name, member in list(self._members.items()):
            if member.process.is_alive():
                continue
            self._follow_journal()  # its last words
            member.process.join()
            if member.process.exitcode not in {0, -signal.SIGKILL, -signal.SIGTERM, STATUS_UNKNOWN}:
                # Whatever strikes it, a worker dies of SIGKILL or ends because it was told to.
                log = (self._workspace / "workers.log").read_text(errors="replace")
                raise RuntimeError(f"{name} ended with {member.process.exitcode}: {log[-2000:]}")
            _signal_group(member.process, signal.SIGKILL)
            self._deck.give_back(member.order.faults[member.struck :])
            del self._members[name]
        roles = Counter(name.partition("-")[0] for name in self._members)
        for role, wanted in self._wanted.items():
            for _ in range(wanted - roles[role]):
                self._start(role)

    def _start(self, role: str) -> None:
        self._number += 1
        name = f"{role}-{self._number}"
        armed = role == "armed"
        faults = self._deck.deal() if armed else ()
        settings = self._settings if armed else self._settings.model_copy(update=SOUND)
        order = Order(name, settings, faults, self.journal, self._workspace / "workers.log")
        process = self._context.Process(target=launch, args=(order,), name=name)
        process.start()
        self._members[name] = Member(order, process)

    def _resume_halted(self) -> None:
        for member in self._members.values():
            if member.resume_at is not None and time.monotonic() >= member.resume_at:
                member.resume_at = None
                member.quiet_since = time.monotonic()
                os.kill(_pid(member.process), signal.SIGCONT)

    def _retire_stuck(self) -> None:
        for member in self._members.values():
            armed = member.struck < len(member.order.faults)
            if not armed:
                # One that has no fault left, while there are faults to deal, makes room for another.
                member.retired = member.retired or (
                    bool(member.order.faults or member.order.name.startswith("armed"))
                    and bool(len(self._deck))
                )
                if member.retired and member.resume_at is None and member.process.is_alive():
                    member.process.terminate()
            elif (
                member.ready
                and member.resume_at is None
                and time.monotonic() - member.quiet_since > self._patience
            ):
                member.process.terminate()

    def _sacrifice(self) -> None:
        """Kill a worker that has no fault left, for the last faults that wait for somebody else's death.

        Only who reaps a dead worker's job passes the points of reaping, and at the end nobody dies of a fault.
        """
        now = time.monotonic()
        pause = SACRIFICE_LEASES * self._settings.lease_seconds
        if len(self._deck) or now - max(self._last_strike, self._last_sacrifice) < pause:
            return
        armed = [member for name, member in self._members.items() if name.startswith("armed")]
        idle = [member for member in armed if member.ready and member.struck == len(member.order.faults)]
        if 0 < len(idle) < len(armed):
            self._last_sacrifice = now
            idle[0].process.kill()


def run_worker_process(order: Order, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a worker in a fresh interpreter, with variables that only a fresh one reads."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.faults.launcher"],
        env={**child_environment(order.settings), **environment},
        stdin=subprocess.PIPE,
    )
    if child.stdin is None:
        raise RuntimeError("the worker's standard input is not open")
    child.stdin.write(pickle.dumps(order))
    child.stdin.close()
    return child


def _pid(process: ForkServerProcess) -> int:
    if process.pid is None:
        raise RuntimeError("the worker was never started")
    return process.pid


def _signal_group(process: ForkServerProcess, number: int) -> None:
    """Signal a worker's process group: its forkserver and its jobs with it, should they outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(_pid(process), number)


def journal_lines(journal: Path) -> list[dict[str, Any]]:
    """Return everything that the workers have noted."""
    lines, _ = read_journal(journal)
    return lines
