"""The one order in which rows are locked: model, dataset, job, forget requests, and the transparency log last.

Whoever locks rows of more than one of these tables in one transaction takes them in this order and, within a
table, the oldest first. Two transactions can then wait for each other, never in a circle. Rows may be left
out: the heartbeat locks the job alone. Under a model's lock nobody else can hold its jobs, so there the dataset may
as well come after the job. Places in the storage are locked after all rows. The log is one lock for everybody, so
nothing but the commit may follow it.

The locks are `FOR NO KEY UPDATE`, which a row that merely refers to a locked one (a new forget request of the
model, say) need not wait for. SQLite has no row locks: there a writing transaction is alone from its first
statement. Each function reads the row afresh, so what was loaded before the lock was held is never believed.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.tables import Dataset, ForgetRequest, Job, Model

LOG_LOCK = 0x6C6F67
"""Number of the advisory lock: no row has to exist, and vacuum is not held up as by a table's lock."""

LOCATION_LOCKS = 0x6C6F63
"""Space of the advisory locks on places in the storage, which have no row of their own."""


def lock_model(session: Session, model_id: uuid.UUID) -> Model:
    """Lock a model's row: its versions and numbers cannot change until the transaction ends."""
    return session.execute(
        select(Model)
        .where(Model.id == model_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one()


def lock_dataset(session: Session, dataset_id: uuid.UUID) -> Dataset:
    """Lock a dataset's row: its head and numbers cannot change until the transaction ends."""
    return session.execute(
        select(Dataset)
        .where(Dataset.id == dataset_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one()


def lock_job(session: Session, job_id: uuid.UUID) -> Job:
    """Lock a job's row."""
    return session.execute(
        select(Job)
        .where(Job.id == job_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one()


def lock_requests_of(session: Session, job_id: uuid.UUID) -> Sequence[ForgetRequest]:
    """Lock the forget requests that a job serves or last served, oldest first."""
    return session.scalars(
        select(ForgetRequest)
        .where(ForgetRequest.job_id == job_id)
        .order_by(ForgetRequest.created_at, ForgetRequest.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def lock_location(session: Session, location: str) -> None:
    """Be the only one who decides, until the transaction ends, whether a place in the storage is named by a row."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            text("SELECT pg_advisory_xact_lock(:space, hashtext(:location))"),
            {"space": LOCATION_LOCKS, "location": location},
        )


def lock_log(session: Session) -> None:
    """Be the only one who appends to the transparency log until the transaction ends; others go on reading."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOG_LOCK})
