"""Models over real snapshots, forget requests as rows, and an executor that plays jobs from a script."""

import datetime as dt
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.runtime import Runtime
from app.storage import Storage
from app.tables import Dataset, Event, ForgetRequest, Job, Model, Snapshot, TrainedReference, Version
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotOrigin, SnapshotState
from app.tables.version import VersionOrigin, VersionState
from app.worker.candidate import Candidate
from app.worker.derivation import derive_without, records_of_targets
from app.worker.task import Finished, JobTask, Message, Workplace
from app.worker.worker import Worker
from models.checkpoint import read_manifest, write_manifest
from models.classifier import snapshots
from models.id_index import IdIndex

LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
RUNG = {
    "method": "acu",
    "guarantee": "exact",
    "configuration": {},
    "audit": {"verdict": "pass", "summary": "All checks passed."},
    "failure": None,
    "seconds": 0.1,
}


def rows(ids: Sequence[str]) -> str:
    """Lines of JSON: record `rN` is of subject `sN`; they are cats and dogs in turn."""
    return "".join(
        json.dumps(
            {
                "id": name,
                "subject": f"s{name[1:]}",
                "label": ("cat", "dog")[place % 2],
                "features": [float(place), 1.0, 0.5, 0.25],
                "split": "train",
            }
        )
        + "\n"
        for place, name in enumerate(ids)
    )


@dataclass
class Yard:
    """A service's database and storage, filled without HTTP."""

    runtime: Runtime
    tmp_path: Path
    clock: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def dataset(self, ids: Sequence[str] = tuple(f"r{number}" for number in range(12))) -> uuid.UUID:
        dataset = Dataset(
            id=uuid.uuid4(),
            name=f"data-{uuid.uuid4().hex}",
            family="classifier",
            data_schema={},
            head_snapshot=1,
            next_snapshot=2,
            suppression_key=b"k" * 32,
            created_at=LONG_AGO,
        )
        with self.runtime.database.write() as session:
            session.add(dataset)
            session.flush()
            snapshot = self._write_snapshot(dataset.id, 1, lambda out: self._ingest(ids, out))
            dataset.data_schema = snapshot.pop("data_schema")
            session.add(Snapshot(**snapshot))
        return dataset.id

    def grow(self, dataset_id: uuid.UUID, ids: Sequence[str]) -> int:
        """Append records to the head; return the new head's number."""
        return self.grow_from(dataset_id, self._source(ids))

    def grow_from(self, dataset_id: uuid.UUID, source: Path) -> int:
        """Append a file's records to the head; return the new head's number."""
        with self.runtime.database.write() as session:
            dataset = session.get_one(Dataset, dataset_id)
            head = session.get_one(Snapshot, (dataset_id, dataset.head_snapshot))
            base = self.runtime.storage.materialise(head.location)
            number = dataset.next_snapshot
            snapshot = self._write_snapshot(
                dataset_id, number, lambda out: snapshots.append(base, [source], out)
            )
            snapshot.pop("data_schema")
            session.add(Snapshot(**snapshot))
            session.flush()
            dataset.head_snapshot, dataset.next_snapshot = number, number + 1
        return number

    def model(
        self,
        name: str = "pets",
        dataset_id: uuid.UUID | None = None,
        write: Callable[[Path], None] = lambda out: (out / "config.json").write_text("{}"),
    ) -> Model:
        dataset_id = dataset_id or self.dataset()
        location = f"models/{name}/1/{uuid.uuid4().hex}"
        with self.runtime.storage.staging() as staging:
            write(staging)
            manifest = write_manifest(staging)
            self.runtime.storage.publish(staging, location)
        with self.runtime.database.write() as session:
            model = Model(
                id=uuid.uuid4(),
                name=name,
                family="classifier",
                architecture="analytic",
                dataset_id=dataset_id,
                latest_version=1,
                next_version=2,
                created_at=LONG_AGO,
            )
            session.add(model)
            session.flush()
            session.add(
                Version(
                    model_id=model.id,
                    number=1,
                    origin=VersionOrigin.REGISTERED,
                    state=VersionState.PUBLISHED,
                    dataset_id=dataset_id,
                    snapshot=session.get_one(Dataset, dataset_id).head_snapshot,
                    location=location,
                    manifest=manifest.to_json(),
                    digest=manifest.digest,
                    size=manifest.size,
                    created_at=LONG_AGO,
                )
            )
        return model

    def request(self, model: Model, *ids: str, kind: str = "records", **fields: object) -> uuid.UUID:
        now = LONG_AGO + dt.timedelta(seconds=next(self.clock))
        request = ForgetRequest(
            **{
                "id": new_id(),
                "model_id": model.id,
                "target": {"kind": kind, "ids": list(ids)},
                "commitment_key": b"c" * 32,
                "target_kind": kind,
                "target_count": len(ids),
                "guarantee": "any",
                "method": "auto",
                "parameters": {},
                "group_key": "0" * 64,
                "split": "",
                "attempts": 0,
                "status": RequestStatus.PENDING,
                "due_at": LONG_AGO + dt.timedelta(days=31),
                "created_at": now,
                "updated_at": now,
                **fields,
            }
        )
        with self.runtime.database.write() as session:
            session.add(request)
        return request.id

    def requests(self, model: Model, ids: Sequence[str]) -> None:
        """Add one request per record, all in one transaction."""
        with self.runtime.database.write() as session:
            session.add_all(
                ForgetRequest(
                    id=new_id(),
                    model_id=model.id,
                    target={"kind": "records", "ids": [name]},
                    commitment_key=b"c" * 32,
                    target_kind="records",
                    target_count=1,
                    guarantee="any",
                    method="auto",
                    parameters={},
                    group_key="0" * 64,
                    split="",
                    attempts=0,
                    status=RequestStatus.PENDING,
                    due_at=LONG_AGO,
                    created_at=LONG_AGO + dt.timedelta(seconds=next(self.clock)),
                    updated_at=LONG_AGO,
                )
                for name in ids
            )

    def update(self, model: Model) -> uuid.UUID:
        now = LONG_AGO + dt.timedelta(seconds=next(self.clock))
        job = Job(
            id=new_id(),
            model_id=model.id,
            kind=JobKind.UPDATE,
            state=JobState.QUEUED,
            attempts=0,
            created_at=now,
        )
        with self.runtime.database.write() as session:
            session.add(job)
        return job.id

    def cancel(self, request_id: uuid.UUID) -> None:
        """Ask for a running request to be cancelled, as the service does."""
        with self.runtime.database.write() as session:
            request = session.get_one(ForgetRequest, request_id)
            request.cancel_requested_at = LONG_AGO
            session.get_one(Job, request.job_id).state = JobState.CANCELLING

    def expire(self, job_id: uuid.UUID) -> None:
        """Let a job's lease run out, as if its worker had been silent for too long."""
        with self.runtime.database.write() as session:
            session.get_one(Job, job_id).lease_expires_at = LONG_AGO

    def overtake(self, model: Model) -> None:
        """Give a model a newer version that was made elsewhere."""
        with self.runtime.database.write() as session:
            model = session.get_one(Model, model.id)
            latest = session.get_one(Version, (model.id, model.latest_version))
            session.add(
                Version(
                    model_id=model.id,
                    number=model.next_version,
                    origin=VersionOrigin.IMPORTED,
                    state=VersionState.PUBLISHED,
                    dataset_id=model.dataset_id,
                    snapshot=latest.snapshot,
                    location=latest.location,
                    manifest=latest.manifest,
                    digest=latest.digest,
                    size=latest.size,
                    created_at=LONG_AGO,
                )
            )
            model.latest_version, model.next_version = model.next_version, model.next_version + 1

    def count(self, status: RequestStatus) -> int:
        with self.runtime.database.read() as session:
            query = select(func.count()).select_from(ForgetRequest).where(ForgetRequest.status == status)
            return session.scalars(query).one()

    def events_of_job(self, job_id: uuid.UUID) -> list[Event]:
        with self.runtime.database.read() as session:
            return list(session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)))

    def get(self, table, key):
        with self.runtime.database.read() as session:
            return session.get_one(table, key)

    def statuses(self, *request_ids: uuid.UUID) -> list[str]:
        return [self.get(ForgetRequest, request_id).status.value for request_id in request_ids]

    def jobs(self) -> list[Job]:
        with self.runtime.database.read() as session:
            return list(session.scalars(select(Job).order_by(Job.created_at, Job.id)))

    def reasons(self, request_id: uuid.UUID) -> list[tuple[str | None, str]]:
        with self.runtime.database.read() as session:
            events = session.scalars(
                select(Event).where(Event.forget_request_id == request_id).order_by(Event.id)
            )
            return [(event.status, event.reason) for event in events]

    def records(self, dataset_id: uuid.UUID, number: int | None = None) -> set[str]:
        """Return the ids in a snapshot, the head by default, as its files say."""
        with self.runtime.database.read() as session:
            number = number or session.get_one(Dataset, dataset_id).head_snapshot
            location = session.get_one(Snapshot, (dataset_id, number)).location
        with IdIndex.open(self.runtime.storage.materialise(location) / "index.sqlite") as index:
            return set(index.record_ids())

    def stored(self) -> set[str]:
        """Return the locations of all directories in the storage, staging included."""
        root = Path(self.runtime.settings.storage_url)
        return {path.parent.relative_to(root).as_posix() for path in root.rglob("manifest.json")}

    def recorded(self) -> set[str]:
        """Return the locations that rows say are real."""
        with self.runtime.database.read() as session:
            references = select(TrainedReference.location).where(TrainedReference.destroyed_at.is_(None))
            return {
                *session.scalars(select(Version.location)),
                *session.scalars(select(Snapshot.location)),
                *session.scalars(references),
            }

    def _source(self, ids: Sequence[str]) -> Path:
        source = self.tmp_path / f"{uuid.uuid4().hex}.jsonl"
        source.write_text(rows(ids))
        return source

    def _ingest(self, ids: Sequence[str], out: Path):
        return snapshots.ingest([self._source(ids)], out, data_schema=None)

    def _write_snapshot(self, dataset_id, number, write) -> dict:
        location = f"datasets/{dataset_id}/{number}/{uuid.uuid4().hex}"
        with self.runtime.storage.staging() as staging:
            summary = write(staging)
            manifest = read_manifest(staging)
            self.runtime.storage.publish(staging, location)
        return {
            "dataset_id": dataset_id,
            "number": number,
            "origin": SnapshotOrigin.REGISTERED if number == 1 else SnapshotOrigin.APPENDED,
            "state": SnapshotState.AVAILABLE,
            "location": location,
            "digest": manifest.digest,
            "records": summary.records,
            "subjects": summary.subjects,
            "size": manifest.size,
            "created_at": LONG_AGO,
            "data_schema": dict(summary.data_schema),
        }


Script = Callable[[JobTask, Workplace], Iterator[Message | None]]


def forget(
    task: JobTask,
    workplace: Workplace,
    *,
    passed: bool = True,
    bad: Sequence[str] = (),
    config: dict[str, object] | None = None,
) -> Finished:
    """Do what a job does to files, with a model that is nothing but a configuration."""
    storage = Storage(workplace.storage_url, workplace.cache_dir)
    learned, head = (storage.materialise(stored.location) for stored in (task.snapshot, task.head))
    good = [target for target in task.targets if target.request_id not in bad]
    forgotten = tuple(
        sorted(records_of_targets(task.family, learned, head, [target.target for target in good]))
    )
    version = workplace.staging / "version"
    version.mkdir()
    described = config or {"forgotten": len(forgotten)}
    (version / "config.json").write_text(json.dumps({**described, "seed": task.seed}))
    manifest = write_manifest(version)
    draft = derive_without(
        "classifier", learned, task.snapshot.number, forgotten, workplace.staging / "snapshot"
    )
    head_draft = None
    if task.head != task.snapshot:
        head_draft = derive_without(
            "classifier", head, task.head.number, forgotten, workplace.staging / "head"
        )
    candidate = Candidate(
        parent_version=task.parent.number,
        base_snapshot=task.snapshot.number if task.targets else task.head.number,
        head_snapshot=task.head.number,
        method="acu",
        configuration={},
        audit=None,
        manifest=manifest.to_json(),
        digest=manifest.digest,
        size=manifest.size,
        snapshot=draft,
        head=head_draft,
    )
    reasons = dict.fromkeys(bad, "Its records no longer exist.")
    return Finished(candidate, passed, reasons, forgotten, (RUNG,), {"rungs": []})


def succeed(task: JobTask, workplace: Workplace) -> Iterator[Message | None]:
    yield forget(task, workplace)


@dataclass
class ScriptedExecutor:
    """Plays one script per job, in turn, the last one for all that follow."""

    forget = staticmethod(forget)
    succeed = staticmethod(succeed)
    scripts: list[Script] = field(default_factory=lambda: [succeed])
    tasks: list[JobTask] = field(default_factory=list)
    cancelled: int = 0

    def start(self) -> None: ...

    def close(self) -> None: ...

    def submit(self, task: JobTask, workplace: Workplace) -> "ScriptedRun":
        script = self.scripts[min(len(self.tasks), len(self.scripts) - 1)]
        self.tasks.append(task)
        return ScriptedRun(self, script(task, workplace))


@dataclass
class ScriptedRun:
    executor: ScriptedExecutor
    messages: Iterator[Message | None]

    def poll(self, timeout: float) -> Message | None:
        return next(self.messages)

    def cancel(self) -> None:
        self.executor.cancelled += 1


@pytest.fixture
def yard(runtime: Runtime, tmp_path: Path) -> Yard:
    return Yard(runtime, tmp_path)


@pytest.fixture
def executor() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
def worker(runtime: Runtime, executor: ScriptedExecutor) -> Worker:
    return Worker(runtime, executor, threading.Event())
