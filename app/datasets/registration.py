"""Registering datasets and snapshots: parse outside any transaction, store, then record in a short one."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from app.call import Call
from app.datasets import repository, service
from app.datasets.errors import DatasetBusyError, ForgottenRecordsError
from app.datasets.schemas import DatasetCreate, SnapshotCreate
from app.datasets.suppression import forgotten_in
from app.deposits import deposited
from app.intake import Parcel
from app.runtime import Runtime
from app.tables.base import new_id
from app.tables.snapshot import SnapshotOrigin
from app.trust.scopes import Scope
from app.uploads import ReceivedFile
from models.checkpoint import read_manifest
from models.contracts import SnapshotSummary
from models.errors import DatasetError
from models.families import Family, get_family

ATTEMPTS = 5
"""Times a snapshot is made before a dataset that changes all the time is given up."""


def create_dataset(call: Call, parcel: Parcel[DatasetCreate]) -> Response:
    """Parse the files as a new dataset's first snapshot and register both.

    Raises:
        DatasetExistsError: The name is taken.
        UnknownFamilyError: There is no such family.
        DatasetError: The data is refused.
    """
    wanted = parcel.metadata
    with call.read(Scope.MODELS_WRITE) as work:
        if (first := call.first_answer(work)) is not None:
            return first
        service.refuse_taken_name(work, wanted.name)
    family = get_family(wanted.family)
    _check_suffixes(family, parcel.files)
    out = _new_directory(parcel.workspace)
    summary = family.snapshots().ingest(parcel.paths, out, data_schema=None)
    dataset_id = new_id()
    location = repository.new_snapshot_location(dataset_id, 1)
    try:
        with _stored(call.runtime, out, location, summary) as stored:
            return call.post(
                Scope.MODELS_WRITE, lambda work: service.register(work, dataset_id, wanted, stored)
            )
    except IntegrityError:
        with call.read(Scope.MODELS_WRITE) as work:  # somebody else took the name since we looked
            service.refuse_taken_name(work, wanted.name)
        raise


def add_snapshot(call: Call, parcel: Parcel[SnapshotCreate], dataset_id: uuid.UUID) -> Response:
    """Make the files a dataset's new head, with or without the records it has.

    Raises:
        DatasetNotFoundError: There is no such dataset.
        DatasetError: The data is refused.
        ForgottenRecordsError: It holds records that were forgotten.
        DatasetBusyError: The dataset would not keep still.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return _try_to_add(call, parcel, dataset_id)
        except DatasetBusyError:
            continue  # the head moved while the data was parsed: derive the snapshot from the new one
    return _try_to_add(call, parcel, dataset_id)


def _try_to_add(call: Call, parcel: Parcel[SnapshotCreate], dataset_id: uuid.UUID) -> Response:
    with call.read(Scope.MODELS_WRITE) as work:
        if (first := call.first_answer(work)) is not None:
            return first
        base = service.base_for_writing(work, dataset_id)
    family = get_family(base.dataset.family)
    _check_suffixes(family, parcel.files)
    out = _new_directory(parcel.workspace)
    if parcel.metadata.mode == "append":
        origin, kept = SnapshotOrigin.APPENDED, base.head.records
        summary = _append(call, base, parcel.paths, out)
    else:
        origin, kept = SnapshotOrigin.REPLACED, 0
        summary = family.snapshots().ingest(parcel.paths, out, data_schema=base.dataset.data_schema)
    _refuse_forgotten(call, base, out, kept)
    location = repository.new_snapshot_location(dataset_id, base.number)
    with _stored(call.runtime, out, location, summary) as stored:
        return call.post(Scope.MODELS_WRITE, lambda work: service.advance(work, base, origin, stored))


def _append(call: Call, base: service.Base, paths: Sequence[Path], out: Path) -> SnapshotSummary:
    try:
        directory = call.runtime.storage.materialise(base.head.location)
        return get_family(base.dataset.family).snapshots().append(directory, paths, out)
    except (DatasetError, OSError):
        with call.read(Scope.MODELS_WRITE) as work:
            # A head that has moved may be destroyed while it is read: then its damage is no news.
            service.refuse_moved(work, base)
        raise


def _refuse_forgotten(call: Call, base: service.Base, out: Path, kept: int) -> None:
    """Look at the new records alone: the `kept` first ones are the head's, which holds none forgotten."""
    with call.read(Scope.MODELS_WRITE) as work:
        forgotten = list(forgotten_in(work.session, base.dataset, out.joinpath, start=kept))
    if forgotten:
        raise ForgottenRecordsError(base.dataset, forgotten)


@contextmanager
def _stored(
    runtime: Runtime, out: Path, location: str, summary: SnapshotSummary
) -> Iterator[service.StoredSnapshot]:
    manifest = read_manifest(out)
    with deposited(runtime, out, location, repository.snapshot_recorded):
        yield service.StoredSnapshot(
            location,
            manifest.digest,
            manifest.size,
            summary.records,
            summary.subjects,
            dict(summary.data_schema),
        )


def _check_suffixes(family: Family, files: Sequence[ReceivedFile]) -> None:
    for file in files:
        if PurePosixPath(file.path).suffix not in family.data_suffixes:
            raise DatasetError(
                f"{file.path!r} is not data of the family {family.name!r}, "
                f"which comes as {', '.join(sorted(family.data_suffixes))}."
            )


def _new_directory(workspace: Path) -> Path:
    directory = workspace / f"snapshot-{uuid.uuid4().hex}"
    directory.mkdir()
    return directory
