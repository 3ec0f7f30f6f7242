"""What a worker and a job's process tell each other: plain values that pickle, on any executor. Torch-free."""

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.logs import LogStyle
from app.tables.job import JobKind
from app.worker.candidate import Candidate


@dataclass(frozen=True)
class Stored:
    """A directory in the storage."""

    number: int
    location: str
    digest: str
    """SHA-256 of its manifest: what is found there must agree with it."""


@dataclass(frozen=True)
class RequestTarget:
    """One forget request's target. Its ids are personal data: they go through the pipe and into no log."""

    request_id: str
    target: dict[str, Any] | None
    """None where the ids were erased: such a target can no longer be forgotten."""


@dataclass(frozen=True)
class KnownReference:
    """A model in the storage that audits may compare with, under the key that says what it depends on."""

    id: str
    data: str
    recipe: str
    seed: int
    location: str
    digest: str
    """SHA-256 of its manifest: what is found there must agree with it."""
    seconds: float


@dataclass(frozen=True)
class JobTask:
    """Everything a job's process must know; nothing in it is a handle of the worker's."""

    job_id: str
    kind: JobKind
    family: str
    parent: Stored
    snapshot: Stored
    """What the parent version has learned."""
    head: Stored
    """The dataset's newest snapshot; may be the same one."""
    targets: tuple[RequestTarget, ...]
    """What an `unlearn` job forgets, what an `audit` job asks about; a `reference` job may have one, an update none."""
    guarantee: str
    method: str
    parameters: dict[str, Any]
    seed: int
    policy: dict[str, Any] = field(default_factory=dict)
    """`unlearning.audits.policy.AuditPolicy`, the fields that are not its defaults at least."""
    references: tuple[KnownReference, ...] = ()
    """Every reference over the same dataset."""
    reference_root: str = "references"
    """Below it the job names places of new references."""
    candidate: Stored | None = None
    """What an `audit` job judges; its number is 0 for an uploaded checkpoint."""


@dataclass(frozen=True)
class Workplace:
    """Where and within which limits a task runs."""

    storage_url: str
    cache_dir: Path
    staging: Path
    """An empty directory that the worker sees too: local, or on a shared file system for a cluster."""
    memory_bytes: int | None
    log: LogStyle = field(default_factory=LogStyle)
    """How the job's process logs, and what every line of it names."""


@dataclass(frozen=True)
class Progress:
    """How far the job has come."""

    stage: str
    step: int
    of: int
    seconds_left: float | None


@dataclass(frozen=True)
class ReferenceStaged:
    """A reference was trained. Its files lie in the staging directory and shall be kept."""

    part: str
    """Its directory below the staging directory."""
    location: str
    """Where it shall be kept."""
    data: str
    recipe: str
    seed: int
    digest: str
    size: int
    seconds: float
    left_out: str | None
    """Digest of the ids of the records that it was trained without (`references.digest_of_ids`), None for a shadow."""


@dataclass(frozen=True)
class ReferenceDamaged:
    """A known reference is not what its digest says, or does not load: it is no reference any more."""

    id: str


class FailureKind(enum.StrEnum):
    """Why a job's process has no result. What follows from each is decided in `app.worker.settlement`."""

    INPUT = "input"
    """The parent version or its data is damaged, whatever is asked of it."""
    METHOD = "method"
    """Planning or every method failed on this target; the same again would fail again."""
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    STORAGE = "storage"
    """The storage could not be read or written; it may be well again next time."""
    KILLED = "killed"
    """By a signal that the worker did not send: most likely the system ran out of memory."""
    CRASHED = "crashed"

    @property
    def is_death(self) -> bool:
        """Whether the next attempt may well succeed, so that it counts as one of a few."""
        return self in {FailureKind.STORAGE, FailureKind.KILLED, FailureKind.CRASHED}


@dataclass(frozen=True)
class Failure:
    """The job ended without a result."""

    kind: FailureKind
    reason: str
    """A sentence for people, without ids."""
    traceback_digest: str | None = None
    bad_targets: dict[str, str] | None = None
    """Requests whose targets cannot be forgotten, with the reason, where that was found out before."""
    rungs: tuple[dict[str, Any], ...] = ()
    plan: dict[str, Any] | None = None
    skipped: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Finished:
    """The job has come to its end: its files lie in the staging directory."""

    candidate: Candidate | None
    """What it made; None where every target was bad, or no method left a candidate."""
    passed: bool
    """Whether the candidate may be published without a person."""
    bad_targets: dict[str, str]
    """Request id -> why its target cannot be forgotten."""
    forgotten: tuple[str, ...]
    """Ids of the records that the candidate has forgotten; personal data."""
    rungs: tuple[dict[str, Any], ...]
    """What was tried, with measurements, in order."""
    plan: dict[str, Any] | None
    skipped: tuple[dict[str, Any], ...] = ()
    """Rungs that the policy did not let begin, each with the reason."""
    audit: dict[str, Any] | None = None
    """What an `audit` job has measured (`unlearning.audits.report.Audit`)."""


Message = Progress | ReferenceStaged | ReferenceDamaged | Failure | Finished
