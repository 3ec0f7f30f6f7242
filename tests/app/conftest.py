"""Models and datasets as rows and files, without the cost of registering them over HTTP."""

import datetime as dt
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import uvicorn
from fastapi import FastAPI

from app.runtime import Runtime
from app.tables import Dataset, Model, Snapshot, Version
from app.tables.snapshot import SnapshotOrigin, SnapshotState
from app.tables.version import VersionOrigin, VersionState
from models.id_index import IdIndex

LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CONFIG = {
    "family": "classifier",
    "architecture": "analytic",
    "format": 1,
    "classes": ["cat", "dog"],
    "input_width": 4,
    "feature_dim": 8,
    "gamma": 0.1,
    "seed": 0,
    "input_range": 1.0,
    "input_bits": 8,
    "weight_bits": 8,
    "feature_bits": 8,
    "feature_bound": 16.0,
    "max_records": 1024,
}


@dataclass(frozen=True)
class Shelf:
    """Puts datasets and models where the service finds them. No model file is more than its `config.json`."""

    runtime: Runtime

    def dataset(self, ids: Sequence[str] = ("r0", "r1", "r2", "r3", "r4")) -> uuid.UUID:
        """Add a dataset of one snapshot: record `rN` is of subject `sN`; they are cats and dogs in turn."""
        dataset = Dataset(
            id=uuid.uuid4(),
            name=f"data-{uuid.uuid4().hex}",
            family="classifier",
            data_schema={"classes": CONFIG["classes"], "width": 4},
            head_snapshot=1,
            next_snapshot=2,
            suppression_key=b"k" * 32,
            created_at=LONG_AGO,
        )
        with self.runtime.database.write() as session:
            session.add(dataset)
            session.flush()
            session.add(self._snapshot(dataset.id, 1, ids))
        return dataset.id

    def grow(self, dataset_id: uuid.UUID, ids: Sequence[str]) -> None:
        """Give a dataset a new head that holds these records alone."""
        with self.runtime.database.write() as session:
            dataset = session.get_one(Dataset, dataset_id)
            session.add(self._snapshot(dataset_id, dataset.next_snapshot, ids))
            session.flush()
            dataset.head_snapshot = dataset.next_snapshot
            dataset.next_snapshot += 1

    def model(self, name: str = "pets", dataset_id: uuid.UUID | None = None) -> Model:
        """Add a model whose version 1 has learned the dataset's head."""
        dataset_id = dataset_id or self.dataset()
        location = f"models/{name}/1/{uuid.uuid4().hex}"
        directory = self.runtime.storage.materialise(location)
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(json.dumps(CONFIG))
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
                    manifest={"files": []},
                    digest="0" * 64,
                    size=0,
                    created_at=LONG_AGO,
                )
            )
        return model

    def _snapshot(self, dataset_id: uuid.UUID, number: int, ids: Sequence[str]) -> Snapshot:
        location = f"datasets/{dataset_id}/{number}/{uuid.uuid4().hex}"
        directory = self.runtime.storage.materialise(location)
        directory.mkdir(parents=True)
        IdIndex.build(
            directory / "index.sqlite",
            ids=ids,
            subjects=[f"s{record_id[1:]}" for record_id in ids],
            classes=[CONFIG["classes"][position % 2] for position in range(len(ids))],
        )
        return Snapshot(
            dataset_id=dataset_id,
            number=number,
            origin=SnapshotOrigin.REGISTERED if number == 1 else SnapshotOrigin.REPLACED,
            state=SnapshotState.AVAILABLE,
            location=location,
            digest="0" * 64,
            records=len(ids),
            subjects=len(ids),
            size=0,
            created_at=LONG_AGO,
        )


@pytest.fixture
def shelf(runtime: Runtime) -> Shelf:
    return Shelf(runtime)


@pytest.fixture
def live(service: FastAPI) -> Iterator[str]:
    """The service behind a real server on loopback; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(service, port=0, log_level="warning", timeout_graceful_shutdown=1))
    started = threading.Event()
    startup = server.startup

    async def startup_then_tell(sockets=None):
        await startup(sockets)
        started.set()

    server.startup = startup_then_tell
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(20)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
