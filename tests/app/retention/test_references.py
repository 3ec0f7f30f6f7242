import datetime as dt
import uuid
from pathlib import Path

import pytest

from app.tables import Job, TrainedReference
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.tables.trained_reference import ReferencePurpose
from models.checkpoint import write_manifest

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def reference(yard):
    """A trained reference that may hold forgotten records since an hour ago, and the job that has trained it."""
    model = yard.model()
    location = f"references/{model.dataset_id}/{uuid.uuid4().hex}"
    with yard.runtime.storage.staging() as staging:
        (staging / "config.json").write_text("{}")
        manifest = write_manifest(staging)
        yard.runtime.storage.publish(staging, location)
    job = Job(
        id=new_id(),
        model_id=model.id,
        kind=JobKind.UNLEARN,
        state=JobState.COMPLETED,
        attempts=0,
        created_at=NOW,
        started_at=NOW - dt.timedelta(hours=2),
    )
    row = TrainedReference(
        id=new_id(),
        purpose=ReferencePurpose.RETRAINED,
        model_id=model.id,
        version=1,
        dataset_id=model.dataset_id,
        snapshot=1,
        data_digest="d" * 64,
        recipe_digest="e" * 64,
        seed=1,
        location=location,
        digest=manifest.digest,
        size=manifest.size,
        seconds=1.0,
        job_id=job.id,
        created_at=NOW,
        superseded_at=NOW - dt.timedelta(hours=1),
    )
    with yard.runtime.database.write() as session:
        session.add(job)
        session.flush()
        session.add(row)
    return row


def change(yard, table, key, **values) -> None:
    with yard.runtime.database.write() as session:
        row = session.get_one(table, key)
        for name, value in values.items():
            setattr(row, name, value)


def test_a_superseded_reference_is_destroyed_once_no_job_may_read_it(yard, reference, sweep_once):
    change(yard, Job, reference.job_id, state=JobState.RUNNING)
    assert sweep_once().references == 0
    change(yard, Job, reference.job_id, state=JobState.COMPLETED)
    assert sweep_once().references == 1
    assert yard.get(TrainedReference, reference.id).destroyed_at is not None
    assert not (Path(yard.runtime.settings.storage_url) / reference.location).exists()
    assert sweep_once().references == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_reference_in_use_stays(yard, reference, sweep_once):
    change(yard, TrainedReference, reference.id, superseded_at=None)
    assert sweep_once().references == 0
    assert yard.runtime.storage.exists(reference.location)
