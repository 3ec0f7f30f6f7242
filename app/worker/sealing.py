"""What a publication signs: gathered from rows in a short transaction, committed to and signed outside of it."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.runtime import Runtime
from app.storage import Storage
from app.tables import Dataset, ForgetRequest, Job, Model, Snapshot, Version
from app.tables.job import JobKind
from app.tables.version import VersionState
from app.trust.certificates.commitments import commitment_root
from app.trust.certificates.model_signature import sign_model
from app.trust.certificates.seal import Sealed, sign_parts
from app.trust.certificates.statement import Acceptance, DirectoryState, Facts, OwnPart, Retained, frame
from app.worker.candidate import SNAPSHOT_PART, Candidate
from app.worker.derivation import INDEX_NAME
from models.checkpoint import MANIFEST_NAME, FileEntry, Manifest
from models.id_index import IdIndex
from unlearning.audits.report import Outcome
from unlearning.targets import TARGET, resolve_target

POLICY_ACCEPTS = "The policy publishes what an audit could not decide (on_inconclusive: accept)."


@dataclass(frozen=True)
class Subject:
    """A version that is about to be published."""

    model: Model
    job: Job
    version: int
    """The number it will have."""
    candidate: Candidate
    drafted_head: int
    """The dataset's head when its targets were resolved; the head may have moved since."""
    locations: Mapping[str, str]
    """Part -> where its files are."""
    numbers: Mapping[str, int]
    """Snapshot part -> its number."""
    served: Sequence[ForgetRequest]
    """The requests that it completes; empty for an update."""
    rungs: Sequence[Mapping[str, Any]]
    acceptance: Acceptance | None
    signed_at: dt.datetime


@dataclass(frozen=True)
class _Places:
    """Where the indexes of the data are."""

    learned: str
    head: str
    retained: str
    retained_key: bytes = field(repr=False)


def policy_acceptance(candidate: Candidate) -> Acceptance | None:
    """Return why a candidate that may be published without a person did not have to pass."""
    verdict = candidate.audit["verdict"] if candidate.audit is not None else Outcome.PASS
    return None if verdict == Outcome.PASS else Acceptance("policy", POLICY_ACCEPTS)


def gather(session: Session, runtime: Runtime, subject: Subject) -> "Unsigned":
    """Read everything that certificates say from rows, all of which are locked or fenced."""
    if subject.job.kind is not JobKind.UNLEARN:
        return Unsigned(subject, None, None)
    candidate, dataset = subject.candidate, session.get_one(Dataset, subject.model.dataset_id)
    learned = session.get_one(Snapshot, (dataset.id, candidate.base_snapshot))
    head = session.get_one(Snapshot, (dataset.id, subject.drafted_head))
    parent = session.get_one(Version, (subject.model.id, candidate.parent_version))
    if candidate.snapshot is not None:
        retained = DirectoryState(subject.numbers[SNAPSHOT_PART], candidate.snapshot.digest)
        records, location = candidate.snapshot.records, subject.locations[SNAPSHOT_PART]
    else:
        retained = DirectoryState(learned.number, learned.digest)
        records, location = learned.records, learned.location
    first = subject.served[0]
    facts = Facts(
        model_id=subject.model.id,
        model_name=subject.model.name,
        family=subject.model.family,
        version=subject.version,
        digest=candidate.digest,
        files=_files(candidate),
        parent=DirectoryState(parent.number, parent.digest),
        dataset_id=dataset.id,
        learned=DirectoryState(learned.number, learned.digest),
        retained=Retained(retained, records, b""),
        method=candidate.method,
        configuration=candidate.configuration,
        seed=_seed(subject.job),
        guarantee=_guarantee(subject),
        asked={"guarantee": first.guarantee, "method": first.method, "parameters": first.parameters},
        audit=candidate.audit,
        acceptance=subject.acceptance,
        making=candidate.making,
        predecessors=_in_use(session, subject.model.id),
        retention_days=runtime.settings.predecessor_retention_days,
        started_at=subject.job.started_at,
        signed_at=subject.signed_at,
    )
    return Unsigned(
        subject, facts, _Places(learned.location, head.location, location, dataset.suppression_key)
    )


@dataclass(frozen=True)
class Unsigned:
    """What is to be signed, without the commitments to records."""

    subject: Subject
    facts: Facts | None
    places: _Places | None

    def sign(self, runtime: Runtime) -> Sealed:
        """Commit to the records and sign; takes no transaction.

        Raises:
            SigningKeyError: There is no key to sign with.
            OSError: The storage does not give the indexes.
        """
        subject, signer = self.subject, runtime.signing.require()
        name = f"{subject.model.name}-{subject.version}"
        model_signature = sign_model(name, _files(subject.candidate), signer)
        if self.facts is None or self.places is None:
            return Sealed(subject.version, signer, model_signature, None, ())
        retained = replace(self.facts.retained, root=_retained_root(runtime.storage, self.places))
        text = frame(replace(self.facts, retained=retained))
        parts = sign_parts(
            text, _own_parts(runtime.storage, self.facts.family, self.places, subject.served), signer
        )
        return Sealed(subject.version, signer, model_signature, text, parts)


def _retained_root(storage: Storage, places: _Places) -> bytes:
    with IdIndex.open(storage.materialise_file(places.retained, INDEX_NAME)) as index:
        return commitment_root(places.retained_key, index.record_ids())


def _own_parts(
    storage: Storage, family: str, places: _Places, served: Sequence[ForgetRequest]
) -> list[OwnPart]:
    """Say of each request what its target came to, in what the parent had learned and in the head."""
    learned_path = storage.materialise_file(places.learned, INDEX_NAME)
    head_path = storage.materialise_file(places.head, INDEX_NAME)
    with IdIndex.open(learned_path) as learned, IdIndex.open(head_path) as head:
        return [
            _own_part(family, request, learned, head, same=learned_path == head_path) for request in served
        ]


def _own_part(family: str, request: ForgetRequest, learned: IdIndex, head: IdIndex, *, same: bool) -> OwnPart:
    if request.commitment_key is None or request.target is None:
        raise ValueError(f"forget request {request.id} has no target or no key to commit to it with")
    target = TARGET.validate_python(request.target)
    records = set(resolve_target(family, learned, target, also=None if same else head).record_ids)
    if not same:
        records.update(resolve_target(family, head, target, also=learned).record_ids)
    return OwnPart(
        request_id=request.id,
        received_at=request.created_at,
        target_kind=request.target_kind,
        target_count=request.target_count,
        records=len(records),
        root=commitment_root(request.commitment_key, records),
    )


def _files(candidate: Candidate) -> list[FileEntry]:
    manifest = Manifest.from_json(candidate.manifest)
    return [*manifest.files, FileEntry(MANIFEST_NAME, manifest.digest, len(manifest.to_bytes()))]


def _seed(job: Job) -> int:
    if job.seed is None:
        raise ValueError(f"job {job.id} has no seed")
    return job.seed


def _guarantee(subject: Subject) -> str:
    """Return what the method gives, as the rung says that made the candidate."""
    if subject.candidate.audit is not None:
        return str(subject.candidate.audit["guarantee"])
    of_method = [rung["guarantee"] for rung in subject.rungs if rung["method"] == subject.candidate.method]
    if not of_method:
        raise ValueError("no rung made the candidate")
    return str(of_method[-1])


def _in_use(session: Session, model_id: uuid.UUID) -> Sequence[int]:
    query = select(Version.number).where(
        Version.model_id == model_id, Version.state == VersionState.PUBLISHED
    )
    return session.scalars(query).all()
