"""What a campaign is judged by: the rows, the files and what clients were told, once everything has come to rest."""

import datetime as dt
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import func, select

from app.database import Database
from app.storage import Storage
from app.tables import Dataset, Event, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from app.worker.leases import ACTIVE
from app.worker.outages import OUTAGE
from app.worker.settlement import WORKER_DIED
from benchmarks.faults.clients import Acknowledged, Ledger
from benchmarks.faults.launcher import job_of
from benchmarks.faults.points import Action, Victim
from models.checkpoint import verify_directory
from models.errors import CheckpointError
from models.id_index import IdIndex

LOOK_SECONDS = 0.1
OPEN = (RequestStatus.PENDING, RequestStatus.RUNNING, RequestStatus.NEEDS_REVIEW)


class Watch:
    """Looks for two active jobs of one model, again and again, for the length of a `with` block."""

    def __init__(self, database: Database) -> None:
        self.overlaps: list[str] = []
        self.looks = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

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

    def _run(self) -> None:
        busy = (
            select(Job.model_id).where(Job.state.in_(ACTIVE)).group_by(Job.model_id).having(func.count() > 1)
        )
        while not self._stop.wait(LOOK_SECONDS):
            try:
                with self._database.read() as session:
                    self.overlaps += [str(model) for model in session.scalars(busy)]
            except OUTAGE:
                continue  # the database is being restarted
            self.looks += 1


@dataclass
class Verdict:
    """What was found wrong, and the time that takeovers took."""

    lost: list[str] = field(default_factory=list)
    published_twice: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    stale_accepted: list[str] = field(default_factory=list)
    damaged_at_rest: list[str] = field(default_factory=list)
    takeovers: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A time during which the database itself was away."""

    began: dt.datetime
    ended: dt.datetime

    def touches(self, began: dt.datetime, ended: dt.datetime) -> bool:
        """Whether it and another span have a moment in common."""
        return self.began <= ended and began <= self.ended


class Judge:
    """Reads the database and the storage of a service at rest."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._storage = storage
        self._known_ids: dict[tuple[uuid.UUID, int], set[str]] = {}
        with database.read() as session:
            self._requests = {request.id: request for request in session.scalars(select(ForgetRequest))}
            self._jobs = {job.id: job for job in session.scalars(select(Job))}
            self._models = {model.name: model for model in session.scalars(select(Model))}
            self._versions = list(session.scalars(select(Version).order_by(Version.model_id, Version.number)))
            self._snapshots = {
                (snapshot.dataset_id, snapshot.number): snapshot
                for snapshot in session.scalars(select(Snapshot))
            }
            self._datasets = {dataset.id: dataset for dataset in session.scalars(select(Dataset))}
            # A job that waits for a person has ended, whatever time it is given once the person has decided.
            left = select(Job.id, func.min(Event.created_at)).join(Event, Event.job_id == Job.id)
            left = left.where(Event.forget_request_id.is_(None), Event.type == "status")
            left = left.where(Event.created_at >= Job.started_at).group_by(Job.id)
            self._ended = dict(session.execute(left).tuples().all())
            self._completions = Counter(
                session.scalars(
                    select(Event.forget_request_id).where(
                        Event.forget_request_id.is_not(None),
                        Event.type == "status",
                        Event.status == RequestStatus.COMPLETED,
                    )
                )
            )

    def judge(self, ledger: Ledger, journal: Sequence[dict[str, Any]]) -> Verdict:
        """Return everything that is wrong, but for takeovers and the order of jobs (`judge_times`)."""
        verdict = Verdict()
        verdict.lost += self._lost(ledger.requests.values())
        verdict.published_twice += self._published_twice()
        verdict.stale_accepted += self._stale(journal)
        verdict.damaged_at_rest += self._damaged()
        verdict.counts = {
            "acknowledged": len(ledger.requests),
            "completed": sum(
                request.status is RequestStatus.COMPLETED for request in self._requests.values()
            ),
            "cancelled": sum(
                request.status is RequestStatus.CANCELLED for request in self._requests.values()
            ),
            "versions": len(self._versions),
            "jobs": len(self._jobs),
            "jobs_taken_over": sum(job.reason == WORKER_DIED for job in self._jobs.values()),
        }
        return verdict

    def overlapping(self) -> list[str]:
        """Return the jobs that began before another one of their model had ended, by the database's clock."""
        by_model: dict[uuid.UUID, list[Job]] = defaultdict(list)
        for job in self._jobs.values():
            # An update job that was taken over keeps only the times of its last run.
            if job.started_at is not None and job.attempts <= 1:
                by_model[job.model_id].append(job)
        found = []
        for jobs in by_model.values():
            for first, second in pairwise(sorted(jobs, key=_began)):
                if first.id in self._ended and self._ended[first.id] > _began(second):
                    found.append(f"jobs {first.id} and {second.id}")
        return found

    def takeovers(self, journal: Iterable[dict[str, Any]], spans_left_out: Sequence[Span]) -> list[float]:
        """Return the seconds from the death, or halt, of a job's worker to the next claim of its model."""
        seconds = []
        for line in journal:
            job_id = job_of(line)
            if "strike" not in line or line["victim"] != Victim.WORKER or job_id is None:
                continue
            if line["action"] not in {Action.KILL, Action.STOP}:
                continue
            struck = dt.datetime.fromtimestamp(line["time"], dt.UTC)
            taken = self._taken_over(job_id, struck)
            if taken is not None and not any(span.touches(struck, taken) for span in spans_left_out):
                seconds.append((taken - struck).total_seconds())
        return seconds

    def _taken_over(self, job_id: uuid.UUID, struck: dt.datetime) -> dt.datetime | None:
        job = self._jobs.get(job_id)
        if job is None or job.kind is not JobKind.UNLEARN or job.state is not JobState.ABANDONED:
            return None
        if job.finished_at is None or job.finished_at < struck:
            return None
        following = [
            other.started_at
            for other in self._jobs.values()
            if other.model_id == job.model_id and other.started_at is not None and other.started_at > struck
        ]
        return min(following, default=None)

    def _lost(self, acknowledged: Iterable[Acknowledged]) -> list[str]:
        lost = []
        for told in acknowledged:
            request = self._requests.get(uuid.UUID(told.id))
            if request is None:
                lost.append(f"{told.id} is gone")
            elif request.status is RequestStatus.COMPLETED:
                if self._still_holds(told):
                    lost.append(f"{told.id} is completed, and its record is still there")
            elif not (request.status is RequestStatus.CANCELLED and told.cancel_asked):
                lost.append(f"{told.id} is {request.status.value}: {request.reason}")
        return lost

    def _still_holds(self, told: Acknowledged) -> bool:
        model = self._models[told.model]
        used = {
            (version.dataset_id, version.snapshot)
            for version in self._versions
            if version.model_id == model.id and version.state is VersionState.PUBLISHED
        }
        head = self._datasets[model.dataset_id].head_snapshot
        return any(told.record in self._ids(place) for place in {*used, (model.dataset_id, head)})

    def _ids(self, place: tuple[uuid.UUID, int]) -> set[str]:
        if place not in self._known_ids:
            directory = self._storage.materialise(self._snapshots[place].location)
            with IdIndex.open(directory / "index.sqlite") as index:
                self._known_ids[place] = set(index.record_ids())
        return self._known_ids[place]

    def _published_twice(self) -> list[str]:
        found = [
            f"request {request} was completed {times} times"
            for request, times in self._completions.items()
            if times > 1
        ]
        made = Counter(version.job_id for version in self._versions if version.job_id is not None)
        found += [f"job {job} has published {times} versions" for job, times in made.items() if times > 1]
        for model in self._models.values():
            numbers = [version.number for version in self._versions if version.model_id == model.id]
            if numbers != list(range(1, model.latest_version + 1)):
                found.append(f"model {model.name} has the versions {numbers}")
        for version in self._versions:
            if version.number > 1 and version.parent != version.number - 1:
                found.append(f"version {version.number} was made from {version.parent}")
        return found

    def _stale(self, journal: Iterable[dict[str, Any]]) -> list[str]:
        found = []
        for version in self._versions:
            job = self._jobs.get(version.job_id) if version.job_id is not None else None
            if job is not None and (job.state, job.produced_version) != (JobState.COMPLETED, version.number):
                found.append(f"version {version.number} is of job {job.id}, which is {job.state.value}")
        for line in journal:
            if "published" not in line:
                continue
            job_id = job_of(line)
            job = self._jobs.get(job_id) if job_id is not None else None
            token = job.lease_token.hex if job is not None and job.lease_token is not None else None
            if job is None or token != line["token"] or job.produced_version != line["published"]:
                found.append(f"job {job_id} was published under a lease that was no longer the last one")
        return found

    def _damaged(self) -> list[str]:
        stored: list[tuple[str, str]] = [
            (version.location, version.digest)
            for version in self._versions
            if version.state is not VersionState.DESTROYED
        ]
        stored += [
            (snapshot.location, snapshot.digest)
            for snapshot in self._snapshots.values()
            if snapshot.state is SnapshotState.AVAILABLE
        ]
        return [location for location, digest in stored if _digest(self._storage, location) != digest]


def at_rest(database: Database) -> bool:
    """Tell whether no request and no job waits or runs."""
    open_requests = select(func.count()).where(ForgetRequest.status.in_(OPEN))
    open_jobs = select(func.count()).where(Job.state.in_([*ACTIVE, JobState.QUEUED]))
    with database.read() as session:
        return not session.scalar(open_requests) and not session.scalar(open_jobs)


def left_over(storage_root: Path, database: Database) -> dict[str, int]:
    """Count what dead workers have left behind: never visible, but there to be swept."""
    with database.read() as session:
        known = {*session.scalars(select(Version.location)), *session.scalars(select(Snapshot.location))}
    stored = {
        path.parent.relative_to(storage_root).as_posix() for path in storage_root.rglob("manifest.json")
    }
    staging = storage_root / ".staging"
    staged = len(list(staging.iterdir())) if staging.exists() else 0
    return {
        "unreferenced_directories": len(
            [location for location in stored - known if not location.startswith(".staging/")]
        ),
        "staging_directories": staged,
    }


def _began(job: Job) -> dt.datetime:
    if job.started_at is None:
        raise ValueError(f"job {job.id} has not begun")
    return job.started_at


def _digest(storage: Storage, location: str) -> str | None:
    try:
        return verify_directory(storage.materialise(location)).digest
    except (CheckpointError, OSError):
        return None
