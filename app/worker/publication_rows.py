"""The rows of a publication: everything that appears together with a new version, in one transaction.

Its certificates and their leaves in the transparency log are among them.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.datasets.suppression import suppress
from app.forget_requests.states import change_status
from app.retention.locations import claim_location
from app.tables import Dataset, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.tables.snapshot import SnapshotOrigin, SnapshotState
from app.tables.version import VersionOrigin, VersionState
from app.trust.certificates.seal import Sealed, enter_seal
from app.trust.log.tree import Entry
from app.trust.log.versions import version_entry
from app.worker.candidate import HEAD_PART, SNAPSHOT_PART, VERSION_PART, Candidate, SnapshotDraft
from app.worker.job_records import end_job
from app.worker.reference_rows import supersede_references
from models.families import get_family


@dataclass(frozen=True)
class Placed:
    """A candidate whose files are where they will stay."""

    candidate: Candidate
    locations: dict[str, str]
    """Part -> location."""
    numbers: dict[str, int]
    """Snapshot part -> reserved number."""
    forgotten: Collection[str]
    """Ids of the records it has forgotten."""


@dataclass(frozen=True)
class Locked:
    """The rows that a publication changes, locked in the order of `app.locks`."""

    model: Model
    dataset: Dataset
    job: Job
    requests: Sequence[ForgetRequest]


def enter_version(
    session: Session,
    locked: Locked,
    placed: Placed,
    sealed: Sealed,
    reason: str,
    now: dt.datetime,
    *,
    retention: dt.timedelta,
) -> int:
    """Write all rows of a new version and return its number.

    Args:
        session: The transaction.
        locked: What changes.
        placed: What is published.
        sealed: What was signed of it.
        reason: What its requests are told after "Version N of the model has forgotten it."; may be empty.
        now: The time by the database's clock.
        retention: How long its predecessors stay in quarantine before they are destroyed.
    """
    model, job, number = locked.model, locked.job, locked.model.next_version
    if sealed.version != number:
        raise ValueError("the signed version is not the one that is published")
    states: list[Entry] = []
    _enter_snapshots(session, locked.dataset, placed, now)
    if job.kind is JobKind.UNLEARN:
        states += _quarantine(session, model, now, retention)
        remembered = get_family(locked.dataset.family).targets().remembered(placed.forgotten)
        suppress(session, locked.dataset, remembered)
        supersede_references(session, locked.dataset, job, placed.forgotten, now)
    version = _version(locked, placed, number, now)
    session.add(version)
    states.append(version_entry(model.id, number, version.state, version.digest))
    model.latest_version = number
    model.next_version = number + 1
    for request in locked.requests:
        request.version = number
    told = f"Version {number} of the model has forgotten it. {reason}".rstrip()
    change_status(session, locked.requests, RequestStatus.COMPLETED, told, now, details={"version": number})
    job.produced_version = number
    end_job(session, job, JobState.COMPLETED, f"Version {number} was published.", now)
    for location in sorted(placed.locations.values()):
        claim_location(session, location)
    session.flush()  # certificates refer to the version; and the log's lock is the last one
    enter_seal(session, model.id, sealed, [request.id for request in locked.requests], states, now)
    return number


def _enter_snapshots(session: Session, dataset: Dataset, placed: Placed, now: dt.datetime) -> None:
    candidate = placed.candidate
    for part, draft in ((SNAPSHOT_PART, candidate.snapshot), (HEAD_PART, candidate.head)):
        if draft is not None:
            session.add(_snapshot(dataset, placed.numbers[part], draft, placed.locations[part], now))
    if candidate.head is not None:
        dataset.head_snapshot = placed.numbers[HEAD_PART]
    elif candidate.serves_head:
        dataset.head_snapshot = placed.numbers[SNAPSHOT_PART]
    session.flush()  # the version's row refers to its snapshot's


def _quarantine(session: Session, model: Model, now: dt.datetime, retention: dt.timedelta) -> list[Entry]:
    """Withdraw every version that may be used so far: they still hold what was forgotten."""
    withdrawn = session.execute(
        update(Version)
        .where(Version.model_id == model.id, Version.state == VersionState.PUBLISHED)
        .values(state=VersionState.QUARANTINED, quarantined_at=now, destroy_after=now + retention)
        .returning(Version.number, Version.digest)
    )
    return [
        version_entry(model.id, number, VersionState.QUARANTINED, digest)
        for number, digest in sorted(withdrawn.all())
    ]


def _version(locked: Locked, placed: Placed, number: int, now: dt.datetime) -> Version:
    candidate = placed.candidate
    unlearned = locked.job.kind is JobKind.UNLEARN
    return Version(
        model_id=locked.model.id,
        number=number,
        parent=candidate.parent_version,
        origin=VersionOrigin.UNLEARNED if unlearned else VersionOrigin.UPDATED,
        state=VersionState.PUBLISHED,
        dataset_id=locked.dataset.id,
        snapshot=placed.numbers.get(SNAPSHOT_PART, candidate.base_snapshot),
        job_id=locked.job.id,
        method=candidate.method,
        configuration=candidate.configuration,
        audit=candidate.audit,
        location=placed.locations[VERSION_PART],
        manifest=candidate.manifest,
        digest=candidate.digest,
        size=candidate.size,
        created_at=now,
    )


def _snapshot(
    dataset: Dataset, number: int, draft: SnapshotDraft, location: str, now: dt.datetime
) -> Snapshot:
    return Snapshot(
        dataset_id=dataset.id,
        number=number,
        parent=draft.parent,
        origin=SnapshotOrigin.FORGOTTEN,
        state=SnapshotState.AVAILABLE,
        location=location,
        digest=draft.digest,
        records=draft.records,
        subjects=draft.subjects,
        size=draft.size,
        created_at=now,
    )
