"""Publication: a candidate becomes a version, whole or not at all.

A worker publishes in three steps. A short transaction reserves numbers; the candidate's directories go to their
final places, whose names nobody else will ever use; one fenced transaction makes them real: version, quarantine
of its predecessors, snapshots, the dataset's head, suppressions, request states and events. Rows alone say which
directories count, so whatever fails before that transaction's commit leaves nothing but files to delete.

The head of the dataset may move meanwhile: another model over the same dataset publishes, or records are added.
The drafted head is then derived anew from the one that is there, outside any transaction, and it all starts over.

Certificates and the model's signature are made between `_store` and `_commit`, over files that are in place
(`app.worker.sealing`). They appear together with the version, and with their leaves in the transparency log, in
`enter_version`, which a person's acceptance of a candidate goes through too.
"""

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.call import Work
from app.database import database_now
from app.datasets.repository import new_snapshot_location
from app.errors import ServiceError
from app.locks import lock_dataset, lock_job, lock_model, lock_requests_of
from app.retention.periods import predecessor_retention
from app.runtime import Runtime
from app.tables import Dataset, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus
from app.tables.job import JobKind, JobState
from app.trust.certificates.seal import Sealed
from app.trust.certificates.statement import Acceptance
from app.worker.candidate import HEAD_PART, VERSION_PART, Candidate
from app.worker.claims import Assignment
from app.worker.derivation import derive_without, records_of_targets
from app.worker.job_records import record_rungs, running_requests
from app.worker.leases import CancelledMeanwhileError, LeaseLostError, cancel_requested, hold
from app.worker.outages import OUTAGE, through_outages
from app.worker.publication_rows import Locked, Placed, enter_version
from app.worker.sealing import Subject, Unsigned, gather, policy_acceptance
from app.worker.settlement import fail_bad_targets, settle_review
from app.worker.task import Finished, Stored
from models.checkpoint import verify_directory
from models.errors import CheckpointError

logger = logging.getLogger(__name__)


class ParentMovedError(Exception):
    """The model has a newer version than the one the candidate was made from."""


class DamagedCandidateError(OSError):
    """A candidate's files are not those that its job has made: the disk has failed, and another try may not."""


class NothingToAcceptError(ServiceError):
    """The request's job has left no candidate."""

    status, slug, title = 409, "nothing-to-accept", "Nothing to accept"

    def __init__(self, request: ForgetRequest) -> None:
        super().__init__(
            f"The job of forget request {request.id} has left no candidate to accept; submit the request again "
            "with another method, or cancel it."
        )


class CandidateOutdatedError(ServiceError):
    """The candidate does not fit any longer."""

    status, slug, title = 409, "candidate-outdated", "Candidate outdated"

    def __init__(self, request: ForgetRequest, why: str) -> None:
        super().__init__(
            f"The candidate for forget request {request.id} cannot be published any longer: {why}. "
            "Submit the request again."
        )


def publish(
    runtime: Runtime, assignment: Assignment, finished: Finished, staging: Path, lost: threading.Event
) -> int:
    """Publish what a job has made; return the new version's number.

    Raises:
        LeaseLostError: The job is another worker's by now. Nothing was published, and no file is left.
        ParentMovedError: Likewise: the result is out of date.
        CancelledMeanwhileError: Likewise: somebody no longer wants it.
        OSError: The storage failed; likewise.
    """
    publication = _Publication(runtime, assignment, finished, staging, lost)
    try:
        return publication.run()
    except BaseException:
        publication.withdraw()
        raise


class _Publication:
    def __init__(
        self,
        runtime: Runtime,
        assignment: Assignment,
        finished: Finished,
        staging: Path,
        lost: threading.Event,
    ) -> None:
        if finished.candidate is None:
            raise ValueError("there is no candidate to publish")
        self._runtime = runtime
        self._assignment = assignment
        self._finished = finished
        self._candidate = finished.candidate
        self._staging = staging
        self._lost = lost
        self._locations: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._sealed: Sealed | None = None

    def run(self) -> int:
        while True:
            through_outages(self._follow_head, self._lost)
            number = through_outages(self._reserve, self._lost)
            if number is None:
                continue
            self._store(number)
            sealed = self._seal(number)
            published = through_outages(partial(self._commit, sealed), self._lost)
            if published is not None:
                return published
            self._drop_head()

    def withdraw(self) -> None:
        """Delete what was stored, unless it counts after all: a commit may succeed and its answer get lost."""
        for location in self._locations.values():
            _delete_unless(self._runtime, location, _counts)

    @property
    def _moves_head(self) -> bool:
        return self._assignment.task.kind is JobKind.UNLEARN

    def _follow_head(self) -> None:
        """Derive the head's draft anew until it is one of the head that there is."""
        while self._moves_head and (head := self._current_head()).number != self._candidate.head_snapshot:
            draft_directory = self._staging / HEAD_PART
            shutil.rmtree(draft_directory, ignore_errors=True)
            self._candidate = rederive_head(
                self._runtime,
                self._assignment.task.family,
                self._candidate,
                head,
                self._finished.forgotten,
                draft_directory,
            )

    def _current_head(self) -> Stored:
        with self._runtime.database.read() as session:
            dataset = session.get_one(Dataset, self._assignment.dataset_id)
            return _stored_snapshot(session, dataset, dataset.head_snapshot)

    def _reserve(self) -> int | None:
        """Take the numbers that the files' places are named after; None where the head has moved again."""
        with self._runtime.database.write() as session:
            model, dataset, _job = self._lock(session)
            if self._head_moved(dataset):
                return None
            wanted = [part for part in self._candidate.parts if part not in self._numbers]
            taken, version = _take_numbers(dataset, wanted), model.next_version
        # Only a committed reservation counts: an attempt that failed took nothing.
        self._numbers.update(taken)
        return version

    def _store(self, version: int) -> None:
        for part in self._candidate.parts:
            if part in self._locations:
                continue
            if part == VERSION_PART:
                location = f"models/{self._assignment.model_name}/{version}/{uuid.uuid4().hex}"
            else:
                location = new_snapshot_location(self._assignment.dataset_id, self._numbers[part])
            self._locations[part] = location
            _store_part(self._runtime, self._candidate, part, self._staging, location)

    def _seal(self, version: int) -> Sealed:
        """Sign what is published; once, as nothing of it depends on the head."""
        if self._sealed is None or self._sealed.version != version:
            unsigned = through_outages(partial(self._gather, version), self._lost)
            self._sealed = unsigned.sign(self._runtime)
        return self._sealed

    def _gather(self, version: int) -> Unsigned:
        with self._runtime.database.read() as session:
            job = session.get_one(Job, self._assignment.lease.job_id)
            served = self._served(session, job)
            if self._assignment.task.targets and not served:
                # They have left the job with the lease: `_commit` would find out, but there is nothing to sign.
                raise LeaseLostError(str(job.id))
            subject = Subject(
                model=session.get_one(Model, self._assignment.model_id),
                job=job,
                version=version,
                candidate=self._candidate,
                drafted_head=self._assignment.task.head.number,
                locations=self._locations,
                numbers=self._numbers,
                served=served,
                rungs=self._finished.rungs,
                acceptance=policy_acceptance(self._candidate),
                signed_at=database_now(session),
            )
            return gather(session, self._runtime, subject)

    def _served(self, session: Session, job: Job) -> Sequence[ForgetRequest]:
        """Return the requests that the publication will complete, as things stand; `enter_version` compares."""
        query = select(ForgetRequest).where(
            ForgetRequest.job_id == job.id, ForgetRequest.status == RequestStatus.RUNNING
        )
        bad = self._finished.bad_targets
        return [request for request in session.scalars(query) if str(request.id) not in bad]

    def _commit(self, sealed: Sealed) -> int | None:
        """Make it all real in one transaction; None where the head has moved again."""
        with self._runtime.database.write() as session:
            model, dataset, job = self._lock(session)
            if self._head_moved(dataset):
                return None
            now = database_now(session)
            fail_bad_targets(session, job, self._finished.bad_targets, now)
            record_rungs(session, job, self._finished, now)
            placed = Placed(self._candidate, self._locations, self._numbers, self._finished.forgotten)
            locked = Locked(model, dataset, job, running_requests(session, job))
            retention = predecessor_retention(self._runtime.settings)
            return enter_version(session, locked, placed, sealed, "", now, retention=retention)

    def _lock(self, session: Session) -> tuple[Model, Dataset, Job]:
        model = lock_model(session, self._assignment.model_id)
        dataset = lock_dataset(session, self._assignment.dataset_id)
        job = hold(session, self._assignment.lease)
        if cancel_requested(session, self._assignment.lease):
            raise CancelledMeanwhileError
        if model.latest_version != self._candidate.parent_version:
            raise ParentMovedError
        return model, dataset, job

    def _head_moved(self, dataset: Dataset) -> bool:
        return self._moves_head and dataset.head_snapshot != self._candidate.head_snapshot

    def _drop_head(self) -> None:
        """Forget the stored head: it was derived from one that is the head no longer."""
        self._numbers.pop(HEAD_PART, None)
        location = self._locations.pop(HEAD_PART, None)
        if location is not None:
            self._runtime.storage.delete(location)


def keep_for_review(
    runtime: Runtime, assignment: Assignment, finished: Finished, staging: Path, lost: threading.Event
) -> None:
    """Keep a candidate that did not pass where a person's acceptance finds it, and hand its requests over.

    Raises:
        LeaseLostError: The job is another worker's by now. No file is left.
        CancelledMeanwhileError: Likewise: a request no longer wants to be forgotten.
        OSError: The storage failed; likewise.
    """
    candidate = finished.candidate
    location = candidate_location(assignment.lease.job_id)
    try:
        if candidate is not None:
            for part in candidate.parts:
                _store_part(runtime, candidate, part, staging, f"{location}/{part}")
        through_outages(lambda: settle_review(runtime.database, assignment, finished), lost)
    except BaseException:
        _delete_unless(runtime, location, _awaits_review(assignment.lease.job_id))
        raise


def _store_part(runtime: Runtime, candidate: Candidate, part: str, staging: Path, location: str) -> None:
    """Store one of a candidate's directories, unless the files are no longer what its job has written."""
    _require_intact(staging / part, candidate, part)
    runtime.storage.publish(staging / part, location)


def _require_intact(directory: Path, candidate: Candidate, part: str) -> None:
    """Read every byte once more: a version that does not agree with its manifest must never be seen.

    Raises:
        DamagedCandidateError: A file is missing or damaged.
    """
    try:
        intact = verify_directory(directory).digest == candidate.digest_of(part)
    except CheckpointError as error:
        raise DamagedCandidateError(f"the candidate's {part} is damaged") from error
    if not intact:
        raise DamagedCandidateError(f"the candidate's {part} has another manifest")


def candidate_location(job_id: uuid.UUID) -> str:
    """Return where a candidate's parts are kept while a person decides, and after an acceptance."""
    return f"candidates/{job_id}"


def rederive_head(
    runtime: Runtime,
    family: str,
    candidate: Candidate,
    head: Stored,
    forgotten: Collection[str],
    out: Path,
) -> Candidate:
    """Return the candidate with its head's draft derived from `head` and written to `out`, where one is needed."""
    base = runtime.storage.materialise(head.location)
    draft = derive_without(family, base, head.number, forgotten, out)
    return candidate.model_copy(update={"head": draft, "head_snapshot": head.number})


def publish_candidate(work: Work, request: ForgetRequest, reason: str, reviewer: str) -> int:
    """Publish the candidate that a request's job has left for review, and complete all requests it serves.

    Their certificates say in their verdict's first words who accepted it and why.

    The candidate's files stay where they are: from now on a version's row says that they are real. It may have to
    derive the dataset's head anew here, inside the caller's transaction, if that has moved since.

    Raises:
        NothingToAcceptError: There is no candidate; the request can be submitted again, cancelled or refused.
        CandidateOutdatedError: The model has a newer version, or another request that the candidate serves has
            left the review, so that the candidate forgets more than is asked for; or its files are damaged.
        SigningKeyError: There is no key to sign the certificates with.
    """
    session, now = work.session, work.now
    model = lock_model(session, request.model_id)
    dataset = lock_dataset(session, model.dataset_id)
    job = lock_job(session, request.job_id) if request.job_id is not None else None
    outcome = (job.outcome or {}) if job is not None else {}
    if job is None or job.state is not JobState.NEEDS_REVIEW or outcome.get("candidate") is None:
        raise NothingToAcceptError(request)
    candidate = Candidate.model_validate(outcome["candidate"])
    if model.latest_version != candidate.parent_version:
        raise CandidateOutdatedError(request, "the model has a newer version")
    requests = [
        served
        for served in lock_requests_of(session, job.id)
        if served.status is RequestStatus.NEEDS_REVIEW and str(served.id) in outcome["served"]
    ]
    if len(requests) < len(outcome["served"]):
        raise CandidateOutdatedError(request, "another request that it serves has left the review")
    _require_kept_intact(work, request, candidate, job)
    placed = _place_candidate(work, model, dataset, candidate, job, requests)
    subject = Subject(
        model=model,
        job=job,
        version=model.next_version,
        candidate=placed.candidate,
        drafted_head=candidate.head_snapshot,
        locations=placed.locations,
        numbers=placed.numbers,
        served=requests,
        rungs=outcome["rungs"],
        acceptance=Acceptance("person", reason, reviewer),
        signed_at=now,
    )
    sealed = gather(session, work.runtime, subject).sign(work.runtime)
    job.outcome = {**outcome, "candidate": None}
    return enter_version(
        session,
        Locked(model, dataset, job, requests),
        placed,
        sealed,
        f"A person accepted it: {reason}",
        now,
        retention=predecessor_retention(work.runtime.settings),
    )


def _require_kept_intact(work: Work, request: ForgetRequest, candidate: Candidate, job: Job) -> None:
    """Refuse a candidate that was damaged while it waited. An object store compares digests by itself."""
    if not work.runtime.storage.is_local:
        return
    for part in candidate.parts:
        directory = work.runtime.storage.materialise(f"{candidate_location(job.id)}/{part}")
        try:
            _require_intact(directory, candidate, part)
        except DamagedCandidateError as error:
            raise CandidateOutdatedError(request, "its files are damaged") from error


def _place_candidate(
    work: Work,
    model: Model,
    dataset: Dataset,
    candidate: Candidate,
    job: Job,
    requests: Sequence[ForgetRequest],
) -> Placed:
    """Number a candidate's snapshots and, where the head has moved, derive the one it needs now."""
    storage = work.runtime.storage
    drafted_from = _stored_snapshot(work.session, dataset, candidate.head_snapshot)
    forgotten = records_of_targets(
        dataset.family,
        storage.materialise(_stored_snapshot(work.session, dataset, candidate.base_snapshot).location),
        storage.materialise(drafted_from.location),
        [request.target for request in requests if request.target is not None],
    )
    locations = {part: f"{candidate_location(job.id)}/{part}" for part in candidate.parts}
    with storage.staging() as staging:
        moved = dataset.head_snapshot != candidate.head_snapshot
        if moved:
            head = _stored_snapshot(work.session, dataset, dataset.head_snapshot)
            candidate = rederive_head(
                work.runtime, model.family, candidate, head, forgotten, staging / HEAD_PART
            )
        numbers = _take_numbers(dataset, candidate.parts)
        if moved and candidate.head is not None:
            locations[HEAD_PART] = new_snapshot_location(dataset.id, numbers[HEAD_PART])
            storage.publish(staging / HEAD_PART, locations[HEAD_PART])
    return Placed(candidate, locations, numbers, forgotten)


def _take_numbers(dataset: Dataset, parts: Iterable[str]) -> dict[str, int]:
    """Take a number for each snapshot among the parts; the dataset's row is locked."""
    numbers = {}
    for part in parts:
        if part != VERSION_PART:
            numbers[part] = dataset.next_snapshot
            dataset.next_snapshot += 1
    return numbers


def _stored_snapshot(session: Session, dataset: Dataset, number: int) -> Stored:
    snapshot = session.get_one(Snapshot, (dataset.id, number))
    return Stored(number, snapshot.location, snapshot.digest)


def _delete_unless(runtime: Runtime, location: str, counts: Callable[[Session, str], bool]) -> None:
    """Delete files unless a committed row says that they are real; where nobody can tell, they stay."""
    try:
        with runtime.database.read() as session:
            real = counts(session, location)
    except OUTAGE:
        logger.warning("Files at %s may be left over: the database is away.", location)
        return
    if not real:
        runtime.storage.delete(location)


def _counts(session: Session, location: str) -> bool:
    version = exists().where(Version.location == location)
    snapshot = exists().where(Snapshot.location == location)
    return session.execute(select(version | snapshot)).scalar_one()


def _awaits_review(job_id: uuid.UUID) -> Callable[[Session, str], bool]:
    def counts(session: Session, _location: str) -> bool:
        return session.get_one(Job, job_id).state is JobState.NEEDS_REVIEW

    return counts
