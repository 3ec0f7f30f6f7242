"""Decisions about models and versions, inside the call's transaction."""

from dataclasses import dataclass

from sqlalchemy import select

from app.call import Answer, Work
from app.datasets import repository as datasets
from app.datasets.errors import DatasetNotFoundError, UnknownDatasetError
from app.locks import lock_dataset, lock_model
from app.registry import repository
from app.registry.errors import (
    AuditNotFoundError,
    FamilyMismatchError,
    ModelBusyError,
    ModelExistsError,
    ModelMovedError,
    SignatureNotFoundError,
    SnapshotDestroyedError,
    VersionDestroyedError,
    VersionQuarantinedError,
)
from app.registry.schemas import ModelCreate, ModelRead, VersionRead
from app.reports.schemas import VersionReport
from app.reports.service import version_report
from app.retention.locations import claim_location
from app.tables import Dataset, Model, ModelSignature, Snapshot, Version
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionOrigin, VersionState
from app.trust.log.tree import append_leaf
from app.trust.log.versions import version_entry
from app.trust.scopes import Scope
from models.checkpoint import Manifest


@dataclass(frozen=True)
class Learned:
    """What a registered checkpoint says it has learned, as it was when the call came in."""

    dataset: Dataset
    snapshot: Snapshot


@dataclass(frozen=True)
class StoredVersion:
    """A checkpoint whose files are in place and whose row is not."""

    architecture: str
    location: str
    manifest: Manifest


def refuse_taken_name(work: Work, name: str) -> None:
    """Refuse a name that a model has.

    Raises:
        ModelExistsError: One has it.
    """
    if repository.find_model(work.session, name) is not None:
        raise ModelExistsError(name)


def prepare_model(work: Work, wanted: ModelCreate) -> Learned:
    """Check everything about a new model that can be known without its checkpoint.

    Raises:
        ServiceError: The name is taken, the key is not for it, the dataset does not exist or does not fit.
    """
    work.caller.require(Scope.MODELS_WRITE, wanted.name)
    refuse_taken_name(work, wanted.name)
    try:
        dataset = datasets.get_dataset(work.session, wanted.dataset)
    except DatasetNotFoundError:
        raise UnknownDatasetError(wanted.dataset) from None
    if dataset.family != wanted.family:
        raise FamilyMismatchError(wanted.family, dataset)
    return _learned(work, dataset, wanted.snapshot)


def prepare_version(work: Work, name: str, snapshot: int | None) -> tuple[Model, Learned]:
    """Check everything about a new version that can be known without its checkpoint.

    Raises:
        ServiceError: The key is not for the model, there is no such model or snapshot, a job is at work.
    """
    model = readable_model(work, name, Scope.MODELS_WRITE)
    _refuse_busy(work, model)
    return model, _learned(work, datasets.get_dataset(work.session, model.dataset_id), snapshot)


def register_model(work: Work, wanted: ModelCreate, learned: Learned, stored: StoredVersion) -> Answer:
    """Record a new model with its first version.

    Raises:
        ModelMovedError: The snapshot was chosen as the newest one, and is so no longer.
    """
    dataset = lock_dataset(work.session, learned.dataset.id)
    if wanted.snapshot is None and dataset.head_snapshot != learned.snapshot.number:
        raise ModelMovedError(wanted.name)
    _refuse_leaving(work, dataset, learned.snapshot.number)
    model = Model(
        name=wanted.name,
        family=wanted.family,
        architecture=stored.architecture,
        dataset_id=dataset.id,
        latest_version=1,
        next_version=2,
        created_at=work.now,
    )
    work.session.add(model)
    work.session.flush()
    version = _record(work, model, 1, VersionOrigin.REGISTERED, learned.snapshot, stored)
    _log(work, version)
    return Answer(ModelRead.of(model), 201, f"/v1/models/{model.name}")


def register_version(
    work: Work, before: Model, learned: Learned, stored: StoredVersion, *, head: bool
) -> Answer:
    """Record a new version of a model that was trained elsewhere.

    Args:
        work: The transaction.
        before: The model as it was when the call came in.
        learned: What the checkpoint has learned.
        stored: The checkpoint.
        head: Whether the snapshot was chosen as the newest one.

    Raises:
        ModelBusyError: A job is at work on the model.
        ModelMovedError: The model or its dataset is no longer as it was when the call came in.
    """
    number = before.next_version
    model = lock_model(work.session, before.id)
    dataset = lock_dataset(work.session, model.dataset_id)
    _refuse_busy(work, model)
    if model.next_version != number or (head and dataset.head_snapshot != learned.snapshot.number):
        raise ModelMovedError(model.name)
    _refuse_leaving(work, dataset, learned.snapshot.number)
    version = _record(work, model, number, VersionOrigin.IMPORTED, learned.snapshot, stored)
    model.latest_version = number
    model.next_version = number + 1
    _log(work, version)
    return Answer(VersionRead.of(model, version), 201, f"/v1/models/{model.name}/versions/{version.number}")


def readable_model(work: Work, name: str, scope: Scope = Scope.MODELS_READ) -> Model:
    """Return a model that the caller may see.

    Raises:
        ScopeMissingError: The key is not for it.
        ModelNotFoundError: There is none.
    """
    work.caller.require(scope, name)
    return repository.get_model(work.session, name)


def audit_of(work: Work, name: str, number: int) -> VersionReport:
    """Return a version's audit with what was asked, what was done, and the ladder that led to it.

    Raises:
        AuditNotFoundError: It was registered, so there is none.
    """
    model = readable_model(work, name)
    version = repository.get_version(work.session, model, number)
    if version.audit is None:
        raise AuditNotFoundError(model, version)
    return version_report(work.session, model, version)


def model_signature(work: Work, name: str, number: int) -> str:
    """Return the text of a version's `model.sig`.

    Raises:
        ServiceError: Its files may not be handed out, so neither is their signature.
        SignatureNotFoundError: It was registered, so the service has not signed it.
    """
    model, version = downloadable_version(work, name, number)
    found = work.session.get(ModelSignature, (model.id, number))
    if found is None:
        raise SignatureNotFoundError(model, version)
    return found.bundle


def downloadable_version(work: Work, name: str, number: int) -> tuple[Model, Version]:
    """Return a version whose files may be handed out.

    Raises:
        VersionQuarantinedError: It holds what was forgotten since.
        VersionDestroyedError: Its files are gone.
    """
    model = readable_model(work, name)
    version = repository.get_version(work.session, model, number)
    if version.state is VersionState.QUARANTINED:
        raise VersionQuarantinedError(model, version)
    if version.state is VersionState.DESTROYED:
        raise VersionDestroyedError(model, version)
    return model, version


def _learned(work: Work, dataset: Dataset, number: int | None) -> Learned:
    snapshot = datasets.get_snapshot(work.session, dataset, number)
    _refuse_leaving(work, dataset, snapshot.number)
    return Learned(dataset, snapshot)


def _refuse_leaving(work: Work, dataset: Dataset, number: int) -> None:
    """Refuse a snapshot that is destroyed, or is going to be: its files may vanish at any time."""
    query = select(Snapshot).where(Snapshot.dataset_id == dataset.id, Snapshot.number == number)
    snapshot = work.session.scalars(query.execution_options(populate_existing=True)).one()
    if snapshot.state is SnapshotState.DESTROYED or snapshot.superseded_at is not None:
        raise SnapshotDestroyedError(dataset, snapshot)


def _refuse_busy(work: Work, model: Model) -> None:
    if repository.has_active_job(work.session, model):
        raise ModelBusyError(model)


def _record(
    work: Work, model: Model, number: int, origin: VersionOrigin, snapshot: Snapshot, stored: StoredVersion
) -> Version:
    version = Version(
        model_id=model.id,
        number=number,
        parent=None,
        origin=origin,
        state=VersionState.PUBLISHED,
        dataset_id=snapshot.dataset_id,
        snapshot=snapshot.number,
        location=stored.location,
        manifest=stored.manifest.to_json(),
        digest=stored.manifest.digest,
        size=stored.manifest.size,
        created_at=work.now,
    )
    work.session.add(version)
    work.session.flush()
    claim_location(work.session, stored.location)
    return version


def _log(work: Work, version: Version) -> None:
    """Record a new version in the transparency log, as the last thing before the commit."""
    entry = version_entry(version.model_id, version.number, version.state, version.digest)
    append_leaf(work.session, entry.kind, entry.body, work.now)
