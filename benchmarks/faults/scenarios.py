"""Faults that are not of a moment: damaged files, a full disk, clocks that are off, a database that restarts."""

import datetime as dt
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path

import httpx
from sqlalchemy import func, or_, select

from app.database import Database, database_now
from app.storage import Storage
from app.tables import ForgetRequest, Job, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus
from app.tables.job import JobState
from app.worker.leases import ACTIVE
from app.worker.outages import OUTAGE
from app.worker.settlement import WORKER_DIED
from benchmarks.faults.clients import Ledger, submit
from benchmarks.faults.fleet import run_worker_process
from benchmarks.faults.house import DatabaseServer, House, fill_up
from benchmarks.faults.judgement import OPEN, Span
from benchmarks.faults.launcher import Order, damage, largest_file, launch

SKEW_SECONDS = 600.0
WAIT_SECONDS = 60.0
FAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)


class Scenarios:
    """Plays scenarios on one service, while its fleet and its clients go on."""

    def __init__(self, house: House, database: Database, ledger: Ledger) -> None:
        self._house = house
        self._database = database
        self._storage = Storage(house.settings.storage_url, house.settings.cache_dir)
        self._ledger = ledger
        self._never = threading.Event()

    def damaged_parent(self, model: str) -> None:
        """A bit of the latest version's weights is turned over: the job must fail and publish nothing."""
        self._damaged(model, self._version_location)

    def damaged_snapshot(self, model: str) -> None:
        """Likewise with the snapshot that the version has learned."""
        self._damaged(model, self._snapshot_location)

    def full_disk(self, disk: Path, models: list[str]) -> int:
        """Leave no byte free until jobs have failed of it; return how many did."""
        before = self._failures()
        ballast = fill_up(disk)
        try:
            with self._house.client() as client:
                for model in models:
                    self._forget(client, model)
            wait_for(lambda: self._failures() > before, "a job that fails of the full disk")
        finally:
            ballast.unlink()
        return self._failures() - before

    def restart(self, server: DatabaseServer, mode: str) -> Span:
        """Restart the database under at least one job."""
        wait_for(lambda: self._active() > 0, "a job to restart the database under")
        began = dt.datetime.now(dt.UTC)
        server.restart(mode)
        # The workers' pauses between two tries have grown meanwhile.
        return Span(began, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self._house.settings.lease_seconds))

    def nobody_is_missing(self) -> bool:
        """Tell whether no job's lease has run out unnoticed, and none that was taken over waits to be claimed."""
        waits = select(func.count()).select_from(ForgetRequest)
        waits = waits.where(ForgetRequest.status == RequestStatus.PENDING, ForgetRequest.attempts > 0)
        with self._database.read() as session:
            dead = Job.lease_expires_at <= database_now(session), Job.state.in_(ACTIVE)
            held = session.scalar(select(func.count()).select_from(Job).where(*dead))
            return not held and not session.scalar(waits)

    def taken_over(self, owners: Collection[int]) -> int:
        """Count the jobs that have been taken from workers with these process ids."""
        theirs = or_(*(Job.lease_owner.contains(f"/{pid}/") for pid in owners))
        return self._count(Job.state == JobState.ABANDONED, Job.reason == WORKER_DIED, theirs)

    def describe(self) -> str:
        """Say what is open: requests by status, and every active job with its age and its last event."""
        with self._database.read() as session:
            now = database_now(session)
            open_requests = session.execute(
                select(ForgetRequest.status, func.count())
                .where(ForgetRequest.status.in_(OPEN))
                .group_by(ForgetRequest.status)
            )
            told = [f"{count} {status.value}" for status, count in open_requests]
            for job in session.scalars(select(Job).where(Job.state.in_(ACTIVE))):
                age = (now - job.started_at).total_seconds() if job.started_at is not None else 0.0
                told.append(f"job {job.id} of {job.lease_owner} for {age:.0f} s, {job.progress}")
        return ", ".join(told) or "no request is open"

    def _damaged(self, model: str, find: Callable[[str], str]) -> None:
        self._ledger.resting.add(model)
        self._ledger.unread.add(model)
        with self._house.client() as client:
            wait_for(lambda: not self._waits(client, model), f"{model} to come to rest")
            versions = self._latest(model)
            directory = self._storage.materialise(find(model))
            file = largest_file(directory)
            damage(file)
            try:
                request_id = self._forget(client, model)
                wait_for(lambda: _status(client, request_id) == "failed", "a job that finds the damage")
                if self._latest(model) != versions:
                    self._ledger.blame(f"{model}: a version was made from the damaged {file.name}")
            finally:
                damage(file)  # the same bit, turned back
            self._ledger.unread.discard(model)
            client.post(f"/v1/forget-requests/{request_id}/retry", json={}).raise_for_status()
            wait_for(lambda: _status(client, request_id) == "completed", "the mended file to be used")
        self._ledger.resting.discard(model)

    def _forget(self, client: httpx.Client, model: str) -> str:
        request = submit(client, self._ledger, model, self._house.pools[model].pop(), self._never)
        if request is None:
            raise RuntimeError(f"the service refused a request for {model}")
        return request.id

    def _waits(self, client: httpx.Client, model: str) -> bool:
        query = httpx.QueryParams({"status": ["pending", "running", "needs_review"], "model": model})
        response = client.get("/v1/forget-requests", params=query)
        return not response.is_success or bool(response.json()["items"]) or self._queued(model)

    def _queued(self, model: str) -> bool:
        active = [JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING]
        with self._database.read() as session:
            model_id = select(Model.id).where(Model.name == model).scalar_subquery()
            query = select(func.count()).where(Job.model_id == model_id, Job.state.in_(active))
            return bool(session.scalar(query))

    def _latest(self, model: str) -> int:
        with self._database.read() as session:
            return session.scalars(select(Model.latest_version).where(Model.name == model)).one()

    def _version_location(self, model: str) -> str:
        with self._database.read() as session:
            row = session.scalars(select(Model).where(Model.name == model)).one()
            return session.get_one(Version, (row.id, row.latest_version)).location

    def _snapshot_location(self, model: str) -> str:
        with self._database.read() as session:
            row = session.scalars(select(Model).where(Model.name == model)).one()
            version = session.get_one(Version, (row.id, row.latest_version))
            return session.get_one(Snapshot, (version.dataset_id, version.snapshot)).location

    def _failures(self) -> int:
        return self._count(Job.state == JobState.FAILED, Job.reason.contains("OSError"))

    def _active(self) -> int:
        return self._count(Job.state == JobState.RUNNING)

    def _count(self, *conditions: object) -> int:
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(Job).where(*conditions)) or 0  # type: ignore[arg-type]


@contextmanager
def workers_with_clocks(
    house: House, context: ForkServerContext, journal: Path, clocks: dict[str, dict[str, float]]
) -> Iterator[None]:
    """Run one sound worker beside others whose clocks are off, for the length of the block.

    Args:
        house: The service.
        context: Where warm processes come from.
        journal: Where the workers note what they publish.
        clocks: A worker's name -> fields of its order.
    """
    orders = [
        Order(name, house.settings, (), journal, house.workspace / "workers.log", **clock)
        for name, clock in {"sound": {}, **clocks}.items()
    ]
    with ExitStack() as stack:
        for order in orders:
            stack.enter_context(_worker(context, order))
        yield


def skewed_clocks(kind: str) -> tuple[str, dict[str, dict[str, float]]]:
    """Return how the clocks of workers are set off here, and the orders' fields for it.

    SQLite's clock is its process's clock, so there libfaketime would move the database's along: that is the other
    scenario, the host's clock that jumps. There the clock that Python shows is set off instead.
    """
    library = next((path for path in FAKETIME if path.exists()), None)
    fakes = kind == "postgresql" and library is not None
    field = "faketime_seconds" if fakes else "own_clock_seconds"
    how = "libfaketime" if fakes else "Python's clock"
    return how, {"skewed-fast": {field: SKEW_SECONDS}, "skewed-slow": {field: -SKEW_SECONDS}}


def jumped_clocks() -> dict[str, dict[str, float]]:
    """Return orders' fields under which the database's own clock seems to jump."""
    field = "database_clock_seconds"
    return {"jumped-fast": {field: SKEW_SECONDS}, "jumped-slow": {field: -SKEW_SECONDS}}


@contextmanager
def _worker(context: ForkServerContext, order: Order) -> Iterator[None]:
    if not order.faketime_seconds:
        process = context.Process(target=launch, args=(order,), name=order.name)
        process.start()
        try:
            yield
        finally:
            process.terminate()
            process.join(WAIT_SECONDS)
            process.kill()
            process.join()
        return
    library = next(path for path in FAKETIME if path.exists())
    child = run_worker_process(
        order,
        {
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{order.faketime_seconds:+g}s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a wall clock that is off leaves the monotonic one alone
        },
    )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _status(client: httpx.Client, request_id: str) -> str | None:
    response = client.get(f"/v1/forget-requests/{request_id}")
    return str(response.json()["status"]) if response.is_success else None


def wait_for(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Return once `condition` holds; a database that is away does not count.

    Raises:
        TimeoutError: It did not in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OUTAGE:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"the campaign waited {seconds:g} s in vain for {what}")
        time.sleep(0.05)
