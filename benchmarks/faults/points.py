"""The named points at which the campaign strikes: between every two steps from a claim to a settled job.

A point is a function of the service and one of its two edges. Production code knows nothing of them: the
campaign's launcher (`benchmarks.faults.launcher`) wraps these functions in its own processes. A function that is
renamed makes the launcher, and a test, say so.
"""

import enum
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


class Victim(enum.StrEnum):
    """Who is struck."""

    WORKER = "worker"
    JOB = "job"
    """The job's process; at a point inside it, it strikes itself."""
    FORKSERVER = "forkserver"


class Provocation(enum.StrEnum):
    """What the launcher arranges so that a point off the usual way is reached."""

    FAIL = "fail"
    """The job's process is killed, so that there is a failure to settle."""
    DOUBT = "doubt"
    """The result is treated as one whose audit did not pass."""
    STOP = "stop"
    """The worker is told to stop in mid-job."""
    LINGER = "linger"
    """The job takes longer than a third of the lease, so that it is renewed and progress is noted."""


class Action(enum.StrEnum):
    """What happens at a point."""

    KILL = "kill"
    STOP = "stop"
    """SIGSTOP; the campaign sends SIGCONT long after the lease has run out."""
    FULL = "full"
    """The function raises `ENOSPC`, as if the disk were full."""
    FLIP = "flip"
    """One bit of the candidate's largest file is turned over."""
    TEAR = "tear"
    """The candidate's largest file loses its second half."""


@dataclass(frozen=True)
class Point:
    """One edge of one function."""

    name: str
    where: str
    """`module:attribute` or `module:Class.attribute`, in the namespace that the call goes through."""
    when: Literal["before", "after"]
    victim: Victim = Victim.WORKER
    inside_job: bool = False
    provoke: Provocation | None = None


@dataclass(frozen=True)
class Fault:
    """A point and what happens there."""

    point: Point
    action: Action = Action.KILL

    @property
    def ends_worker(self) -> bool:
        """Whether no further fault can follow in the same worker."""
        ends = self.point.victim is Victim.WORKER or self.point.provoke is Provocation.STOP
        return self.action is Action.KILL and ends


def _points(
    stage: str, module: str, edges: str, *, provoke: Provocation | None = None, inside_job: bool = False
) -> tuple[Point, ...]:
    """Build points from lines of `before|after module-attribute: what the moment is`."""
    built = []
    for line in edges.strip().splitlines():
        edge, _, name = line.strip().partition(": ")
        when, _, attribute = edge.partition(" ")
        where = attribute if ":" in attribute else f"{module}:{attribute}"
        if when not in {"before", "after"}:
            raise ValueError(line)
        victim = Victim.JOB if inside_job else Victim.WORKER
        built.append(Point(f"{stage}: {name}", where, when, victim, inside_job, provoke))  # type: ignore[arg-type]
    return tuple(built)


CLAIM = _points(
    "claim",
    "app.worker.worker",
    """
    before reap: before reaping
    after app.worker.settlement:_settle_death: a dead job reaped, not committed
    after reap: reaped
    after app.storage:Storage.discard_staging: the dead worker's staging deleted
    before claim_within_limits: before claiming
    after app.worker.claims:_next_model: model locked
    after app.worker.claims:_next_job: requests gathered
    after app.worker.claims:_assignment: leased, not committed
    after claim_within_limits: committed
    after discard_left_candidates: left candidates discarded
    after app.worker.heartbeat:Heartbeat.__enter__: heart beats
    """,
)

WORK = (
    *_points(
        "work",
        "app.worker.attempt",
        """
        before Attempt.run: before the attempt
        before Attempt._outcome: staging made
        after app.worker.local_process:LocalProcessExecutor.submit: job's process started
        after app.worker.local_process:LocalProcess.poll: first message
        after app.worker.local_process:LocalProcess.cancel: job's process gone
        """,
    ),
    *_points(
        "work",
        "app.worker.attempt",
        """
        after record_progress: progress noted, not committed
        after Attempt._note: progress noted
        after app.worker.heartbeat:renew: lease renewed, not committed
        """,
        provoke=Provocation.LINGER,
    ),
)

JOB = _points(
    "job",
    "app.worker.child_job",
    """
    before app.worker.child:main: begins
    after _fetch: parent and data found
    after _resolve: targets resolved
    after _load: model loaded
    after _plan: planned
    after run_plan: forgotten and audited
    after derive_without: snapshot staged
    after _candidate: version staged
    after app.worker.child:run: before its last word
    after app.worker.child:main: after its last word
    """,
    inside_job=True,
)

PUBLISH = _points(
    "publish",
    "app.worker.publication",
    """
    before app.worker.attempt:publish: before publishing
    after _Publication._follow_head: head followed
    after _take_numbers: numbers taken, not committed
    after _Publication._reserve: numbers reserved
    after app.storage:_sync_tree: first directory synced
    after pathlib:Path.rename: first directory renamed
    after app.storage:Storage.publish: first directory stored
    after _Publication._store: all directories stored
    after gather: certificate's facts gathered
    after app.worker.sealing:frame: certificate's statement written
    after app.worker.sealing:Unsigned.sign: certificates signed
    before _Publication._commit: before the transaction
    after record_rungs: rungs recorded, not committed
    after app.worker.publication_rows:_enter_snapshots: snapshots entered, not committed
    after app.worker.publication_rows:_quarantine: predecessors quarantined, not committed
    after app.worker.publication_rows:suppress: ids suppressed, not committed
    after app.worker.publication_rows:change_status: requests completed, not committed
    after app.worker.publication_rows:end_job: job completed, not committed
    before app.worker.publication_rows:enter_seal: before the certificates' rows, not committed
    after app.trust.certificates.seal:append_leaves: leaves appended to the log, not committed
    after app.worker.publication_rows:enter_seal: certificates entered, not committed
    after enter_version: all rows written, not committed
    after _Publication._commit: committed
    after app.worker.attempt:publish: published
    after app.worker.attempt:Attempt.run: staging gone
    after app.worker.heartbeat:Heartbeat.__exit__: heartbeat over
    """,
)

SETTLE = (
    *_points(
        "failure",
        "app.worker.attempt",
        """
        before settle_failure: before settling
        after app.worker.settlement:_settle_death: settled, not committed
        after settle_failure: settled
        """,
        provoke=Provocation.FAIL,
    ),
    *_points(
        "review",
        "app.worker.publication",
        """
        before app.worker.attempt:keep_for_review: before keeping
        after app.storage:Storage.publish: first directory kept
        before settle_review: all directories kept
        after app.worker.settlement:record_rungs: rungs recorded, not committed
        after settle_review: handed over
        """,
        provoke=Provocation.DOUBT,
    ),
    *_points(
        "release",
        "app.worker.attempt",
        """
        before release: before releasing
        after app.worker.settlement:change_status: released, not committed
        after release: released
        """,
        provoke=Provocation.STOP,
    ),
)

OTHERS = (
    Point(
        "job: killed by the system at its start",
        "app.worker.local_process:LocalProcessExecutor.submit",
        "after",
        Victim.JOB,
    ),
    Point(
        "job: killed by the system under way",
        "app.worker.local_process:LocalProcess.poll",
        "before",
        Victim.JOB,
    ),
    Point(
        "forkserver: killed before a job",
        "app.worker.local_process:LocalProcessExecutor.submit",
        "before",
        Victim.FORKSERVER,
    ),
    Point(
        "forkserver: killed under a job",
        "app.worker.local_process:LocalProcessExecutor.submit",
        "after",
        Victim.FORKSERVER,
    ),
    Point("forkserver: killed after a job", "app.worker.attempt:publish", "before", Victim.FORKSERVER),
)

POINTS: tuple[Point, ...] = (*CLAIM, *WORK, *JOB, *PUBLISH, *SETTLE, *OTHERS)


def named(name: str) -> Point:
    """Return the point of this name.

    Raises:
        KeyError: There is none.
    """
    return {point.name: point for point in POINTS}[name]


HALTS = tuple(
    Fault(named(name), Action.STOP)
    for name in (
        "claim: committed",
        "work: job's process started",
        "work: job's process gone",
        "publish: numbers reserved",
        "publish: all directories stored",
        "publish: before the transaction",
        "failure: before settling",
        "review: all directories kept",
    )
)
"""Moments, none of them inside a transaction, from which a worker goes on as if it still held its lease."""

FULL_DISKS = (
    *(
        Fault(Point(f"full: {name}", where, "before", Victim.JOB, inside_job=True), Action.FULL)
        for name, where in (
            ("writing the snapshot", "app.worker.child_job:derive_without"),
            ("writing the checkpoint", "models.classifier.runtime:write_manifest"),
        )
    ),
    *(
        Fault(Point(f"full: {name}", where, "before"), Action.FULL)
        for name, where in (
            ("making the staging directory", "app.worker.attempt:Attempt._outcome"),
            ("syncing a directory", "app.storage:_sync_tree"),
            ("storing a directory", "app.storage:Storage.publish"),
        )
    ),
)

DAMAGES = tuple(Fault(named("publish: before publishing"), action) for action in (Action.FLIP, Action.TEAR))


def resolve(where: str) -> tuple[Any, str, Callable[..., Any]]:
    """Return what holds a point's function, under which name, and the function.

    Raises:
        LookupError: There is no such function (any more).
    """
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    try:
        for part in classes:
            owner = getattr(owner, part)
        return owner, name, getattr(owner, name)
    except AttributeError as error:
        raise LookupError(f"the fault campaign strikes at {where}, which does not exist") from error
