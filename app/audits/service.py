"""Decisions about audits. Nothing here commits."""

import uuid
from dataclasses import dataclass

from app.audits import repository
from app.audits.errors import (
    AuditRunNotFoundError,
    NoSuiteError,
    SnapshotGoneError,
    UnknownVersionError,
    VersionGoneError,
)
from app.audits.schemas import AuditCreate, AuditRead, AuditSummary, AuditUpload, Filters
from app.call import Answer, Work
from app.forget_requests.errors import UnknownModelError
from app.forget_requests.repository import ModelState
from app.forget_requests.validation import check_target
from app.paging import Cursor, Page
from app.registry.repository import find_model
from app.retention.locations import claim_location
from app.tables import AuditRun, Dataset, Event, Job, Model, Snapshot, Version
from app.tables.base import new_id
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotState
from app.tables.version import VersionState
from app.trust.scopes import Scope
from models.checkpoint import Manifest
from unlearning.audits.suites import SUITES

RETRY_AFTER_SECONDS = 1
RECEIVED = "Received and checked; waits for a worker."


@dataclass(frozen=True)
class Original:
    """What is measured against: a version and what it has learned."""

    model: Model
    dataset: Dataset
    version: Version


@dataclass(frozen=True)
class Deposit:
    """An uploaded checkpoint whose files are in place."""

    audit_id: uuid.UUID
    location: str
    manifest: Manifest


def prepare(work: Work, body: AuditCreate | AuditUpload) -> Original:
    """Check everything about an audit that can be known without loading a model.

    Raises:
        ServiceError: The key is not for the model, there is no such model or version, files of it are gone, or the
            target is not one that the original has learned.
    """
    # Asked before looking: a key limited to some models cannot find out which others there are.
    work.caller.require(Scope.MODELS_WRITE, body.model)
    model = find_model(work.session, body.model)
    if model is None:
        raise UnknownModelError(body.model)
    if model.family not in SUITES:
        raise NoSuiteError(model)
    original = _version(work, model, body.original)
    dataset = work.session.get_one(Dataset, original.dataset_id)
    snapshot = work.session.get_one(Snapshot, (original.dataset_id, original.snapshot))
    if snapshot.state is SnapshotState.DESTROYED:
        raise SnapshotGoneError(dataset, original, snapshot)
    # What the head holds besides is nothing that the original could have forgotten.
    state = ModelState(
        model_id=model.id,
        name=model.name,
        family=model.family,
        architecture=model.architecture,
        version_location=original.location,
        records=snapshot.records,
        learned_location=snapshot.location,
        head_location=snapshot.location,
    )
    check_target(work.runtime, state, body.target)
    return Original(model, dataset, original)


def queue(work: Work, body: AuditCreate | AuditUpload, deposit: Deposit | None) -> Answer:
    """Store an audit and the job that will do it.

    Raises:
        ServiceError: See `prepare`; what was true before an upload may be so no longer.
    """
    original = prepare(work, body)
    candidate = _version(work, original.model, body.candidate) if isinstance(body, AuditCreate) else None
    if deposit is not None:
        claim_location(work.session, deposit.location)
    job = Job(
        id=new_id(),
        model_id=original.model.id,
        kind=JobKind.AUDIT,
        state=JobState.QUEUED,
        reason=RECEIVED,
        attempts=0,
        created_at=work.now,
    )
    work.session.add(job)
    work.session.flush()  # the other rows refer to it
    audit = AuditRun(
        id=deposit.audit_id if deposit is not None else new_id(),
        model_id=original.model.id,
        api_key_id=work.caller.key_id,
        job_id=job.id,
        parent_version=original.version.number,
        candidate_version=candidate.number if candidate is not None else None,
        location=deposit.location if deposit is not None else None,
        digest=deposit.manifest.digest if deposit is not None else None,
        size=deposit.manifest.size if deposit is not None else None,
        target=body.target.model_dump(mode="json"),
        target_kind=body.target.kind,
        target_count=body.target.count,
        reference=body.reference,
        created_at=work.now,
    )
    queued = Event(job_id=job.id, type="status", status=job.state.value, reason=RECEIVED, created_at=work.now)
    work.session.add_all((audit, queued))
    work.session.flush()
    answer = AuditRead.of(audit, job, original.model.name)
    return Answer(answer, 202, f"/v1/audits/{audit.id}", RETRY_AFTER_SECONDS)


def find(work: Work, audit_id: uuid.UUID) -> tuple[AuditRun, Job, str]:
    """Return one audit that the key may see, with its job and its model's name.

    Raises:
        AuditRunNotFoundError: There is none, or the key is limited to other models.
    """
    found = repository.find(work.session, audit_id, work.caller.models)
    if found is None:
        raise AuditRunNotFoundError(audit_id)
    return found


def list_page(work: Work, filters: Filters, cursor: Cursor | None, limit: int) -> Page[AuditSummary]:
    """List the audits that the key may see, newest first."""
    page = repository.page(work.session, work.caller.models, filters, cursor, limit)
    jobs = repository.jobs_of(work.session, page.rows)
    return Page([AuditSummary.of(audit, *jobs[audit.job_id]) for audit in page.rows], page.next)


def _version(work: Work, model: Model, number: int) -> Version:
    version = work.session.get(Version, (model.id, number))
    if version is None:
        raise UnknownVersionError(model, number)
    if version.state is VersionState.DESTROYED:
        raise VersionGoneError(model, version)
    return version
