"""SQL of datasets and snapshots, and where their files are."""

import uuid
from collections.abc import Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.datasets.errors import DatasetNotFoundError, SnapshotNotFoundError
from app.paging import Cursor, Page, page_of
from app.tables import Dataset, Model, Snapshot


def get_dataset(session: Session, dataset_id: uuid.UUID) -> Dataset:
    """Return a dataset.

    Raises:
        DatasetNotFoundError: There is none with this id.
    """
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise DatasetNotFoundError(dataset_id)
    return dataset


def find_dataset(session: Session, name: str) -> Dataset | None:
    """Return the dataset called `name`, None if there is none."""
    return session.scalars(select(Dataset).where(Dataset.name == name)).one_or_none()


def get_snapshot(session: Session, dataset: Dataset, number: int | None = None) -> Snapshot:
    """Return a snapshot of a dataset, its head if no number is given.

    Raises:
        SnapshotNotFoundError: There is none with this number.
    """
    number = dataset.head_snapshot if number is None else number
    snapshot = session.get(Snapshot, (dataset.id, number))
    if snapshot is None:
        raise SnapshotNotFoundError(dataset, number)
    return snapshot


def list_datasets(session: Session, family: str | None, cursor: Cursor | None, limit: int) -> Page[Dataset]:
    """Return a page of datasets, newest first."""
    query = select(Dataset)
    if family is not None:
        query = query.where(Dataset.family == family)
    return page_of(session, query, (Dataset.created_at, Dataset.id), cursor, limit)


def heads_of(session: Session, datasets: Sequence[Dataset]) -> dict[uuid.UUID, Snapshot]:
    """Return each dataset's head under the dataset's id."""
    query = (
        select(Snapshot)
        .join(Dataset, (Dataset.id == Snapshot.dataset_id) & (Dataset.head_snapshot == Snapshot.number))
        .where(Dataset.id.in_([dataset.id for dataset in datasets]))
    )
    return {snapshot.dataset_id: snapshot for snapshot in session.scalars(query)}


def list_snapshots(
    session: Session, dataset: Dataset, *, before: int | None, limit: int
) -> tuple[Sequence[Snapshot], int | None]:
    """Return a page of a dataset's snapshots, newest first, and the number that the next page is before."""
    query = select(Snapshot).where(Snapshot.dataset_id == dataset.id)
    if before is not None:
        query = query.where(Snapshot.number < before)
    rows = session.scalars(query.order_by(Snapshot.number.desc()).limit(limit + 1)).all()
    return rows[:limit], rows[limit - 1].number if len(rows) > limit else None


def models_of(session: Session, dataset: Dataset) -> Sequence[Model]:
    """Return the models that learned from a dataset, by name."""
    return session.scalars(select(Model).where(Model.dataset_id == dataset.id).order_by(Model.name)).all()


def snapshot_recorded(session: Session, location: str) -> bool:
    """Tell whether a snapshot's row names the files at `location`."""
    return session.execute(select(exists().where(Snapshot.location == location))).scalar_one()


def new_snapshot_location(dataset_id: uuid.UUID, number: int) -> str:
    """Return a location nobody else will ever write to; the snapshot's row tells which one is real."""
    return f"datasets/{dataset_id}/{number}/{uuid.uuid4().hex}"
